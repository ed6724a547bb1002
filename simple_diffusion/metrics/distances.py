# SPDX-License-Identifier: Apache-2.0
"""All pairs of two sets, in tiles, so that 50,000 x 50,000 fits in memory."""

from collections.abc import Iterator

import chex
import numpy as np

# Rows of one tile: with 50,000 columns in float64, 0.4 GB.
TILE = 1024


def rows(number: int) -> Iterator[slice]:
  """Slices that cover range(number)."""
  for start in range(0, number, TILE):
    yield slice(start, min(start + TILE, number))


def as_vectors(points: np.ndarray) -> np.ndarray:
  """[N, ...] as float64 [N, D]."""
  return np.float64(points).reshape(len(points), -1)


def squared_distances(
  a: np.ndarray, b: np.ndarray
) -> Iterator[tuple[slice, np.ndarray]]:
  """|a_i - b_j|^2 of float64 [N, D] and [M, D], as (rows of a, tile [n, M]).

  From |a|^2 + |b|^2 - 2 a.b about the mean of b: a distance below 1e-8 of the
  spread drowns in rounding, which float32 would have at 1e-4 already.
  """
  chex.assert_rank([a, b], 2)
  chex.assert_equal_shape_suffix([a, b], 1)
  centre = b.mean(0)
  a, b = a - centre, b - centre
  squares_a, squares_b = (a**2).sum(1), (b**2).sum(1)
  for tile in rows(len(a)):
    squared = squares_a[tile, None] + squares_b[None, :] - 2 * a[tile] @ b.T
    yield tile, np.maximum(squared, 0)
