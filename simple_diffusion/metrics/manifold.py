# SPDX-License-Identifier: Apache-2.0
"""Fidelity and diversity apart, from balls around each point of a set.

The ball of a point reaches to its k-th nearest neighbour in its own set,
itself not counted. The union of a set's balls stands for its manifold.
"""

from typing import NamedTuple

import numpy as np

from simple_diffusion.metrics import distances


class PrecisionRecall(NamedTuple):
  """Shares between 0 and 1."""

  precision: float
  recall: float


class DensityCoverage(NamedTuple):
  """Density is around 1 for equal distributions and may exceed it."""

  density: float
  coverage: float


def precision_recall(
  real: np.ndarray, fake: np.ndarray, k: int = 3
) -> PrecisionRecall:
  """Shares of each set that lie within the other's manifold.

  precision: of fake, in the ball of any real (arXiv 1904.06991, eq. 1);
  recall: of real, in the ball of any fake.

  Both depend on the sizes of the sets: published ones have 50,000 of each.

  Args:
    real: [N, D] features.
    fake: [M, D].
    k: neighbours that a ball reaches to.

  Raises:
    ValueError: if a set has no k + 1 points.
  """
  real, fake = distances.as_vectors(real), distances.as_vectors(fake)
  radii_real, radii_fake = _squared_radii(real, k), _squared_radii(fake, k)
  in_fake = np.zeros(len(real), bool)
  in_real = np.zeros(len(fake), bool)
  for tile, squared in distances.squared_distances(real, fake):
    in_fake[tile] = (squared <= radii_fake[None, :]).any(1)
    in_real |= (squared <= radii_real[tile, None]).any(0)
  return PrecisionRecall(float(in_real.mean()), float(in_fake.mean()))


def density_coverage(
  real: np.ndarray, fake: np.ndarray, k: int = 5
) -> DensityCoverage:
  """Precision and recall that outliers do not inflate (arXiv 2002.09797).

  density:  (1 / k M) sum_j |{i : fake_j in the ball of real_i}|
  coverage: share of real balls that hold any fake

  Balls are open, as in the authors' code, so density is 1 where the sets are
  equal. Only real balls are used, which do not change with the model.

  Args:
    real: [N, D] features.
    fake: [M, D].
    k: neighbours that a ball reaches to.

  Raises:
    ValueError: if real has no k + 1 points.
  """
  real, fake = distances.as_vectors(real), distances.as_vectors(fake)
  radii = _squared_radii(real, k)
  inside, covered = 0, 0
  for tile, squared in distances.squared_distances(real, fake):
    within = squared < radii[tile, None]
    inside += int(within.sum())
    covered += int(within.any(1).sum())
  return DensityCoverage(inside / (k * len(fake)), covered / len(real))


def _squared_radii(points, k):
  """[N]: squared distance of each point to its k-th neighbour."""
  if not 1 <= k < len(points):
    raise ValueError(
      f"k = {k} neighbours need at least {k + 1} images, not {len(points)}; "
      "give more images, or a k from 1"
    )
  radii = np.empty(len(points))
  for tile, squared in distances.squared_distances(points, points):
    # The 0-th is the point itself.
    squared[np.arange(len(squared)), np.arange(tile.start, tile.stop)] = 0
    radii[tile] = np.partition(squared, k, axis=1)[:, k]
  return radii
