# SPDX-License-Identifier: Apache-2.0
"""How samples compare with references, by counts of n-grams of tokens.

All sequences have the same length, so that BLEU has no brevity penalty. Counts
are summed over all samples before they are divided (BLEU of a corpus, not the
mean over sentences), so that there is nothing to smooth.
"""

import numpy as np

MAX_ORDER = 4


def _grams(tokens: np.ndarray, order: int) -> np.ndarray:
  """Each n-gram of [S, T] as one number, [S, T - order + 1]."""
  length = tokens.shape[1] - order + 1
  base = 1 << 15
  assert tokens.max(initial=0) < base and order * 15 < 64
  found = np.zeros((len(tokens), length), np.int64)
  for i in range(order):
    found = found * base + tokens[:, i : i + length]
  return found


def _counts(tokens: np.ndarray, order: int):
  """n-grams [M] of each sequence with how often it has them [M], by n-gram."""
  grams = np.sort(_grams(tokens, order), axis=1)
  sequence = np.repeat(np.arange(len(grams)), grams.shape[1])
  flat = grams.ravel()
  first = np.ones(flat.shape, bool)
  first[1:] = (flat[1:] != flat[:-1]) | (sequence[1:] != sequence[:-1])
  starts = np.flatnonzero(first)
  gram, count = flat[starts], np.diff(starts, append=len(flat))
  by_gram = np.lexsort((-count, gram))
  return gram[by_gram], count[by_gram]


def _largest(gram, count):
  """Of sorted n-grams each once: the largest and the next largest count."""
  first = np.ones(gram.shape, bool)
  first[1:] = gram[1:] != gram[:-1]
  starts = np.flatnonzero(first)
  padded = np.append(count, 0)
  again = np.append(first, True)[starts + 1]
  return gram[starts], count[starts], np.where(again, 0, padded[starts + 1])


def _score(matched, total) -> float:
  if not np.all(matched):
    return 0.0
  return float(np.exp(np.mean(np.log(np.array(matched) / np.array(total)))))


def bleu(samples: np.ndarray, references: np.ndarray) -> float:
  """BLEU-4 of samples [S, T], each against all references [R, T].

  The geometric mean over n = 1..4 of the share of n-grams that a reference has,
  where of an n-gram as many count as one reference has of it.
  """
  matched, total = [], []
  for order in range(1, MAX_ORDER + 1):
    gram, count = _counts(samples, order)
    known, most, _ = _largest(*_counts(references, order))
    place = np.searchsorted(known, gram).clip(max=len(known) - 1)
    allowed = np.where(known[place] == gram, most[place], 0)
    matched.append(np.minimum(count, allowed).sum())
    total.append(count.sum())
  return _score(matched, total)


def self_bleu(samples: np.ndarray) -> float:
  """BLEU-4 of each of samples [S, T] against all others: high is monotonous."""
  matched, total = [], []
  for order in range(1, MAX_ORDER + 1):
    gram, count = _counts(samples, order)
    known, most, next_most = _largest(gram, count)
    place = np.searchsorted(known, gram)
    # Sorted by count, the first of each n-gram is its own largest.
    is_first = np.ones(gram.shape, bool)
    is_first[1:] = gram[1:] != gram[:-1]
    others = np.where(is_first, next_most[place], most[place])
    matched.append(np.minimum(count, others).sum())
    total.append(count.sum())
  return _score(matched, total)


def bigram_divergence(samples: np.ndarray, references: np.ndarray) -> float:
  """Jensen-Shannon divergence of the bigrams' distributions, in bits, 0 to 1.

  Of few sequences it is large even if both are of one distribution: compare at
  equal sizes, and with that of real text.
  """
  grams = [_grams(t, 2).ravel() for t in (samples, references)]
  _, index = np.unique(np.concatenate(grams), return_inverse=True)
  size = index.max() + 1
  parts = np.split(index, [len(grams[0])])
  p, q = (np.bincount(i, minlength=size) / len(i) for i in parts)
  middle = (p + q) / 2
  bits = 0.0
  for x in (p, q):
    some = x > 0
    bits += 0.5 * np.sum(x[some] * np.log2(x[some] / middle[some]))
  return float(bits)
