# SPDX-License-Identifier: Apache-2.0
"""Dropout whose randomness and masks are never written to memory."""

import functools

from flax import linen as nn
import jax
import jax.numpy as jnp


def mixed(x: jax.Array) -> jax.Array:
  """A bijection of uint32: each bit of the result depends on every bit of x.

  MurmurHash3's finaliser (Appleby, public domain).
  """
  x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
  x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
  return x ^ (x >> 16)


def random_words(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """uint32 words of a shape [..., C], uniform, each from 64 bits of its row.

  JAX's generator gives two words to a row of C entries, and hashing them with
  the entry's number gives the entries. As words for all entries, its generator
  is so long that XLA for GPUs does not fuse it: its output is written, and read
  again, in several passes, forward and backward.
  """
  seeds = jax.random.bits(key, (2, *shape[:-1], 1), jnp.uint32)
  # Of C entries: JAX would compute a whole iota once for a scan over blocks and
  # have each block read it.
  entry = jnp.arange(shape[-1], dtype=jnp.uint32)
  entry = jnp.expand_dims(entry, tuple(range(len(shape) - 1)))
  return mixed(mixed(entry ^ seeds[0]) + seeds[1])


@functools.partial(jax.checkpoint, prevent_cse=False, static_argnums=2)
def dropped(key: jax.Array, h: jax.Array, rate: float) -> jax.Array:
  """h [..., C] with entries kept with probability 1 - rate, divided by that.

  The backward pass needs the mask and makes it again: of each of many blocks it
  would be larger than what it masks.
  """
  kept = random_words(key, h.shape) >= jnp.uint32(rate * 2**32)
  # A product, since the zeros of a selection would be an array for a scan over
  # blocks, as an iota is.
  scale = kept.astype(jnp.float32) / (1 - rate)
  return (h * scale).astype(h.dtype)


class Dropout(nn.Module):
  """Keeps entries of [B, ..., C] with probability 1 - rate, divided by that.

  What is not finite stays so, dropped or not.

  Raises:
    ValueError: if the rate is not in [0, 1).
  """

  rate: float

  @nn.compact
  def __call__(self, h, train):
    if not 0 <= self.rate < 1:
      raise ValueError(f"a dropout rate of {self.rate} must be in [0, 1)")
    if not train or not self.rate:
      return h
    return dropped(self.make_rng("dropout"), h, self.rate)
