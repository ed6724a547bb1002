# SPDX-License-Identifier: Apache-2.0
"""Examples of n items, each of one class of m, most of them of class 0.

digit_lines is made of scikit-learn's digits: 16 in a line, three of four of
them zeros. wnut17: the tokens of a sentence and whether they belong to the name
of a person, place, ...; read from train.conll, dev.conll and test.conll of
WNUT 2017 (CC BY 4.0), a token and its tag a line. Its features are numbers of
buckets, for `networks.HashedLinear`.
"""

import pathlib
import zlib

import numpy as np

from experiments.loss_studies import digit_pools
from experiments.loss_studies import splits

BUILT_IN = ("digit_lines",)

KINDS = (
  "O",
  "corporation",
  "creative-work",
  "group",
  "location",
  "person",
  "product",
)
NUM_BUCKETS = 2**13  # as many as the config of its network has
MAX_TOKENS = 32


def load(name: str, data_dir: str | None = None) -> splits.Data:
  """A data set by name; labels [N, n] are -1 where there is no item.

  Raises:
    ValueError: if it is neither digit_lines nor wnut17 with its files.
  """
  if name in BUILT_IN:
    return digit_lines()
  rest, test = wnut17(name, data_dir, BUILT_IN)
  arrays = [as_arrays(words, tags) for words, tags in rest + test]
  x, y = (np.stack(column) for column in zip(*arrays, strict=True))
  return splits.Data(
    x=x,
    y=y,
    num_outputs=len(KINDS),
    num_test=len(test),
    standardize=False,
  )


def wnut17(name: str, data_dir: str | None, built_in: tuple[str, ...]):
  """Sentences of the training and dev files, and of the test file.

  Raises:
    ValueError: if a file is missing, or another set is asked for.
  """
  folder = pathlib.Path(data_dir or "")
  paths = [folder / f"{part}.conll" for part in ("train", "dev", "test")]
  if name != "wnut17" or not all(path.exists() for path in paths):
    raise ValueError(
      f"{name} with --data_dir={data_dir}: wnut17 is read from train.conll, "
      f"dev.conll and test.conll; without files there is {built_in[0]}"
    )
  train, dev, test = (sentences(path.read_text()) for path in paths)
  return train + dev, test


def sentences(text: str) -> list[tuple[list[str], list[str]]]:
  """(tokens, tags) of each sentence of a CoNLL file."""
  found = []
  for block in text.replace("\n\t\n", "\n\n").split("\n\n"):
    lines = [line.split("\t") for line in block.splitlines() if line.strip()]
    if lines:
      found.append(_words_and_tags(lines))
  return found


def _words_and_tags(lines):
  """The two columns of a sentence.

  Raises:
    ValueError: if a line has others, or a tag is none of WNUT-17's.
  """
  for line in lines:
    kind = line[-1].partition("-")[2] or "O"
    if len(line) != 2 or kind not in KINDS:
      raise ValueError(
        f"the line {' '.join(line)!r} is not a word, a tab and a tag of the "
        f"kinds {', '.join(KINDS)}, such as B-{KINDS[1]}"
      )
  return tuple(map(list, zip(*lines, strict=True)))


def as_arrays(words, tags):
  """Buckets int32 [MAX_TOKENS, 10] and classes int32 [MAX_TOKENS]."""
  buckets = np.zeros((MAX_TOKENS, 10), np.int32)
  classes = np.full(MAX_TOKENS, -1, np.int32)
  for i in range(min(len(words), MAX_TOKENS)):
    classes[i] = KINDS.index(tags[i].partition("-")[2] or "O")
    buckets[i] = [zlib.crc32(f.encode()) % NUM_BUCKETS for f in texts(words, i)]
  return buckets, classes


def texts(words, i) -> list[str]:
  """What a token is known by: itself, its neighbours, their shapes."""
  before, word, after = (
    words[j] if 0 <= j < len(words) else "" for j in (i - 1, i, i + 1)
  )
  found = []
  for place, neighbour in (("before", before), ("is", word), ("after", after)):
    found += [
      f"{place} {neighbour.lower()}",
      f"{place} like {shape(neighbour)}",
    ]
  return [
    *found,
    f"starts {word[:3].lower()}",
    f"ends {word[-3:].lower()}",
    f"first {i == 0} {shape(word)}",
    f"pair {shape(before)} {shape(word)}",
  ]


def shape(word: str) -> str:
  """Xx for a capitalised word, d for digits: repeated kinds are one."""
  kinds = [
    "X" if c.isupper() else "x" if c.islower() else "d" if c.isdigit() else c
    for c in word
  ]
  return "".join(
    k for k, last in zip(kinds, ["", *kinds], strict=False) if k != last
  )


def digit_lines(num_train=600, num_test=400, length=16) -> splits.Data:
  """Lines of digits of which three in four are zeros."""

  def draw(rng, pool, classes, count):
    zeros, others = pool[classes[pool] == 0], pool[classes[pool] != 0]
    shape = (count, length)
    is_zero = rng.random(shape) < 0.75
    return np.where(
      is_zero, rng.choice(zeros, shape), rng.choice(others, shape)
    )

  chosen = digit_pools.choose(num_train, num_test, draw)
  return splits.Data(
    x=chosen.x,
    y=chosen.y,
    num_outputs=10,
    num_test=num_test,
    standardize=False,
    group=chosen.group,
  )
