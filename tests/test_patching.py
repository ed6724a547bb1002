# SPDX-License-Identifier: Apache-2.0
"""Patchings: the 5/3 wavelet's worked values, inverses, gains, layout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simple_diffusion import patching

# Compiled, as in use: an uncompiled wavelet is dozens of small programs.
patch = jax.jit(patching.patch, static_argnums=1)
unpatch = jax.jit(patching.unpatch, static_argnums=1)
dwt_bands = jax.jit(patching.dwt_bands)

PATCHINGS = ("none", "space_to_depth_2", "space_to_depth_4", "dwt_1", "dwt_2")


def images(*shape, seed=0):
  return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def filtered(x):
  """LeGall's 5/3 as a filter bank along the last axis, in float64.

  Low-pass (-1, 2, 6, 2, -1)/8 at the even samples and high-pass (-1, 2, -1)/2
  at the odd ones, of the signal mirrored about its end samples.
  """
  widths = [(0, 0)] * (x.ndim - 1) + [(2, 2)]
  windows = np.lib.stride_tricks.sliding_window_view(
    np.pad(np.asarray(x, np.float64), widths, mode="reflect"), 5, axis=-1
  )
  low = windows[..., 0::2, :] @ np.array([-1, 2, 6, 2, -1]) / 8
  high = windows[..., 1::2, :] @ np.array([0, -1, 2, -1, 0]) / 2
  return low, high


def filtered_bands(x):
  """LL, LH, HL, HH of [H, W], H for high-pass across (height, width)."""
  low, high = filtered(x)  # Across the width.
  bands = [half.T for part in (low, high) for half in filtered(part.T)]
  ll, hl, lh, hh = bands
  return ll, lh, hl, hh


@pytest.mark.parametrize(
  "signal, low, high",
  # Worked by hand from equations (1) and (2).
  [
    ((1, 3, 2, 5, 4, 4, 0, 1), (1.75, 2.875, 5, 0.75), (1.5, 2, 2, 1)),
    (range(8), (0, 2, 4, 6.25), (0, 0, 0, 1)),
  ],
)
def test_worked_signals(signal, low, high):
  signal, low, high = (np.float32(list(a)) for a in (signal, low, high))
  # Constant across the other axis, which the low-pass keeps (DC gain 1).
  across_height = np.tile(signal[:, None], (1, 6))[None, :, :, None]
  ll, details = dwt_bands(across_height)
  lh, hl, hh = np.moveaxis(details[0], -1, 0)
  np.testing.assert_allclose(ll[0, :, :, 0], np.tile(low[:, None], (1, 3)))
  np.testing.assert_allclose(hl, np.tile(high[:, None], (1, 3)))
  np.testing.assert_allclose([lh, hh], np.zeros((2, 4, 3)))

  across_width = across_height.transpose(0, 2, 1, 3)
  ll, details = dwt_bands(across_width)
  lh, hl, hh = np.moveaxis(details[0], -1, 0)
  np.testing.assert_allclose(ll[0, :, :, 0], np.tile(low, (3, 1)))
  np.testing.assert_allclose(lh, np.tile(high, (3, 1)))
  np.testing.assert_allclose([hl, hh], np.zeros((2, 3, 4)))


@pytest.mark.parametrize("side", [(2, 2), (4, 6), (16, 10)])
def test_bands_are_the_filter_banks(side):
  x = images(1, *side, 1)
  ll, details = dwt_bands(x)
  bands = np.moveaxis(np.concatenate([ll, details], axis=-1)[0], -1, 0)
  expected = filtered_bands(x[0, :, :, 0])
  np.testing.assert_allclose(bands, expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 16, 16, 3), (1, 4, 20, 2)])
@pytest.mark.parametrize("name", PATCHINGS)
def test_perfect_reconstruction(name, shape):
  x = images(*shape)
  y = patch(x, name)
  factor = x.shape[1] // y.shape[1]
  assert y.shape == (
    shape[0],
    shape[1] // factor,
    shape[2] // factor,
    shape[3] * factor**2,
  )
  np.testing.assert_allclose(unpatch(y, name), x, atol=2e-6)


@pytest.mark.parametrize(
  "side, name, channels",
  # Simple diffusion, section 3.3, and its U-ViT at 256 pixels.
  [(512, "dwt_2", 48), (256, "dwt_1", 12), (512, "space_to_depth_4", 48)],
)
def test_papers_shapes(side, name, channels):
  x = images(1, side, side, 3)
  y = patch(x, name)
  assert y.shape == (1, 128, 128, channels)
  np.testing.assert_allclose(unpatch(y, name), x, atol=4e-6)


def test_second_level_layout():
  # Four maps of the low-pass band's own transform, then three maps of the
  # first level, each moved to four by space-to-depth (row, column of a pixel).
  x = images(1, 16, 8, 1)
  y = np.moveaxis(patch(x, "dwt_2")[0], -1, 0)
  ll, *details = filtered_bands(x[0, :, :, 0])
  np.testing.assert_allclose(y[:4], filtered_bands(ll), atol=2e-6)
  for pixel in range(4):
    row, column = divmod(pixel, 2)
    expected = [band[row::2, column::2] for band in details]
    np.testing.assert_allclose(
      y[4 + 3 * pixel : 7 + 3 * pixel], expected, atol=2e-6
    )


def test_space_to_depth_order():
  x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
  y = patch(x, "space_to_depth_2")
  np.testing.assert_array_equal(y[0, 0, 0], [0, 1, 4, 5])
  np.testing.assert_array_equal(y[0, 1, 0], [8, 9, 12, 13])
  # Colours stay together within a pixel.
  rgb = np.concatenate([x, x + 100, x + 200], axis=-1)
  y = patching.space_to_depth(rgb, 2)
  np.testing.assert_array_equal(y[0, 0, 0, :6], [0, 100, 200, 1, 101, 201])


def test_variance_gains():
  # The variance of each output for white noise is the sum of its squared
  # weights: (1+4+36+4+1)/64 = .71875 low and (1+4+1)/4 = 1.5 high per axis, so
  # the standard deviations are .719, 1.038, 1.038, 1.5 away from the border.
  def centre(x):
    ll, details = dwt_bands(x)
    return jnp.concatenate([ll, details], axis=-1)[0, 2, 2]

  weights = jax.jit(jax.jacobian(centre))(jnp.zeros((1, 10, 10, 1)))
  gain = np.sqrt(np.sum(np.square(weights), axis=(1, 2, 3, 4)))
  np.testing.assert_allclose(gain, [0.71875, 1.0383, 1.0383, 1.5], atol=1e-4)
  # A flat signal keeps its value, so its SNR in LL gains 1.94 and not 4.
  np.testing.assert_allclose(1 / gain[0] ** 2, 1.94, atol=5e-3)


@pytest.mark.parametrize("name", ["dwt_1", "dwt_2"])
def test_flat_images_stay_flat(name):
  flat = np.broadcast_to(np.float32([0.5, -1, 0.25]), (1, 8, 8, 3))
  y = patch(flat, name)
  np.testing.assert_allclose(
    y[..., :3], flat[:, : y.shape[1], : y.shape[2]], atol=1e-6
  )
  np.testing.assert_allclose(y[..., 3:], 0, atol=1e-6)


@pytest.mark.parametrize("name", PATCHINGS)
def test_linear(name):
  # Linear, so patched noise is Gaussian.
  a, b = images(2, 8, 8, 3, seed=1), images(2, 8, 8, 3, seed=2)
  mixed = patch(2 * a - 3 * b, name)
  separate = 2 * patch(a, name) - 3 * patch(b, name)
  np.testing.assert_allclose(mixed, separate, atol=1e-5)


@pytest.mark.parametrize(
  "name, shape, remedy",
  [
    ("dwt_1", (7, 8), "divisible by 2, got 7x8; use 6x8"),
    ("dwt_2", (8, 30), "'dwt_2' .* divisible by 4, got 8x30; use 8x28"),
    ("dwt_2", (6, 8), "divisible by 4, got 6x8; use 4x8"),
    ("space_to_depth_4", (10, 8), "divisible by 4, got 10x8; use 8x8"),
    ("space_to_depth_2", (1, 8), "divisible by 2, got 1x8; use 2x8"),
  ],
)
def test_sides_that_do_not_divide(name, shape, remedy):
  with pytest.raises(ValueError, match=remedy):
    patch(jnp.zeros((1, *shape, 3)), name)


@pytest.mark.parametrize(
  "name", ["dwt", "dwt_0", "dwt_x", "wavelet_1", "space_to_depth_-2", ""]
)
def test_unknown_names(name):
  x = jnp.zeros((1, 8, 8, 4))
  for transform in (patching.patch, patching.unpatch):
    with pytest.raises(
      ValueError, match=f"{name!r}; .* none, .* dwt_<levels>, conv_"
    ):
      transform(x, name)
