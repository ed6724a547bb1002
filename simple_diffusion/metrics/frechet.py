# SPDX-License-Identifier: Apache-2.0
"""The Frechet distance of two sets of features (FID, with FID's network)."""

import numpy as np

from simple_diffusion.metrics import moments as moments_lib


def frechet_distance(
  moments_a: moments_lib.Moments, moments_b: moments_lib.Moments
) -> float:
  """Squared 2-Wasserstein distance of Gaussians fitted to two sets.

    |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a^1/2 C_b C_a^1/2)^1/2)

  (arXiv 1706.08500). With the features of FID's Inception it is FID;
  with any other it is not. It is biased upwards, the more the fewer images:
  compare at equal numbers only.

  The trace of the root is the sum of the singular values of R_a^T R_b, for any
  R R^T = C. These come without the square root of a rounding error, which a
  root of the product of two covariances has wherever they are singular: always
  when there are fewer images than features.

  Args:
    moments_a: of the features of one set, at least two.
    moments_b: of the other.

  Raises:
    ValueError: of fewer than two images a set.
  """
  difference = moments_a.mean - moments_b.mean
  root_a, trace_a = _root(moments_lib.covariance(moments_a))
  root_b, trace_b = _root(moments_lib.covariance(moments_b))
  trace_root = np.linalg.svd(root_a.T @ root_b, compute_uv=False).sum()
  return float(difference @ difference + trace_a + trace_b - 2 * trace_root)


def _root(covariance):
  """R [D, rank] with R R^T = covariance, and the trace."""
  values, vectors = np.linalg.eigh(covariance)
  # Rounding leaves eigenvalues of this size, of either sign, for zero.
  floor = len(values) * np.finfo(np.float64).eps * max(values[-1], 0.0)
  kept = values > floor
  return vectors[:, kept] * np.sqrt(values[kept]), np.trace(covariance)
