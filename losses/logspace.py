# SPDX-License-Identifier: Apache-2.0
"""log(1 + sum exp x) and 1 - exp(-x), which these losses are made of.

With x_i = z_i - z_t over the wrong classes it is the NLL of class t, accurate
to a relative rounding error however confident the class is; logsumexp(z) - z_t
loses all digits of an NLL below 1e-7 z_t.
"""

import jax
import jax.numpy as jnp


def log1p_sum_exp(
  x: jax.Array, *, axis: int | tuple[int, ...] = -1, where=None
) -> jax.Array:
  """log(1 + sum_i exp(x_i)) over `axis`, counting only `where`.

  -inf is an absent term. Nothing present gives 0, with gradients of 0. Convex;
  the gradient is exp(x_i) / (1 + sum exp(x)).

  Args:
    x: floating, any shape.
    axis: what to sum over, one axis or several.
    where: boolean of the shape of x.

  Returns:
    x without `axis`.
  """
  # Not x > -inf: a NaN is present, and shows in the result.
  present = x != -jnp.inf
  if where is not None:
    present &= where
  # Absent terms are made finite first: 0 * inf in their gradient is NaN.
  x = jnp.where(present, x, 0)
  top = jax.lax.stop_gradient(
    jnp.max(x, axis=axis, keepdims=True, initial=0, where=present)
  )
  total = jnp.sum(jnp.exp(x - top), axis=axis, keepdims=True, where=present)
  # exp(-top) + total, less the 1 that log1p adds: exact where top is 0.
  log1p = jnp.log1p(total + jnp.expm1(-top))
  return jnp.squeeze(top + log1p, axis=axis)


def one_minus_exp(x: jax.Array) -> jax.Array:
  """1 - exp(-x): the probability 1 - p of nll = x, to all its digits.

  Its derivative exp(-x) keeps its digits too; JAX takes that of expm1 to be
  expm1 + 1, which is rounded to 0 for a small p.
  """
  is_small = x < 0.5
  small = -jnp.expm1(-jnp.where(is_small, x, 0))
  return jnp.where(is_small, small, 1 - jnp.exp(-x))
