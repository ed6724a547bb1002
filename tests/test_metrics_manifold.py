# SPDX-License-Identifier: Apache-2.0
"""Precision, recall, density, coverage, nearest points: by eye and by loops."""

import numpy as np
import pytest

from simple_diffusion import metrics
from simple_diffusion.metrics import distances


def norms(a, b):
  return np.linalg.norm(a[:, None] - b[None, :], axis=-1)


def radii(points, k):
  return np.sort(norms(points, points), axis=1)[:, k]  # The 0-th is itself.


def test_points_on_a_line():
  real = np.array([[0.0], [1], [3], [8.5]])
  fake = np.array([[-1.0], [0.5], [4.5], [30], [31]])
  # To the nearest: radii of real 1, 1, 2, 5.5; of fake 1.5, 1.5, 4, 1, 1.
  found = metrics.precision_recall(real, fake, k=1)
  # -1 is at the edge of the ball of 0, and 8.5 of that of 4.5: they count.
  assert found == (3 / 5, 4 / 4)
  found = metrics.density_coverage(real, fake, k=1)
  # 0.5 is in the balls of 0 and 1, 4.5 in those of 3 and 8.5; an edge is not.
  assert found == (4 / 5, 4 / 4)


@pytest.mark.parametrize("tile", [3, 1000])
def test_against_loops(monkeypatch, tile):
  monkeypatch.setattr(distances, "TILE", tile)
  rng = np.random.default_rng(0)
  real = rng.normal(size=(40, 6))
  fake = 1.2 * rng.normal(size=(31, 6)) + 1.5
  apart = norms(real, fake)
  for k in (1, 3, 5):
    in_real = apart <= radii(real, k)[:, None]
    in_fake = apart <= radii(fake, k)[None, :]
    expected = (in_real.any(0).mean(), in_fake.any(1).mean())
    found = metrics.precision_recall(real, fake, k=k)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert 0 < found.precision < 1 and 0 < found.recall < 1
    expected = (in_real.sum() / (k * len(fake)), in_real.any(1).mean())
    found = metrics.density_coverage(real, fake, k=k)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_equal_sets_have_1_and_disjoint_sets_0():
  rng = np.random.default_rng(1)
  points = rng.normal(size=(50, 3))
  assert metrics.precision_recall(points, points) == (1, 1)
  np.testing.assert_allclose(
    metrics.density_coverage(points, points), (1, 1), atol=0.02
  )
  assert metrics.precision_recall(points, points + 100) == (0, 0)
  assert metrics.density_coverage(points, points + 100) == (0, 0)


def test_what_each_of_them_sees():
  rng = np.random.default_rng(2)
  real = rng.normal(size=(200, 2))
  one_mode = 0.01 * rng.normal(size=(200, 2))
  found = metrics.precision_recall(real, one_mode)
  assert found.precision > 0.9 and found.recall < 0.1
  found = metrics.density_coverage(real, one_mode)
  assert found.density > 1 and found.coverage < 0.2
  # One outlier among the real has a ball over everything.
  outlier = np.concatenate([real, [[30.0, 30.0]]])
  far = np.array([[10.0, 10.0]]) + rng.normal(size=(200, 2))
  assert metrics.precision_recall(outlier, far).precision > 0.9
  assert metrics.density_coverage(outlier, far).density < 0.5


def test_k_that_a_set_cannot_have():
  rng = np.random.default_rng(3)
  few, many = rng.normal(size=(3, 2)), rng.normal(size=(9, 2))
  with pytest.raises(ValueError, match="k = 3 .*at least 4 images, not 3"):
    metrics.precision_recall(many, few)
  with pytest.raises(ValueError, match="k = 0"):
    metrics.density_coverage(many, few, k=0)
  metrics.density_coverage(many, few)  # Only real points have balls.


@pytest.mark.parametrize("tile", [2, 1000])
def test_nearest_distances(monkeypatch, tile):
  monkeypatch.setattr(distances, "TILE", tile)
  rng = np.random.default_rng(4)
  queries = rng.normal(size=(7, 2, 3)).astype(np.float32)
  points = rng.normal(size=(11, 2, 3)).astype(np.float32)
  points[4] = queries[2]
  expected = norms(
    np.float64(queries).reshape(7, 6), np.float64(points).reshape(11, 6)
  ).min(1)
  found = metrics.nearest_distances(queries, points)
  np.testing.assert_allclose(found, expected, atol=1e-6)
  assert found[2] < 1e-6
  with pytest.raises(AssertionError):
    metrics.nearest_distances(queries, points[:, :1])


def test_distances_far_from_zero_do_not_cancel():
  rng = np.random.default_rng(5)
  queries, points = rng.normal(size=(2, 20, 3))
  expected = norms(queries, points).min(1)
  found = metrics.nearest_distances(queries + 1e6, points + 1e6)
  np.testing.assert_allclose(found, expected, rtol=1e-6)
