# SPDX-License-Identifier: Apache-2.0
"""Distances between sets of images, given their features, in float64 NumPy."""

import chex
import numpy as np


def frechet_distance(features_a: np.ndarray, features_b: np.ndarray) -> float:
  """Squared 2-Wasserstein distance of Gaussians fitted to two sets.

    |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a^1/2 C_b C_a^1/2)^1/2)

  (arXiv 1706.08500). With the features of FID's Inception it is FID;
  with any other it is not. It is biased upwards for few samples: compare at
  equal numbers only.

  Args:
    features_a: [N, D].
    features_b: [M, D].
  """
  chex.assert_rank([features_a, features_b], 2)
  chex.assert_equal_shape_suffix([features_a, features_b], 1)
  a, b = np.float64(features_a), np.float64(features_b)
  difference = a.mean(0) - b.mean(0)
  cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
  # Symmetric throughout: no complex roots of a product of two covariances.
  values, vectors = np.linalg.eigh(cov_a)
  root_a = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
  values = np.linalg.eigvalsh(root_a @ cov_b @ root_a)
  trace_root = np.sqrt(np.maximum(values, 0)).sum()
  return float(
    difference @ difference + np.trace(cov_a) + np.trace(cov_b) - 2 * trace_root
  )


def nearest_distances(queries: np.ndarray, points: np.ndarray) -> np.ndarray:
  """Euclidean distance of each query to its nearest point.

  Args:
    queries: [N, ...] flattened to vectors.
    points: [M, ...].

  Returns:
    [N] in float64.
  """
  chex.assert_equal_shape_suffix([queries, points], queries.ndim - 1)
  q = np.float64(queries).reshape(len(queries), -1)
  p = np.float64(points).reshape(len(points), -1)
  squared = (q**2).sum(1)[:, None] + (p**2).sum(1)[None, :] - 2 * q @ p.T
  return np.sqrt(np.maximum(squared, 0).min(1))
