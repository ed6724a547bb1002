# SPDX-License-Identifier: Apache-2.0
"""Resizing by products with two small matrices, one for each axis.

Every bilinear resize of an axis is a matrix [size_out, size_in] whose rows sum
to 1. Protocols differ in where output i samples the input, and in whether
shrinking averages:

  TF1      i * size_in / size_out, never averages: output pixels' corners lie
           on input pixels' corners (`tf.image.resize_bilinear` of TensorFlow
           1, align_corners=False, without half_pixel_centers)
  centers  (i + 1/2) * size_in / size_out - 1/2: pixels are squares
           (`torch.nn.functional.interpolate`, align_corners=False)

The first shifts the picture by up to half a pixel. It is the one that FID was
published with, so numbers that are to be called FID keep it.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np


def _matrix(size_in: int, positions: np.ndarray) -> np.ndarray:
  """[size_out, size_in]: linear interpolation at positions, ends repeated."""
  positions = np.clip(positions, 0, size_in - 1)
  low = np.int64(np.floor(positions))
  high = np.minimum(low + 1, size_in - 1)
  fraction = positions - low
  matrix = np.zeros((len(positions), size_in), np.float32)
  rows = np.arange(len(positions))
  matrix[rows, low] += 1 - fraction
  matrix[rows, high] += fraction
  return matrix


# Positions are float32 because those of the originals are: their rounding is
# some 1e-5 of a pixel, which features can see.
def tf1_matrix(size_in: int, size_out: int) -> np.ndarray:
  """float32 [size_out, size_in] of TensorFlow 1's bilinear resize."""
  scale = np.float32(size_in / size_out)
  return _matrix(size_in, np.arange(size_out, dtype=np.float32) * scale)


def centers_matrix(size_in: int, size_out: int) -> np.ndarray:
  """float32 [size_out, size_in] of bilinear resize between pixel centres."""
  scale = np.float32(size_in / size_out)
  centres = np.arange(size_out, dtype=np.float32) + np.float32(0.5)
  return _matrix(size_in, centres * scale - np.float32(0.5))


def resize(images: jax.Array, size: int, make_matrix) -> jax.Array:
  """Resizes float images [B, H, W, C] to [B, size, size, C].

  Args:
    images: any scale; computed in float32.
    size: of both sides; the aspect ratio is not kept.
    make_matrix: `tf1_matrix` or `centers_matrix`.
  """
  chex.assert_rank(images, 4)
  _, height, width, _ = images.shape
  rows, columns = make_matrix(height, size), make_matrix(width, size)
  # Accelerators would round the pixels' factors otherwise.
  return jnp.einsum(
    "ih,bhwc,jw->bijc",
    rows,
    jnp.float32(images),
    columns,
    precision=jax.lax.Precision.HIGHEST,
  )
