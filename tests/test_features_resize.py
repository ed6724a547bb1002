# SPDX-License-Identifier: Apache-2.0
"""Resizes against library oracles and by eye."""

import jax
import numpy as np
import pytest

from simple_diffusion.features import resize


@pytest.mark.parametrize("sizes", [(5, 7), (7, 5), (4, 8), (9, 3), (1, 4)])
def test_centers_are_those_of_jax(sizes):
  rng = np.random.default_rng(0)
  size_in, size_out = sizes
  images = rng.normal(size=(2, size_in, size_in + 3, 3)).astype(np.float32)
  expected = jax.image.resize(
    images, (2, size_out, size_out, 3), "bilinear", antialias=False
  )
  found = resize.resize(images, size_out, resize.centers_matrix)
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_tf1_by_eye():
  # Doubling: old pixels, the means between them, and the last one repeated.
  np.testing.assert_array_equal(
    resize.tf1_matrix(2, 4), [[1, 0], [0.5, 0.5], [0, 1], [0, 1]]
  )
  # Halving takes every other pixel.
  np.testing.assert_array_equal(
    resize.tf1_matrix(4, 2), [[1, 0, 0, 0], [0, 0, 1, 0]]
  )
  # 3 to 2: at 0 and 1.5.
  np.testing.assert_allclose(
    resize.tf1_matrix(3, 2), [[1, 0, 0], [0, 0.5, 0.5]]
  )


@pytest.mark.parametrize("make", [resize.tf1_matrix, resize.centers_matrix])
def test_what_every_bilinear_resize_keeps(make):
  for size_in, size_out in ((32, 299), (299, 299), (512, 299)):
    matrix = make(size_in, size_out)
    np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-6)
    assert (matrix >= 0).all()
  np.testing.assert_array_equal(make(299, 299), np.eye(299))


def test_the_two_differ_by_their_shift():
  ramp = np.arange(16.0)
  tf1 = resize.tf1_matrix(16, 32) @ ramp
  centers = resize.centers_matrix(16, 32) @ ramp
  np.testing.assert_allclose(tf1[1:-2] - centers[1:-2], 0.25, atol=1e-5)


def test_positions_are_rounded_as_in_the_originals():
  # 298 * float32(331 / 299), in float32: 329.89297 on paper is 329.893.
  matrix = resize.tf1_matrix(331, 299)
  position = matrix[298] @ np.arange(331.0)
  assert position == float(np.float32(298) * np.float32(331 / 299))
  assert abs(position - 298 * 331 / 299) > 1e-6


def test_rows_are_height():
  image = np.zeros((1, 2, 3, 1), np.float32)
  image[0, 1] = 1  # The lower row.
  found = resize.resize(image, 4, resize.tf1_matrix)
  np.testing.assert_allclose(found[0, :, 0, 0], [0, 0.5, 1, 1], atol=1e-6)
