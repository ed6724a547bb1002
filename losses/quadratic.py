# SPDX-License-Identifier: Apache-2.0
"""Quadratic programs over x >= 0 with as many unknowns as there are tasks.

Notation: H [n, n] symmetric and positive semi-definite, b [n]; the Gram matrix
of vectors g_i where u = g_0 + sum_i x_i g_i is to be short. x is a minimum of
x'Hx/2 - b'x over x >= 0 if and only if

  x >= 0,   w = b - Hx <= 0,   x'w = 0                                    (1)

Lawson and Hanson's active set (Solving Least Squares Problems, 1974, ch. 23):
solve H_PP z = b_P on a support P; while z has a negative entry, go from x
towards z up to the boundary and drop what is 0 there; else x = z, and the most
violated j of (1) joins P. Each round lowers the objective, so it ends.

What makes float32 enough, though a Gram matrix squares condition numbers:
scaling by powers of two, which is exact; residuals summed without rounding
error, so that w is known to more digits than H^-1; and a rank decision, since j
joins only if S_j, the square of the distance of g_j from the span of P, and the
change w_j^2 / S_j of |u|^2 are more than rounding. Parallel, opposed and zero
vectors are told in this way.

Limits: n is small (O(n^3) a round, about n rounds). Vectors nearer than
sqrt(2 n eps) to the span of others, an angle of 1e-3 in float32, count as in
it. x is a choice where the minimum is not unique; u is unique. The sums need a
compiler that does not reorder them; XLA does not, by default.
"""

import jax
import jax.numpy as jnp


@jax.jit  # or each call outside jit would compile its loops again
def nonnegative_argmin(h: jax.Array, b: jax.Array) -> jax.Array:
  """A minimum of x'Hx/2 - b'x over x >= 0, by equation 1.

  Args:
    h: [n, n] positive semi-definite, float32 or float64.
    b: [n] in the range of h.

  Returns:
    [n] at least 0; 0 where the diagonal of h is. Not differentiable.
  """
  n, eps = b.size, jnp.finfo(h.dtype).eps
  if not n:
    return b
  scale = _inverse_root(jnp.diagonal(h))
  h = h * scale[:, None] * scale[None, :]  # diagonal 0 or in [1/2, 2)
  b = b * scale
  _, exponent = jnp.frexp(jnp.max(jnp.abs(b)))
  b = jnp.ldexp(b, -exponent)
  tolerance = 2 * n * eps

  def unfinished(state):
    # Far more rounds than it takes; x is feasible whenever it stops.
    return ~state[2] & (state[3] < 10 * n + 10)

  def improve(state):
    x, support, _, rounds = state
    inverse, left = _sweep(h, support, tolerance)
    z = jax.lax.fori_loop(
      0,
      4,
      lambda _, z: z + _times(inverse, _residual(h, z, b)),
      jnp.zeros_like(b),
    )
    blocking = support & (z <= 0)
    inside = ~jnp.any(blocking)
    # The part of the way from x to z where entry i reaches 0.
    way = jnp.where(blocking, x / jnp.where(blocking & (x > z), x - z, 1), 1)
    step = jnp.min(way)
    dropped = blocking & (way <= step)
    boundary = jnp.where(dropped, 0, jnp.maximum(x + step * (z - x), 0))

    w = _residual(h, z, b)
    violated = ~support & (w > 0) & (left > tolerance)
    violated &= w**2 > (2 * eps) ** 2 * left
    worst = jnp.arange(n) == jnp.argmax(jnp.where(violated, w, -jnp.inf))
    return (
      jnp.where(inside, z, boundary),
      jnp.where(inside, support | (violated & worst), support & ~dropped),
      inside & ~jnp.any(violated),
      rounds + 1,
    )

  start = (jnp.zeros_like(b), jnp.zeros(n, bool), jnp.array(False), 0)
  x, *_ = jax.lax.while_loop(unfinished, improve, start)
  return jnp.ldexp(x * scale, exponent)


def _inverse_root(squares):
  """Powers of two near 1 / sqrt(squares), and 0 for 0."""
  _, exponent = jnp.frexp(squares)
  root = jnp.ldexp(jnp.ones_like(squares), -(exponent // 2))
  return jnp.where(squares > 0, root, 0)


def _times(matrix, vector):
  # Not a matmul, which accelerators round to fewer bits.
  return jnp.sum(matrix * vector[None, :], axis=-1)


def _sweep(h, support, tolerance):
  """The inverse of H_PP, 0 elsewhere, and the diagonal that remains.

  Gauss-Jordan elimination on the diagonal. Off the support the diagonal ends as
  S_j = H_jj - H_jP H_PP^-1 H_Pj. A pivot below the tolerance is not used.
  """
  n = support.size

  def pivot(k, state):
    a, used = state
    here = jnp.arange(n) == k
    use = support[k] & (a[k, k] > tolerance)
    p = jnp.where(use, a[k, k], 1)
    row = a[k] / p
    swept = a - row[:, None] * a[k][None, :]
    swept = jnp.where(here[:, None], row[None, :], swept)
    swept = jnp.where(here[None, :], row[:, None], swept)
    swept = jnp.where(here[:, None] & here[None, :], -1 / p, swept)
    return jnp.where(use, swept, a), used | (here & use)

  start = h, jnp.zeros(n, bool)
  swept, used = jax.lax.fori_loop(0, n, pivot, start)
  both = used[:, None] & used[None, :]
  return jnp.where(both, -swept, 0), jnp.diagonal(swept)


def _residual(h, x, b):
  """b - Hx as if in twice the precision.

  Halves of a significand have exact products, also where the compiler fuses
  them into sums; the sums carry their own errors (Ogita, Rump and Oishi 2005).
  """
  terms = [-p * q[None, :] for p in _halves(h) for q in _halves(x)]
  total = jnp.concatenate([b[:, None], *terms], axis=1)  # [n, 1 + 4 n]
  error = jnp.zeros_like(b)
  while total.shape[1] > 1:
    total = jnp.pad(total, ((0, 0), (0, total.shape[1] % 2)))
    left, right = jnp.split(total, 2, axis=1)
    total = left + right
    shift = total - left
    error += jnp.sum((left - (total - shift)) + (right - shift), axis=1)
  return total[:, 0] + error


def _halves(a):
  """a as a sum of two numbers of half the significand each."""
  info = jnp.finfo(a.dtype)
  upper = jax.lax.reduce_precision(a, info.nexp, (info.nmant - 1) // 2)
  return upper, a - upper
