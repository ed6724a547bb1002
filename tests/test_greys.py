# SPDX-License-Identifier: Apache-2.0
"""Which images have L greys, and what they are."""

import numpy as np
import pytest

from simple_diffusion import data
from simple_diffusion import greys
from simple_diffusion import images

ALL = np.arange(256, dtype=np.uint8)


def on_grid(values, num_levels):
  return greys.on_grid(images.to_float(values), num_levels=num_levels)


def test_digits_are_seventeen_greys():
  source = data.make_source(name="digits", split="test")
  x = images.to_float(np.stack([example["image"] for example in source]))
  moved = greys.on_grid(x, num_levels=17)
  assert moved.dtype == np.float32 and moved.shape == x.shape
  np.testing.assert_allclose(
    np.unique(moved), np.linspace(-1, 1, 17), atol=1e-7
  )
  assert 0 < np.abs(moved - x).max() <= 1 / 255 + 1e-6


def test_all_values_are_256_greys():
  np.testing.assert_allclose(on_grid(ALL, 256), images.to_float(ALL), atol=1e-7)
  assert on_grid(ALL[:0], 256).shape == (0,)


@pytest.mark.parametrize("num_levels", [2, 3, 5, 17, 52, 129, 200, 254, 255])
def test_greys_come_back_from_8_bits(num_levels):
  exact = np.linspace(-1, 1, num_levels)
  for direction in (-1e-9, 1e-9):  # for halves, which may be rounded either way
    values = np.uint8(np.round((exact + 1) * 127.5 + direction))
    np.testing.assert_allclose(on_grid(values, num_levels), exact, atol=1e-7)
  # So many are not all that 8 bits have.
  message = f"num_levels={num_levels}, .* of 8 bits have 256"
  with pytest.raises(ValueError, match=message):
    on_grid(ALL, num_levels)


def test_a_value_between_two_greys():
  # Of 17 greys the second is at 255 / 16 = 15.9.
  np.testing.assert_allclose(on_grid(np.uint8([0, 16]), 17), [-1, -1 + 2 / 16])
  with pytest.raises(ValueError, match="num_levels=17, .* 15 among"):
    on_grid(np.uint8([0, 15]), 17)


def test_one_grey_is_not_two_values():
  # The middle of 255 greys is 127.5: all of these are a hair from a grey.
  assert on_grid(np.uint8([0, 127, 255]), 255)[1] == 0
  assert on_grid(np.uint8([0, 128, 255]), 255)[1] == 0
  with pytest.raises(ValueError, match="num_levels=255, .* 127, 128 among"):
    on_grid(np.uint8([0, 127, 128, 255]), 255)
  # And of three greys.
  with pytest.raises(ValueError, match="num_levels=3, .* 127, 128 among"):
    on_grid(np.uint8([127, 128]), 3)


def test_no_more_greys_than_8_bits_have():
  with pytest.raises(ValueError, match="num_levels=257, .*at most 256"):
    on_grid(ALL, 257)
  with pytest.raises(ValueError, match="num_levels=1 "):
    on_grid(ALL, 1)


@pytest.mark.parametrize(
  "x, how_far",
  [
    (np.float32([-1, 0.1]), "0.25"),  # 140.25 of 255
    (np.float32([0.0, 1.0]), "0.5"),
    (np.float32([0, 255]), "3.24e\\+04"),  # in 0..255: 256 x 127.5 - 255
    (np.float32([np.nan]), "nan"),
  ],
)
def test_images_that_are_not_of_8_bits(x, how_far):
  with pytest.raises(ValueError, match=f"is {how_far} away .* x / 127.5 - 1"):
    greys.on_grid(x, num_levels=256)
