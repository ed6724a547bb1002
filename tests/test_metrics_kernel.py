# SPDX-License-Identifier: Apache-2.0
"""The kernel distance, its expectation and its jackknife, by brute force."""

import numpy as np
import pytest

from simple_diffusion import metrics
from simple_diffusion.metrics import distances


def plain(a, b):
  """The definition, in loops."""
  dim = a.shape[1]

  def mean(pairs):
    return np.mean([(x @ y / dim + 1) ** 3 for x, y in pairs])

  within = [
    mean([(x, y) for i, x in enumerate(s) for j, y in enumerate(s) if i != j])
    for s in (a, b)
  ]
  return sum(within) - 2 * mean([(x, y) for x in a for y in b])


def plain_jackknife(a, b):
  a_left = [plain(np.delete(a, i, axis=0), b) for i in range(len(a))]
  b_left = [plain(a, np.delete(b, i, axis=0)) for i in range(len(b))]
  return np.sqrt(sum((len(v) - 1) * np.var(v) for v in (a_left, b_left)))


@pytest.mark.parametrize("tile", [1, 4, 1000])
def test_value_and_standard_error(monkeypatch, tile):
  monkeypatch.setattr(distances, "TILE", tile)
  rng = np.random.default_rng(0)
  a, b = rng.normal(size=(7, 3)), 0.5 + rng.normal(size=(9, 3))
  for pair in ((a, b), (b, a)):
    found = metrics.kernel_distance(*pair)
    np.testing.assert_allclose(found.value, plain(*pair), rtol=1e-10)
    np.testing.assert_allclose(
      found.standard_error, plain_jackknife(*pair), rtol=1e-10
    )


def test_one_distribution_has_0_within_its_error():
  rng = np.random.default_rng(1)
  found = [
    metrics.kernel_distance(*rng.normal(size=(2, 40, 4))) for _ in range(400)
  ]
  values = np.array([f.value for f in found])
  mean_error = values.std() / np.sqrt(len(values))
  assert abs(values.mean()) < 3 * mean_error  # Unbiased.
  assert (values < 0).any()
  # The jackknife's variance is conservative (Efron and Stein, 1981).
  squared_errors = np.mean([f.standard_error**2 for f in found])
  assert values.var() < squared_errors < 4 * values.var()


def test_the_error_is_right_where_sets_differ():
  rng = np.random.default_rng(2)
  found = [
    metrics.kernel_distance(
      rng.normal(size=(50, 4)), 1 + rng.normal(size=(70, 4))
    )
    for _ in range(300)
  ]
  values = np.array([f.value for f in found])
  squared_errors = np.mean([f.standard_error**2 for f in found])
  np.testing.assert_allclose(squared_errors, values.var(), rtol=0.25)


def test_a_known_expectation():
  # In one dimension E k(x, y) = 1 + 3 m m' + 3 E x^2 E y^2 + E x^3 E y^3 for
  # independent x and y: between N(0, 1) and N(1, 1), whose moments are 0, 1, 0
  # and 1, 2, 4, 4 + (1 + 3 + 12 + 16) - 2 (1 + 3 * 2) = 22.
  rng = np.random.default_rng(3)
  a, b = rng.normal(size=(2000, 1)), 1 + rng.normal(size=(2000, 1))
  found = metrics.kernel_distance(a, b)
  assert abs(found.value - 22) < 3 * found.standard_error
  assert found.standard_error < 3


def test_float32_products_are_enough():
  rng = np.random.default_rng(4)
  a, b = np.abs(rng.normal(size=(2, 300, 64)))
  exact = metrics.kernel_distance(a, b)
  rounded = metrics.kernel_distance(np.float32(a), np.float32(b))
  np.testing.assert_allclose(rounded, exact, atol=1e-6)


def test_sets_of_two_are_refused():
  rng = np.random.default_rng(5)
  with pytest.raises(ValueError, match="2 and 9 images.*at least 3"):
    metrics.kernel_distance(rng.normal(size=(2, 3)), rng.normal(size=(9, 3)))
  with pytest.raises(AssertionError):
    metrics.kernel_distance(rng.normal(size=(5, 3)), rng.normal(size=(5, 4)))


def test_a_set_and_its_copy():
  a = np.random.default_rng(4).normal(size=(30, 5))
  kernels = (a @ a.T / 5 + 1) ** 3
  n, own = len(a), np.trace(kernels)
  offset = -2 / n * (own / n - (kernels.sum() - own) / (n * (n - 1)))
  found = metrics.kernel_distance(a, a[::-1])
  np.testing.assert_allclose(found.value, offset, rtol=1e-12)
