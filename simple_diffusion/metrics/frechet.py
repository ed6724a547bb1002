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

  With C_a = R R^T the trace is that of (R^T C_b R)^1/2: symmetric throughout,
  so no complex roots of a product of two covariances. With fewer images than
  features R is narrow: directions without variance, whose rounding errors would
  have roots that are not small, are left out.

  Args:
    moments_a: of the features of one set, at least two.
    moments_b: of the other.

  Raises:
    ValueError: of fewer than two images a set, or of features in place of
      their moments.
  """
  for moments in (moments_a, moments_b):
    if not isinstance(moments, moments_lib.Moments):
      raise ValueError(
        f"frechet_distance takes moments, not {type(moments).__name__}: give "
        "it metrics.moments_of(features)"
      )
  # The root of the set that may have the lower rank.
  a, b = sorted((moments_a, moments_b), key=lambda moments: moments.count)
  difference = a.mean - b.mean
  cov_a, cov_b = moments_lib.covariance(a), moments_lib.covariance(b)
  values, vectors = np.linalg.eigh(cov_a)
  # What rounding leaves, of either sign, of an eigenvalue that is 0.
  rounding = len(values) * np.finfo(np.float64).eps * max(values[-1], 0.0)
  kept = values > rounding
  root = vectors[:, kept] * np.sqrt(values[kept])  # [D, rank]
  values = np.linalg.eigvalsh(root.T @ cov_b @ root)
  trace_root = np.sqrt(np.maximum(values, 0)).sum()
  return float(
    difference @ difference + np.trace(cov_a) + np.trace(cov_b) - 2 * trace_root
  )
