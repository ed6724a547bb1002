# SPDX-License-Identifier: Apache-2.0
"""Byte-pair encoding of characters (arXiv 1508.07909), learned here.

Text is cut into words with the space before them, runs of other signs, and
white space; pairs are merged within these. The first tokens are the characters
of the text it was learned on; others are left out.
"""

import collections
import heapq
import re
from typing import NamedTuple

import numpy as np

_PIECES = re.compile(r" ?\w+| ?[^\w\s]+|\s+")


class Vocabulary(NamedTuple):
  """tokens: text of each; merges: ((left, right) tokens as text), in order."""

  tokens: list[str]
  merges: list[tuple[str, str]]


def _merge(symbols: list[str], pair) -> list[str]:
  """The same with each occurrence of the pair as one symbol, left to right."""
  merged, i = [], 0
  while i < len(symbols):
    if tuple(symbols[i : i + 2]) == pair:
      merged.append(symbols[i] + symbols[i + 1])
      i += 2
    else:
      merged.append(symbols[i])
      i += 1
  return merged


def learn(text: str, vocab_size: int) -> Vocabulary:
  """Merges the most frequent pair until there are vocab_size tokens.

  Of pairs that are equally frequent, the first in alphabetical order.

  Raises:
    ValueError: if the text has more characters, or too few pairs.
  """
  tokens = sorted(set(text))
  if len(tokens) >= vocab_size:
    raise ValueError(
      f"vocab_size={vocab_size}, but the text alone has {len(tokens)} "
      "characters; raise it"
    )
  count_of = collections.Counter(_PIECES.findall(text))
  words = [(list(word), count) for word, count in count_of.items()]
  frequency = collections.Counter()
  where = collections.defaultdict(set)  # pair -> words that have had it
  for i, (symbols, count) in enumerate(words):
    for pair in zip(symbols, symbols[1:], strict=False):
      frequency[pair] += count
      where[pair].add(i)
  # An entry that is not of the present frequency has a newer one, or none.
  heap = [(-count, pair) for pair, count in frequency.items()]
  heapq.heapify(heap)
  merges = []
  while len(tokens) < vocab_size:
    if not heap:
      raise ValueError(
        f"vocab_size={vocab_size}, but the text has only {len(tokens)} tokens "
        "of this kind; lower it"
      )
    count, best = heapq.heappop(heap)
    if not count or -count != frequency[best]:
      continue
    merges.append(best)
    # Two pairs may make the same text, such as a + bc and ab + c.
    if "".join(best) not in tokens:
      tokens.append("".join(best))
    changed = set()
    for i in where.pop(best):
      symbols, count = words[i]
      merged = _merge(symbols, best)
      for pair in zip(symbols, symbols[1:], strict=False):
        frequency[pair] -= count
        changed.add(pair)
      for pair in zip(merged, merged[1:], strict=False):
        frequency[pair] += count
        where[pair].add(i)
        changed.add(pair)
      words[i] = merged, count
    for pair in changed:
      heapq.heappush(heap, (-frequency[pair], pair))
  return Vocabulary(tokens, merges)


def encode(vocabulary: Vocabulary, text: str) -> np.ndarray:
  """int32 [N], each piece by the merges in the order they were learned."""
  index = {token: i for i, token in enumerate(vocabulary.tokens)}
  rank = {pair: i for i, pair in enumerate(vocabulary.merges)}
  known, found = {}, []
  for piece in _PIECES.findall(text):
    if piece not in known:
      symbols = [c for c in piece if c in index]
      while pairs := set(zip(symbols, symbols[1:], strict=False)) & rank.keys():
        symbols = _merge(symbols, min(pairs, key=rank.get))
      known[piece] = [index[s] for s in symbols]
    found += known[piece]
  return np.int32(found)
