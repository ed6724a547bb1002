# SPDX-License-Identifier: Apache-2.0
"""A small network of words: an encoder, and what may stand on it.

A token is known by the buckets of its features, hashed; bucket 0 is padding.
Its vector is the sum of theirs; then each layer mixes the vectors of
neighbours. Such a layer sees no positions: only the rotations of a pointer do.
"""

from collections.abc import Callable

from flax import linen as nn
import jax.numpy as jnp

import losses


class Tags(nn.Module):
  """[B, n, D] -> logits [B, n, 1 + 2 K]: O, and B and I of each kind."""

  num_kinds: int

  @nn.compact
  def __call__(self, h):
    return nn.Dense(1 + 2 * self.num_kinds)(h)


class Pointer(nn.Module):
  """[B, n, D] -> scores of spans [B, K, n, n]: GlobalPointer."""

  num_kinds: int
  size: int = 16
  rope_base: float | None = 10_000.0

  @nn.compact
  def __call__(self, h):
    q, k = (
      nn.Dense(self.num_kinds * self.size, name=name)(h)
      .reshape(*h.shape[:-1], self.num_kinds, self.size)
      .swapaxes(-2, -3)
      for name in ("start", "end")
    )
    return losses.global_pointer_scores(q, k, rope_base=self.rope_base)


class EfficientPointer(nn.Module):
  """[B, n, D] -> scores of spans [B, K, n, n]: Efficient GlobalPointer."""

  num_kinds: int
  size: int = 16
  rope_base: float | None = 10_000.0

  @nn.compact
  def __call__(self, h):
    both = nn.Dense(2 * self.size)(h)
    q, k = jnp.split(both, 2, axis=-1)
    kinds = nn.Dense(2 * self.num_kinds)(both).swapaxes(-1, -2)
    start, end = jnp.split(kinds, 2, axis=-2)  # [B, K, n] each
    return losses.efficient_global_pointer_scores(
      q, k, start, end, rope_base=self.rope_base
    )


class WordNetwork(nn.Module):
  """Buckets int32 [B, n, F] -> what the head makes of vectors [B, n, D].

  Without a key "dropout" among the rngs nothing is dropped.
  """

  num_outputs: int  # kinds of names, K
  num_buckets: int
  width: int = 64
  num_layers: int = 2
  dropout: float = 0.3
  head: Callable[[int], nn.Module] = Tags

  @nn.compact
  def __call__(self, buckets):
    def drop(h):
      is_off = not self.has_rng("dropout")
      return nn.Dropout(self.dropout, deterministic=is_off)(h)

    is_word = (buckets[..., :1] > 0).astype(jnp.float32)  # [B, n, 1]
    h = nn.Embed(self.num_buckets, self.width)(buckets).sum(-2)
    for _ in range(self.num_layers):
      h = drop(is_word * nn.LayerNorm()(h))
      padded = jnp.pad(h, ((0, 0), (1, 1), (0, 0)))
      window = jnp.concatenate(
        [padded[:, :-2], padded[:, 1:-1], padded[:, 2:]], axis=-1
      )
      h = h + nn.relu(nn.Dense(self.width)(window))
    return self.head(self.num_outputs)(drop(nn.LayerNorm()(h)))
