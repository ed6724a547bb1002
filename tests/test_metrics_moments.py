# SPDX-License-Identifier: Apache-2.0
"""Moments against NumPy's, whole and merged."""

import ast
import functools

import numpy as np
import pytest
import real_runs

from simple_diffusion import metrics


def draw(number, dim=5, seed=0):
  rng = np.random.default_rng(seed)
  return rng.normal(size=(number, dim)) @ rng.normal(size=(dim, dim)) + 3


def assert_moments_of(moments, features):
  assert moments.count == len(features)
  np.testing.assert_allclose(moments.mean, features.mean(0), rtol=1e-12)
  np.testing.assert_allclose(
    metrics.covariance(moments), np.cov(features.T), rtol=1e-10, atol=1e-12
  )


def test_merged_parts_are_the_whole():
  features = draw(103)
  parts = np.split(features, [1, 2, 50, 51, 101])  # Two and one at the ends.
  assert_moments_of(metrics.moments_of(features), features)
  assert_moments_of(metrics.moments_of_batches(iter(parts)), features)
  backwards = functools.reduce(
    metrics.merge, [metrics.moments_of(part) for part in parts[::-1]]
  )
  assert_moments_of(backwards, features)


def test_no_features_change_nothing():
  features = draw(11)
  moments = metrics.moments_of(features)
  nothing = metrics.Moments(0, np.zeros(5), np.zeros((5, 5)))
  assert_moments_of(metrics.merge(nothing, moments), features)
  assert_moments_of(metrics.merge(moments, nothing), features)


def test_nothing_cancels_far_from_zero():
  features = draw(64)
  far = features + 1e8  # Sums of squares about 0 would lose every digit.
  moments = metrics.moments_of_batches(np.split(far, 8))
  np.testing.assert_allclose(
    metrics.covariance(moments), np.cov(features.T), rtol=1e-6, atol=1e-6
  )


def test_float32_features_are_summed_in_float64():
  features = np.float32(draw(1000))
  moments = metrics.moments_of(features)
  assert moments.scatter.dtype == moments.mean.dtype == np.float64
  assert_moments_of(moments, np.float64(features))


def test_one_process_has_all():
  moments = metrics.moments_of(draw(7))
  assert metrics.merge_processes(moments) is moments


PROCESS = """
import sys
import jax
import numpy as np
from simple_diffusion import metrics

path, address, index = sys.argv[1:]
jax.distributed.initialize(address, 3, int(index))
part = np.array_split(np.load(path), [1, 30])[int(index)]
moments = metrics.merge_processes(metrics.moments_of(part))
print(repr([moments.count, moments.mean.tolist(), moments.scatter.tolist()]))
"""


def test_every_process_has_all(tmp_path):
  features = draw(50, dim=3)
  np.save(tmp_path / "features.npy", features)
  address = f"localhost:{real_runs.free_port()}"
  found = real_runs.finish(
    [
      real_runs.start_python(
        ["-c", PROCESS, str(tmp_path / "features.npy"), address, str(index)]
      )
      for index in range(3)
    ]
  )
  answers = [printed.strip().splitlines()[-1] for printed in found]
  assert len(set(answers)) == 1  # Every digit: float64 was not rounded.
  count, mean, scatter = ast.literal_eval(answers[0])
  assert_moments_of(
    metrics.Moments(count, np.array(mean), np.array(scatter)), features
  )


def test_one_image_has_no_covariance():
  with pytest.raises(ValueError, match=r"1 image\(s\).*at least 2"):
    metrics.covariance(metrics.moments_of(draw(1)))


def test_what_is_no_matrix_of_features_is_refused():
  with pytest.raises(AssertionError):
    metrics.moments_of(np.zeros((2, 3, 4)))
  with pytest.raises(AssertionError):
    metrics.merge(
      metrics.moments_of(draw(3)), metrics.moments_of(draw(3, dim=4))
    )
