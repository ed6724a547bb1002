# SPDX-License-Identifier: Apache-2.0
"""Which classes samples are asked to be of."""

import numpy as np


def in_turn(num_images: int, num_classes: int) -> np.ndarray:
  """[N] labels that go round the classes, so that a column is a class."""
  return np.arange(num_images, dtype=np.int32) % max(1, num_classes)


def in_proportion(num_images: int, real_labels: np.ndarray) -> np.ndarray:
  """[N] labels with the classes' shares of real ones (-1: none is known).

  They too go round the classes, for as long as there are some of each. Samples
  with other shares than real images have are far from these however good each
  one is.
  """
  counts = np.bincount(real_labels[real_labels >= 0])
  quota = num_images * counts / counts.sum()
  number = np.floor(quota).astype(int)
  largest_rest = np.argsort(number - quota, kind="stable")
  number[largest_rest[: num_images - number.sum()]] += 1
  labels = np.repeat(np.arange(len(number), dtype=np.int32), number)
  rounds = np.concatenate([np.arange(n) for n in number])
  return labels[np.lexsort((labels, rounds))]
