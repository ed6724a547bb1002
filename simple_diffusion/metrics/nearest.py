# SPDX-License-Identifier: Apache-2.0
"""How far from each sample its nearest neighbour is: copies have 0."""

import chex
import numpy as np

from simple_diffusion.metrics import distances


def nearest_distances(queries: np.ndarray, points: np.ndarray) -> np.ndarray:
  """Euclidean distance of each query to its nearest point.

  Args:
    queries: [N, ...] flattened to vectors: features, or images.
    points: [M, ...].

  Returns:
    [N] in float64.
  """
  chex.assert_equal_shape_suffix([queries, points], queries.ndim - 1)
  q, p = distances.as_vectors(queries), distances.as_vectors(points)
  nearest = [d.min(1) for _, d in distances.squared_distances(q, p)]
  return np.sqrt(np.concatenate(nearest))
