# SPDX-License-Identifier: Apache-2.0
"""Group normalisation that reads maps in the order they lie in memory.

  y = (h - mean) rsqrt(var + 1e-6) scale + bias

with mean and variance over the pixels and channels of a group (arXiv
1803.08494), as `flax.linen.GroupNorm` and with its parameters; and on demand
y (1 + film_scale) + film_shift. All of it is one multiply-add per entry.

The moments are those of channels first, over whole rows of pixels, and only
then of groups, among [B, C] numbers. Splitting the channels of a map into
groups before reducing, as Flax does, leaves an innermost axis of a few
channels: on TPU it is padded to 128 lanes, on GPU the reduction is strided.
"""

import math

from flax import linen as nn
import jax
import jax.numpy as jnp

EPSILON = 1e-6


class GroupNorm(nn.Module):
  """Normalises [B, ..., C] with 32 groups, or as many as divide a small C.

  film_scale and film_shift are [B, C]. Moments are float32 and the result is of
  `dtype`.
  """

  dtype: jnp.dtype

  @nn.compact
  def __call__(
    self,
    h: jax.Array,
    film_scale: jax.Array | None = None,
    film_shift: jax.Array | None = None,
  ) -> jax.Array:
    channels = h.shape[-1]
    scale = self.param("scale", nn.initializers.ones, (channels,))
    bias = self.param("bias", nn.initializers.zeros, (channels,))
    x = h.astype(jnp.float32)
    pixels = tuple(range(1, h.ndim - 1))
    mean = group_means(x.mean(pixels))  # [B, C]
    var = group_means((x * x).mean(pixels)) - mean**2
    # y = x gain + offset, with [B, C] of both.
    gain = jax.lax.rsqrt(jnp.maximum(var, 0) + EPSILON) * scale[None]
    offset = bias[None] - mean * gain
    if film_scale is not None:
      gain *= 1 + film_scale
      offset = offset * (1 + film_scale) + film_shift
    y = x * jnp.expand_dims(gain, pixels) + jnp.expand_dims(offset, pixels)
    return y.astype(self.dtype)


def group_means(channel_means: jax.Array) -> jax.Array:
  """[B, C] -> [B, C], each channel's mean replaced by that of its group."""
  batch, channels = channel_means.shape
  groups = math.gcd(32, channels)
  means = channel_means.reshape(batch, groups, -1).mean(-1, keepdims=True)
  shape = (batch, groups, channels // groups)
  return jnp.broadcast_to(means, shape).reshape(batch, channels)
