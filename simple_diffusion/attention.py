# SPDX-License-Identifier: Apache-2.0
"""Attention by the fastest kernel that the device has for its shape.

  out = softmax(q k^T / sqrt(C)) v        per head; C is the head's width

cuDNN's fused kernel (flash attention) never writes the [N, N] logits to memory,
forward or backward. It takes bfloat16 or float16 and heads up to 128 wide, from
Hopper on up to 256, as JAX checks before it compiles. XLA's form takes
everything; it is what CPUs and TPUs run, and the paper's U-ViT, whose 4 heads
are 512 wide. There it costs little: of a block's multiply-adds at 256 tokens of
width 2048, attention is 2 %.

Nothing is masked: every token of an image sees every other. Both forms take
logits and softmax in float32 and round the probabilities to the inputs' dtype
before they meet v; they agree to that rounding, not to the bit.
"""

import functools
import math

from absl import logging
import jax
import jax.numpy as jnp


def attend(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
  """Self-attention of q, k, v [B, N, heads, C] -> [B, N, heads, C]."""
  if choose(q.shape, q.dtype) == "cudnn":
    return jax.nn.dot_product_attention(q, k, v, implementation="cudnn")
  return plain(q, k, v)


def plain(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
  """The formula, [B, N, heads, C] each; what XLA makes of it.

  Heads are moved ahead of tokens here rather than by XLA, which for GPUs and a
  scan over blocks moves those of all blocks at once: one more copy of what the
  backward pass keeps.
  """
  q, k, v = (x.swapaxes(1, 2) for x in (q, k, v))
  logits = jnp.einsum(
    "bhqc,bhkc->bhqk", q, k, preferred_element_type=jnp.float32
  )
  p = jax.nn.softmax(logits / math.sqrt(q.shape[-1]), axis=-1)
  return jnp.einsum("bhqk,bhkc->bhqc", p.astype(v.dtype), v).swapaxes(1, 2)


def choose(shape: tuple[int, ...], dtype) -> str:
  """The form for [B, N, heads, C]: "cudnn" if it compiles, both ways, or "xla".

  Called while a program is traced. Of one that is traced for a mesh of other
  hardware (a TPU's topology, planned on another machine) nothing can be tried:
  "xla".
  """
  here = jax.devices()[0].device_kind
  device = jax.sharding.get_abstract_mesh().abstract_device
  if device is not None and device.device_kind != here:
    return "xla"
  # Of one example: the kernel's limits are those of N and C, and the examples
  # of a batch may lie on many devices.
  _, num_tokens, num_heads, width = shape
  fits = compiles("cudnn", num_tokens, num_heads, width, jnp.dtype(dtype).name)
  return "cudnn" if fits else "xla"


@functools.cache
def compiles(
  implementation: str, num_tokens: int, num_heads: int, width: int, dtype: str
) -> bool:
  """Whether the default device can compile one example of a shape.

  Without memory or a run: from shapes. Where there is no cuDNN this takes
  milliseconds, where there is, a compilation once for each shape.
  """

  def total(q, k, v):
    out = jax.nn.dot_product_attention(q, k, v, implementation=implementation)
    return out.astype(jnp.float32).sum()

  example = jax.ShapeDtypeStruct((1, num_tokens, num_heads, width), dtype)
  forward_backward = jax.value_and_grad(total, argnums=(0, 1, 2))
  try:
    # Free of the mesh that the caller is tracing for.
    with jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), ())):
      jax.jit(forward_backward).lower(example, example, example).compile()
  except Exception as error:  # Whatever it is, the answer is XLA's form.
    logging.info("attention is not %s's: %s", implementation, error)
    return False
  return True
