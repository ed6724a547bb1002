# SPDX-License-Identifier: Apache-2.0
"""A small decoder-only language model, and samples of it.

Pre-norm transformer of GPT-2's shape with tied embeddings, so that the head is
[V, D]. A sequence has at most `context` tokens and no token before the first,
which is predicted from its position alone; nothing else is a start.
"""

import functools

from flax import linen as nn
import jax
import jax.numpy as jnp


class Block(nn.Module):
  """x + attention, then x + MLP."""

  num_heads: int
  decode: bool

  @nn.compact
  def __call__(self, x, mask):
    width = x.shape[-1]
    attention = nn.MultiHeadDotProductAttention(
      self.num_heads, decode=self.decode, name="attention"
    )
    x = x + attention(nn.LayerNorm()(x), mask=mask)
    h = nn.gelu(nn.Dense(4 * width)(nn.LayerNorm()(x)))
    return x + nn.Dense(width)(h)


class Decoder(nn.Module):
  """Hidden states [B, T, D] from which token t of [B, T] is predicted.

  vocab_size: V.
  context: the longest T.
  decode: one position a call, keys and values of the others in a cache.
  """

  vocab_size: int
  context: int
  width: int
  num_layers: int
  num_heads: int
  decode: bool = False

  @nn.compact
  def __call__(self, previous, positions):
    """Hidden states.

    Args:
      previous: [B, T], the token before each; of position 0 it is ignored.
      positions: [T].
    """
    init = nn.initializers.normal(0.02)
    x = nn.Embed(
      self.vocab_size, self.width, embedding_init=init, name="embedding"
    )(previous)
    place = self.param("positions", init, (self.context, self.width))
    x = jnp.where((positions > 0)[None, :, None], x, 0) + place[positions][None]
    mask = None if self.decode else nn.make_causal_mask(previous)
    for _ in range(self.num_layers):
      x = Block(self.num_heads, self.decode)(x, mask)
    return nn.LayerNorm()(x)


def head(params) -> jax.Array:
  """The tied language model head, [V, D]."""
  return params["embedding"]["embedding"]


@functools.partial(jax.jit, static_argnames="decoder")
def init(decoder: Decoder, rng):
  """Parameters to start from."""
  tokens = jnp.zeros((1, decoder.context), jnp.int32)
  return decoder.init(rng, tokens, jnp.arange(decoder.context))["params"]


def hidden(decoder: Decoder, params, tokens) -> jax.Array:
  """What each of tokens [B, T] is predicted from, [B, T, D]."""
  previous = jnp.roll(tokens, 1, axis=1)
  positions = jnp.arange(tokens.shape[1])
  return decoder.apply({"params": params}, previous, positions)


def logits(decoder: Decoder, params, tokens) -> jax.Array:
  """[B, T, V]; those of token t know of the tokens before it."""
  return hidden(decoder, params, tokens) @ head(params).T


def draw(rng, p) -> jax.Array:
  """One of V by p [B, V]: the first whose cumulative share is above a number.

  One random number each; jax.random.categorical takes V, and five times as
  long on a CPU.
  """
  total = jnp.cumsum(p, axis=-1)
  u = jax.random.uniform(rng, (*p.shape[:-1], 1))
  return jnp.sum(total <= u * total[..., -1:], axis=-1, dtype=jnp.int32)


@functools.partial(jax.jit, static_argnames=("decoder", "num"))
def sample(decoder: Decoder, params, rng, temperature, *, num: int):
  """int32 [num, context], drawn token by token from softmax(logits / T)."""
  stepper = decoder.clone(decode=True)
  tokens = jnp.zeros((num, decoder.context), jnp.int32)
  shapes = jax.eval_shape(
    stepper.init, rng, tokens, jnp.arange(decoder.context)
  )
  cache = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes["cache"])

  def step(carry, at_step):
    cache, previous = carry
    position, rng = at_step
    x, updated = stepper.apply(
      {"params": params, "cache": cache},
      previous[:, None],
      position[None],
      mutable=["cache"],
    )
    z = x[:, 0] @ head(params).T
    token = draw(rng, jax.nn.softmax(z / temperature))
    return (updated["cache"], token), token

  steps = jnp.arange(decoder.context), jax.random.split(rng, decoder.context)
  _, tokens = jax.lax.scan(step, (cache, tokens[:, 0]), steps)
  return tokens.T
