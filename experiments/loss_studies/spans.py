# SPDX-License-Identifier: Apache-2.0
"""Sentences and the names in them, of several kinds.

planted is made up: names of three kinds, known by the ends of their words,
among other words. wnut17 is read from train.conll, dev.conll and test.conll of
WNUT 2017 (CC BY 4.0), a token and its tag a line, names of six kinds.

Sentences of more than MAX_TOKENS are cut into pieces, never within a name.
"""

import zlib

import jax.numpy as jnp
import numpy as np

from experiments.loss_studies import many_way
from experiments.loss_studies import splits

BUILT_IN = ("planted",)

NUM_BUCKETS = 2**12  # as many as the config of its network has
MAX_TOKENS = 24

# Ends of the words of planted names, by kind.
ENDINGS = {"person": "son", "place": "ville", "thing": "ium"}


def load(name: str, data_dir: str | None = None) -> splits.Data:
  """A data set by name: buckets [N, n, F]; tags [N, n], -1 where no token is.

  Tag 0 is O, 1 + 2k is B and 2 + 2k is I of kind k.

  Raises:
    ValueError: if it is neither planted nor wnut17 with its files.
  """
  if name in BUILT_IN:
    rng = np.random.default_rng(0)
    rest, test = ([planted(rng) for _ in range(n)] for n in (500, 300))
    return _data(rest, test, tuple(ENDINGS))
  rest, test = many_way.wnut17(name, data_dir, BUILT_IN)
  return _data(rest, test, many_way.KINDS[1:])


def _data(rest, test, kinds):
  cut = [list(pieces(*sentence)) for sentence in rest + test]
  x, y = (
    np.stack(column)
    for column in zip(
      *(as_arrays(*piece, kinds) for some in cut for piece in some), strict=True
    )
  )
  num_pieces = [len(some) for some in cut]
  return splits.Data(
    x=x,
    y=y,
    num_outputs=len(kinds),
    num_test=sum(num_pieces[len(rest) :]),
    standardize=False,
    # Where no sentence is cut, all may be drawn.
    group=np.repeat(np.arange(len(cut), dtype=np.int32), num_pieces)
    if max(num_pieces) > 1
    else None,
  )


def pieces(words, tags):
  """The sentence in parts of at most MAX_TOKENS that no name crosses."""
  start = 0
  while start < len(words):
    end = min(start + MAX_TOKENS, len(words))
    # A name of more than MAX_TOKENS has to be cut.
    whole = end
    while whole < len(words) and whole > start and tags[whole][0] == "I":
      whole -= 1
    end = whole if whole > start else end
    yield words[start:end], tags[start:end]
    start = end


def as_arrays(words, tags, kinds):
  """Buckets int32 [MAX_TOKENS, 6] and tags int32 [MAX_TOKENS]."""
  buckets = np.zeros((MAX_TOKENS, 6), np.int32)
  numbers = np.full(MAX_TOKENS, -1, np.int32)
  for i, (word, tag) in enumerate(zip(words, tags, strict=True)):
    side, _, kind = tag.partition("-")
    numbers[i] = 1 + 2 * kinds.index(kind) + (side == "I") if kind else 0
    buckets[i] = [
      1 + zlib.crc32(f.encode()) % (NUM_BUCKETS - 1) for f in texts(word)
    ]
  return buckets, numbers


def texts(word: str) -> list[str]:
  """What a token is known by."""
  lower = word.lower()
  return [
    f"is {lower}",
    f"like {many_way.shape(word)}",
    *(f"starts {lower[:n]}" for n in (2, 3)),
    *(f"ends {lower[-n:]}" for n in (2, 3)),
  ]


def planted(rng):
  """Words and tags of a sentence with up to three names.

  A name is one to three words that end as its kind does, capitalised; some
  other words are capitalised as well. Names of one kind may follow each other.
  """

  def word(ending=""):
    letters = rng.choice(list("abdegiklmnoprstu"), rng.integers(2, 6))
    return "".join(letters) + ending

  words, tags = [], []
  for _ in range(rng.integers(0, 4)):
    for _ in range(rng.integers(0, 4)):
      words.append(word().title() if rng.random() < 0.2 else word())
      tags.append("O")
    kind = rng.choice(list(ENDINGS))
    for i in range(rng.integers(1, 4)):
      words.append(word(ENDINGS[kind]).title())
      tags.append(f"{'I' if i else 'B'}-{kind}")
  return [*words, word()], [*tags, "O"]


def spans_of_tags(tags, num_kinds: int):
  """Which spans are names, by kind, of BIO tags.

  An I that follows no tag of its kind begins a name, as for conlleval.

  Args:
    tags: int32 [B, n], as `load` has them; what is not a tag is no name.
    num_kinds: K.

  Returns:
    boolean [B, K, n, n], by first and last token.
  """
  kinds = jnp.arange(num_kinds)[None, :, None]
  begins = tags[:, None] == 1 + 2 * kinds  # [B, K, n]
  inside = tags[:, None] == 2 + 2 * kinds
  named = begins | inside
  before = jnp.pad(named, ((0, 0), (0, 0), (1, 0)))[..., :-1]
  after = jnp.pad(inside, ((0, 0), (0, 0), (0, 1)))[..., 1:]
  first, last = begins | (inside & ~before), named & ~after
  # All of i+1 ... j are inside: as many as there are.
  count = jnp.cumsum(inside, axis=-1)
  place = jnp.arange(tags.shape[-1])
  gap = (place[None, :] - place[:, None])[None, None]
  is_run = count[..., None, :] - count[..., :, None] == gap
  return first[..., :, None] & last[..., None, :] & is_run & (gap >= 0)
