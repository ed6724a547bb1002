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
  paths = [
    pathlib.Path(data_dir or "") / f"{part}.conll"
    for part in ("train", "dev", "test")
  ]
  if name != "wnut17" or data_dir is None or not paths[0].exists():
    raise ValueError(
      f"{name} with --data_dir={data_dir}: wnut17 is read from train.conll, "
      f"dev.conll and test.conll; without files there is {BUILT_IN[0]}"
    )
  train, dev, test = (sentences(path.read_text()) for path in paths)
  arrays = [as_arrays(words, tags) for words, tags in train + dev + test]
  x, y = (np.stack(column) for column in zip(*arrays, strict=True))
  return splits.Data(
    x=x,
    y=y,
    num_outputs=len(KINDS),
    num_test=len(test),
    standardize=False,
  )


def sentences(text: str) -> list[tuple[list[str], list[str]]]:
  """(tokens, tags) of each sentence of a CoNLL file."""
  found = []
  for block in text.replace("\n\t\n", "\n\n").split("\n\n"):
    lines = [line.split("\t") for line in block.splitlines() if line.strip()]
    if lines:
      found.append(tuple(map(list, zip(*lines, strict=True))))
  return found


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
  """Lines of digits; no digit is in both a training and a test line."""
  from sklearn import datasets  # Only this set needs it.

  digits = datasets.load_digits()
  rng = np.random.default_rng(0)
  order = rng.permutation(len(digits.target))
  held_out = len(order) // 5
  chosen = []
  for pool, count in (
    (order[held_out:], num_train),
    (order[:held_out], num_test),
  ):
    zeros = pool[digits.target[pool] == 0]
    others = pool[digits.target[pool] != 0]
    is_zero = rng.random((count, length)) < 0.75
    shape = (count, length)
    chosen.append(
      np.where(is_zero, rng.choice(zeros, shape), rng.choice(others, shape))
    )
  chosen = np.concatenate(chosen)
  return splits.Data(
    x=np.float32(digits.data[chosen] / 16),
    y=np.int32(digits.target[chosen]),
    num_outputs=10,
    num_test=num_test,
    standardize=False,
  )
