# SPDX-License-Identifier: Apache-2.0
"""The kernel distance of two sets of features (KID, with FID's network)."""

from typing import NamedTuple

import chex
import numpy as np

from simple_diffusion.metrics import distances


class KernelDistance(NamedTuple):
  """An estimate of the squared maximum mean discrepancy.

  Attributes:
    value: unbiased, so it may be negative.
    standard_error: of value, by the jackknife.
  """

  value: float
  standard_error: float


def kernel_distance(
  features_a: np.ndarray, features_b: np.ndarray
) -> KernelDistance:
  """Unbiased squared MMD with the kernel k(x, y) = (x.y / D + 1)^3.

    mean_{i != j} k(a_i, a_j) + mean_{i != j} k(b_i, b_j)
      - 2 mean_{i, j} k(a_i, b_j)

  (arXiv 1801.01401, section 4), over all pairs: published KID is often the
  mean over 100 random subsets of 1,000, which has the same expectation and
  more noise. Unlike the Frechet distance it may be compared between sets of
  different sizes.

  The standard error is the exact delete-one jackknife of two samples: each
  point is left out in turn, which the sums of its row of kernels give without
  another pass.

    se^2 = sum over both sets of (n - 1) / n sum_i (v_{-i} - mean of v_{-i})^2

  The sets must be independent of each other. Of a set and its copy the value is

    -2 / n (mean_i k(a_i, a_i) - mean_{i != j} k(a_i, a_j))

  for the pairs of an image with itself are left out within, not across; the
  standard error does not tell of that.

  Products are computed in the type of the features, the rest in float64.

  Args:
    features_a: [N, D], N >= 3.
    features_b: [M, D], M >= 3.

  Raises:
    ValueError: of fewer than three images a set.
  """
  chex.assert_rank([features_a, features_b], 2)
  chex.assert_equal_shape_suffix([features_a, features_b], 1)
  n, m = len(features_a), len(features_b)
  if min(n, m) < 3:
    raise ValueError(
      f"a kernel distance of {n} and {m} images has no standard error; give at "
      "least 3 of each, and hundreds for a number that means anything"
    )
  within_a = _row_sums(features_a, features_a)[0] - _diagonal(features_a)
  within_b = _row_sums(features_b, features_b)[0] - _diagonal(features_b)
  across_a, across_b = _row_sums(features_a, features_b)
  across = across_a.sum()
  mean_a = within_a.sum() / (n * (n - 1))
  mean_b = within_b.sum() / (m * (m - 1))
  value = mean_a + mean_b - 2 * across / (n * m)

  def left_out(within, across_rows, other_mean, n, m):
    """[n]: the value without each point; it is in two rows' worth of pairs."""
    own_mean = (within.sum() - 2 * within) / ((n - 1) * (n - 2))
    return own_mean + other_mean - 2 * (across - across_rows) / ((n - 1) * m)

  variance = sum(
    (len(v) - 1) * np.var(v)
    for v in (
      left_out(within_a, across_a, mean_b, n, m),
      left_out(within_b, across_b, mean_a, m, n),
    )
  )
  return KernelDistance(float(value), float(np.sqrt(variance)))


def _cubic(products, dim):
  return (np.float64(products) / dim + 1) ** 3


def _row_sums(a, b):
  """Sums of k(a_i, b_j) over j [N] and over i [M]."""
  rows, columns = np.zeros(len(a)), np.zeros(len(b))
  for tile in distances.rows(len(a)):
    kernel = _cubic(a[tile] @ b.T, a.shape[1])
    rows[tile] = kernel.sum(1)
    columns += kernel.sum(0)
  return rows, columns


def _diagonal(a):
  return _cubic(np.einsum("nd,nd->n", np.float64(a), np.float64(a)), a.shape[1])
