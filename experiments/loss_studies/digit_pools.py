# SPDX-License-Identifier: Apache-2.0
"""Examples of several of scikit-learn's digits, each from one pool of them.

Examples of two pools have no picture in common: one pool is for testing, and
of the others a seed takes some to validate.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

NUM_POOLS = 10  # beside that of the test examples


class Chosen(NamedTuple):
  """N examples of L digits each, the test examples last."""

  x: np.ndarray  # float32 [N, L, 64], in [0, 1]
  y: np.ndarray  # int32 [N, L]
  group: np.ndarray  # int32 [N], the pool


def choose(num_train: int, num_test: int, draw: Callable) -> Chosen:
  """The examples that `draw` makes of each pool.

  Args:
    num_train: how many to train and validate; a multiple of NUM_POOLS.
    num_test: how many to test.
    draw: draw(rng, pool, classes, count) -> [count, L] of the indices in pool,
      where classes are those of all digits.
  """
  from sklearn import datasets  # Only sets of digits need it.

  digits = datasets.load_digits()
  rng = np.random.default_rng(0)
  order = rng.permutation(len(digits.target))
  held_out = len(order) // 5
  pools = [*np.array_split(order[held_out:], NUM_POOLS), order[:held_out]]
  counts = [num_train // NUM_POOLS] * NUM_POOLS + [num_test]
  chosen = np.concatenate(
    [
      draw(rng, pool, digits.target, count)
      for pool, count in zip(pools, counts, strict=True)
    ]
  )
  return Chosen(
    x=np.float32(digits.data[chosen] / 16),
    y=np.int32(digits.target[chosen]),
    group=np.repeat(np.arange(NUM_POOLS + 1, dtype=np.int32), counts),
  )
