# SPDX-License-Identifier: Apache-2.0
"""The Frechet distance against closed forms, also where roots are singular."""

import numpy as np
import pytest

from simple_diffusion import metrics


def frechet(a, b):
  return metrics.frechet_distance(metrics.moments_of(a), metrics.moments_of(b))


def with_moments(rng, number, mean, root):
  """Features whose sample mean and covariance root root^T are exact."""
  white = rng.normal(size=(number, len(mean)))
  white -= white.mean(0)
  white = white @ np.linalg.inv(np.linalg.cholesky(np.cov(white.T))).T
  return mean + white @ root.T


def test_diagonal_covariances():
  rng = np.random.default_rng(0)
  mean_a, mean_b = np.array([1.0, -2, 0.5]), np.array([0.0, 1, 0.5])
  std_a, std_b = np.array([1.0, 2, 3]), np.array([0.5, 2, 5])
  a = with_moments(rng, 50, mean_a, np.diag(std_a))
  b = with_moments(rng, 90, mean_b, np.diag(std_b))
  # |m_a - m_b|^2 + |std_a - std_b|^2 = (1 + 9) + (1/4 + 4).
  np.testing.assert_allclose(frechet(a, b), 14.25, rtol=1e-9)
  np.testing.assert_allclose(frechet(b, a), 14.25, rtol=1e-9)
  assert abs(frechet(a, a)) < 1e-9


def test_covariances_that_do_not_commute():
  rng = np.random.default_rng(1)
  # sqrt(C_a C_b) has trace sqrt(tr + 2 sqrt(det)) in two dimensions.
  cov_a, cov_b = np.array([[2.0, 1], [1, 3]]), np.array([[4.0, -1], [-1, 1]])
  product = cov_a @ cov_b
  trace_root = np.sqrt(np.trace(product) + 2 * np.sqrt(np.linalg.det(product)))
  expected = 4 + np.trace(cov_a) + np.trace(cov_b) - 2 * trace_root
  a = with_moments(rng, 40, np.zeros(2), np.linalg.cholesky(cov_a))
  b = with_moments(rng, 60, np.array([0.0, 2]), np.linalg.cholesky(cov_b))
  np.testing.assert_allclose(frechet(a, b), expected, rtol=1e-9)
  np.testing.assert_allclose(frechet(b, a), expected, rtol=1e-9)
  # Rotating both changes nothing.
  rotation = np.linalg.qr(rng.normal(size=(2, 2)))[0]
  np.testing.assert_allclose(
    frechet(a @ rotation, b @ rotation), expected, rtol=1e-9
  )


def test_a_singular_covariance():
  rng = np.random.default_rng(2)
  a = with_moments(rng, 30, np.zeros(2), np.diag([3.0, 1]))
  b = a * [1, 0]  # No variance along the second axis.
  np.testing.assert_allclose(frechet(a, b), 1, atol=1e-6)
  np.testing.assert_allclose(frechet(b, a), 1, atol=1e-6)


def test_fewer_images_than_features():
  rng = np.random.default_rng(3)
  dim, rank = 300, 12
  # Of equal covariance, apart by a known vector: its square is the distance.
  features = rng.normal(size=(rank, dim)) * np.geomspace(1, 1e3, dim)
  shift = rng.normal(size=dim)
  np.testing.assert_allclose(
    frechet(features, features + shift), shift @ shift, rtol=1e-9
  )
  assert abs(frechet(features, features)) < 1e-9 * features.var(0).sum()
  # Variances that share no direction have a root of trace 0.
  a, b = features[:6].copy(), features[6:].copy()
  a[:, 150:], b[:, :150] = 0, 0
  expected = (
    ((a.mean(0) - b.mean(0)) ** 2).sum()
    + a.var(0, ddof=1).sum()
    + b.var(0, ddof=1).sum()
  )
  np.testing.assert_allclose(frechet(a, b), expected, rtol=1e-12)


def test_it_shrinks_with_the_number_of_images():
  rng = np.random.default_rng(4)
  few = frechet(*rng.normal(size=(2, 40, 8)))
  many = frechet(*rng.normal(size=(2, 4000, 8)))
  assert 0 < many < few / 20  # In expectation it falls as 1 / N.


def test_features_are_not_moments():
  with pytest.raises(ValueError, match=r"not ndarray.*moments_of\(features\)"):
    metrics.frechet_distance(np.zeros((4, 2)), np.zeros((4, 2)))


def test_sets_of_one_are_refused():
  rng = np.random.default_rng(5)
  with pytest.raises(ValueError, match="at least 2"):
    frechet(rng.normal(size=(1, 3)), rng.normal(size=(9, 3)))
