# SPDX-License-Identifier: Apache-2.0
"""Dropout with a byte of randomness per entry."""

from flax import linen as nn
import jax
import jax.numpy as jnp


class Dropout(nn.Module):
  """Keeps entries of [B, N, ...] with probability 1 - rate, divided by that.

  One random word decides on four entries, a byte each: with a word for each
  (as in Flax) a good part of a large network's step on a TPU goes into random
  numbers. So the rate is a multiple of 1/256, the nearest to what is asked for,
  and the division is by that: 0.2 is 51/256 = 0.1992.

  Raises:
    ValueError: if the rate is not in [0, 1), or rounds to 1, or to 0.
  """

  rate: float

  @nn.compact
  def __call__(self, h, train):
    keep = round((1 - self.rate) * 256)
    if not 0 < keep <= 256 or (keep == 256) != (self.rate == 0):
      raise ValueError(
        f"a dropout rate of {self.rate} is not possible; use 0, or 1/256 to "
        "255/256"
      )
    if not train or not self.rate:
      return h
    # One word for four rows or tokens a quarter of the way apart: splitting an
    # outer axis moves nothing in memory, on TPU or GPU, and nothing is
    # concatenated, so that all fuses with what is around it.
    batch, rows, *inner = h.shape
    shape = (batch, 1, -(-rows // 4), *inner)
    words = jax.random.bits(self.make_rng("dropout"), shape, jnp.uint32)
    shifts = jnp.arange(0, 32, 8, dtype=jnp.uint32)
    shifts = jnp.expand_dims(shifts, [0, *range(2, len(shape))])
    bytes_ = ((words >> shifts) & 255).reshape(batch, -1, *inner)
    kept = jnp.where(bytes_[:, :rows] < keep, h * (256 / keep), 0)
    return kept.astype(h.dtype)
