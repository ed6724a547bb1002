# SPDX-License-Identifier: Apache-2.0
"""Data sets as random-access sequences of {"image", "label"}.

`digits` comes with scikit-learn; `prepared_sources` reads what lies on disk.
"""

import dataclasses
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
  """One split of a data set.

  Attributes:
    name: name of the data set, for messages.
    split: the split asked for, for messages.
    examples: sequence of dicts.
    image_key: key of the image in an example: encoded bytes or uint8 [H, W, C].
    label_key: key of the class number, or None if there are no classes.
    num_classes: K, or 0 if there are no classes.
    class_names: tuple of K names, or None.
  """

  name: str
  split: str
  examples: Any
  image_key: str
  label_key: str | None
  num_classes: int
  class_names: tuple[str, ...] | None

  def __len__(self):
    return len(self.examples)

  def __getitem__(self, index):
    """Returns {"image": bytes or uint8 [H, W, C], "label": int, 0 if none}.

    Raises:
      ValueError: the record cannot be read; names data set, split and index.
    """
    try:
      example = self.examples[index]
    except IndexError:
      raise  # Ends iteration over the sequence.
    except Exception as error:
      # Readers differ in what they raise for a damaged file.
      raise ValueError(
        f"cannot read {self.describe(index)}: {error}; prepare the data again"
      ) from error
    label = 0 if self.label_key is None else int(example[self.label_key])
    return {"image": example[self.image_key], "label": label}

  def describe(self, index):
    """Returns the name of an example for messages."""
    return f"{self.name} split {self.split!r} index {index}"


def digits(split):
  """The 8 x 8 handwritten digits bundled with scikit-learn, in 17 greys.

  Pixels are round(255 x / 16). Of each class, a random fifth is the test
  split: the first rounded fifth of numpy.random.RandomState(0).permutation,
  drawn class after class. (Legacy RandomState streams never change.) Both
  splits keep scikit-learn's order.

  Args:
    split: "train" (1,438 images), "test" (359), or a slice: "train[:95%]".

  Raises:
    ModuleNotFoundError: scikit-learn is missing.
    ValueError: unknown split.
  """
  try:
    from sklearn import datasets
  except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
      "the digits data set comes with scikit-learn, which is not installed:"
      " pip install scikit-learn"
    ) from error
  pixels, labels = datasets.load_digits(return_X_y=True)
  is_test = np.zeros(len(labels), bool)
  np_rng = np.random.RandomState(0)
  for label in range(10):
    members = np_rng.permutation(np.flatnonzero(labels == label))
    is_test[members[: round(len(members) / 5)]] = True
  indices = {"train": np.flatnonzero(~is_test), "test": np.flatnonzero(is_test)}
  lengths = {name: len(members) for name, members in indices.items()}
  chosen = np.concatenate(
    [
      indices[name][start:stop]
      for name, start, stop in split_ranges(split, lengths)
    ]
  )
  greys = np.round(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
  examples = [{"image": greys[i], "label": int(labels[i])} for i in chosen]
  names = tuple(str(label) for label in range(10))
  return Source("digits", split, examples, "image", "label", 10, names)


def split_ranges(split, lengths):
  """Resolves a TFDS split such as "train[:95%]+test" to ranges of examples.

  Args:
    split: name of a split, a slice of one in percent or examples, or a sum.
    lengths: number of examples of each available split, by name.

  Returns:
    A list of (name, start, stop).

  Raises:
    ValueError: malformed, or no split of that name; lists the names. Or a
      slice with no example.
  """
  if split in lengths:
    return [(split, 0, lengths[split])]
  from tensorflow_datasets.core import splits as tfds_splits

  infos = {
    name: tfds_splits.SplitInfo(
      name=name, shard_lengths=[n], num_bytes=0, filename_template=None
    )
    for name, n in lengths.items()
  }
  try:
    parts = tfds_splits.ReadInstruction.from_spec(split).to_absolute(infos)
  except Exception as error:  # ValueError, AssertionError, ...
    raise ValueError(
      f"unknown split {split!r}; available are {', '.join(lengths)}, and slices"
      f" such as {next(iter(lengths))}[:95%]"
    ) from error
  ranges = [
    (
      part.splitname,
      part.from_ or 0,
      lengths[part.splitname] if part.to is None else part.to,
    )
    for part in parts
  ]
  if not any(stop > start for _, start, stop in ranges):
    counts = ", ".join(f"{name} has {n:,}" for name, n in lengths.items())
    raise ValueError(
      f"split {split!r} has no image ({counts}); choose a larger slice, or "
      "another split"
    )
  return ranges
