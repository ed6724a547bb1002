# SPDX-License-Identifier: Apache-2.0
"""Data of a comparison in memory, and its parts by seed.

A seed decides which examples train, validate and, where a set has no official
test split, test. So the error over seeds is that of the split as well, and two
methods of one seed saw the same examples in the same order.
"""

from typing import NamedTuple

import numpy as np


class Data(NamedTuple):
  """A data set, the test examples last."""

  x: np.ndarray  # float32 [N, ...]
  y: np.ndarray  # int32 [N]; or float32 [N, C] of 0 and 1
  num_outputs: int  # C
  num_test: int | None = None  # None: a fifth of N, drawn by the seed
  standardize: bool = True  # by the mean and deviation of each feature
  # int32 [N]: examples of one group share something, as parts of one sentence
  # do, so that groups are drawn, not examples.
  group: np.ndarray | None = None


class Split(NamedTuple):
  """Indices of examples."""

  train: np.ndarray
  validation: np.ndarray
  test: np.ndarray


def split(data: Data, seed: int) -> Split:
  """Test as the data has it or a fifth; of the rest a fifth validates.

  Of groups, one at each border can be in two parts, if sizes ask for it.

  Raises:
    ValueError: if a part would be empty.
  """
  rng = np.random.default_rng(seed)
  n = len(data.y)
  num_test = data.num_test or 0
  order = rng.permutation(n - num_test)
  if data.group is not None:
    turn = rng.permutation(data.group.max() + 1)
    order = order[np.argsort(turn[data.group[order]], kind="stable")]
  if data.num_test is None:
    rest, test = order[: n - n // 5], order[n - n // 5 :]
  else:
    rest, test = order, np.arange(n - num_test, n)
  validation = len(rest) // 5
  found = Split(rest[validation:], rest[:validation], test)
  empty = [name for name in Split._fields if not len(getattr(found, name))]
  if empty:
    raise ValueError(
      f"{n} examples leave none for {' and '.join(empty)}; use a larger set "
      "or raise data.max_examples"
    )
  return found


def at_most(data: Data, count: int | None, seed: int = 0) -> Data:
  """Some of the training and some of the test examples, always the same.

  Args:
    data: a data set.
    count: how many of each there may be; None is all. Without an official test
      split, how many there may be in all.
    seed: which.
  """
  if count is None:
    return data
  rng = np.random.default_rng(seed)
  num_test = data.num_test or 0
  n = len(data.y) - num_test
  kept = rng.permutation(n)[:count]
  if num_test:
    kept = np.concatenate([kept, n + rng.permutation(num_test)[:count]])
  return data._replace(
    x=data.x[kept],
    y=data.y[kept],
    group=None if data.group is None else data.group[kept],
    num_test=min(num_test, count) if num_test else None,
  )


def moments(data: Data, train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Mean and deviation of each feature over the training examples.

  Features of zeros and ones (categories, words) are left as they are: a rare
  one would become enormous. So is one that never varies.
  """
  shape = data.x.shape[1:]
  mean, deviation = np.zeros(shape, np.float32), np.ones(shape, np.float32)
  if not data.standardize:
    return mean, deviation
  x = np.float64(data.x[train])
  scaled = ~((x == 0) | (x == 1)).all(0) & (x.std(0) > 0)
  mean[scaled] = x.mean(0)[scaled]
  deviation[scaled] = x.std(0)[scaled]
  return mean, deviation


def batches(
  train: np.ndarray, seed: int, *, num_steps: int, batch_size: int
) -> np.ndarray:
  """Indices [num_steps, batch_size]: epoch after epoch in new orders."""
  rng = np.random.default_rng([seed, 1])
  epochs = -(-num_steps * batch_size // len(train))
  order = np.concatenate([rng.permutation(train) for _ in range(epochs)])
  return order[: num_steps * batch_size].reshape(num_steps, batch_size)


def noisy(y: np.ndarray, seed: int, *, num_classes: int, noise: float):
  """Labels [N] of which a share is replaced by one of the other classes."""
  rng = np.random.default_rng([seed, 2])
  wrong = (y + rng.integers(1, num_classes, y.shape)) % num_classes
  return np.where(rng.random(y.shape) < noise, wrong, y).astype(y.dtype)


def of_seed(
  data: Data, seed: int, *, num_steps: int, batch_size: int, **_
) -> dict[str, np.ndarray]:
  """What every trial of a seed needs beside the data: indices and scales."""
  found = split(data, seed)
  mean, deviation = moments(data, found.train)
  order = batches(found.train, seed, num_steps=num_steps, batch_size=batch_size)
  return {
    "seed": np.int32(seed),
    "batches": order,
    "mean": mean,
    "deviation": deviation,
    **found._asdict(),
  }


def stacked(seeds: list[dict]) -> dict[str, np.ndarray]:
  """The same arrays of each seed as [S, ...]."""
  return {name: np.stack([s[name] for s in seeds]) for name in seeds[0]}
