# SPDX-License-Identifier: Apache-2.0
"""One direction for several tasks, from the inner products of their gradients.

Notation: gradients g_1 ... g_n of the tasks on the shared parameters, their
Gram matrix G_ij = <g_i, g_j> (`gram_matrix`), and coefficients a of

  u = sum_i a_i g_i,   a step being -u                                    (1)

so <u, g_i> = (G a)_i, and task i does not get worse, to first order, where that
is at least 0. Two tasks conflict if G_ij < 0.

  sum of gradients      a = 1                     may oppose a task
  inverse norms         a_i = 1 / |g_i|           may oppose a task
  min-norm (MGDA)       the shortest u with       opposes none; 0 only where
                        a >= 0, sum a = 1         no direction helps all
  primary / secondary   g_0 on the dual cone of   opposes none, all its progress
                        the others                is on task 0
  UPGrad                the mean of each g_i on   opposes none
                        the dual cone of all
  PCGrad                pairwise projections      may oppose one if n > 2

The dual cone of vectors is {u : <u, g_i> >= 0 for all of them}. Projecting g on
it is min |g + sum_i x_i g_i|^2 over x >= 0: it needs G alone, and is solved on
device, under jit and vmap (`quadratic`).

Every function takes G [n, n] and returns a [n] in float32 (float64 for float64)
without gradients; NaN if an entry of G is not finite. vmap over several G.

Limits: G in float32 cannot tell a gradient from those in the span of others at
less than an angle of 1e-3, which are taken to be in it. Of random sets of 2 to
6 gradients in R^3 to R^20, the projection is wrong by more than 1e-5 |g_0| for
1 in 2,000, by the rounding of G alone, and for 1 in 100,000 where G is exact.
Entries of G below 1e-38 are 0: scale losses that are that small.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from losses import checks
from losses import quadratic


def inverse_norm_weights(gram: chex.Array) -> jax.Array:
  """a_i = 1 / |g_i|: the sum of normalised gradients (kexue.fm post 8870).

  It does not change when a loss is multiplied by a positive number nor when a
  constant is added to it, unlike `real_time_weighting`. For moving averages of
  the norms, pass a Gram matrix whose diagonal they are the squares of.

  Args:
    gram: [n, n] inner products of the gradients.

  Returns:
    [n] at least 0; 0 for a zero gradient.

  Raises:
    ValueError: if `gram` is not floating point or not square.

  >>> gram = jnp.array([[4.0, -1.0], [-1.0, 0.25]])
  >>> print(losses.inverse_norm_weights(gram))
  [0.5 2. ]
  """
  gram = _as_gram(gram)
  square = jnp.diagonal(gram)
  root = jax.lax.rsqrt(jnp.where(square > 0, square, 1))
  return _if_finite(gram, jnp.where(square > 0, root, 0))


def min_norm_weights(
  gram: chex.Array, *, scales: chex.Array | None = None
) -> jax.Array:
  """The shortest convex combination of gradients (kexue.fm post 8896, MGDA).

    min |u|^2,  u = sum_i alpha_i g_i / s_i,  alpha >= 0,  sum alpha = 1
    a_i = alpha_i / s_i

  The dual of max_u min_i <g_i / s_i, u> - |u|^2 / 2. Hence
  <g_i, u> >= s_i |u|^2: all tasks improve, unless u = 0, which is where no
  direction improves all (Pareto stationary; arXiv 1810.04650). A zero gradient
  makes u = 0. For two, alpha_1 = clip(<g_2 - g_1, g_2> / |g_1 - g_2|^2, 0, 1).

  Without scales the task with the smallest gradient decides. Post 8896 divides
  by the norms: scales = sqrt(diag G). For losses as scales, give the gradients
  of log L_i instead of L_i. Where the |g_i| / s_i differ by more than 1e3,
  float32 may miss that the large ones cancel: u is then at most the smallest.

  DEVIATION: isl-org/MultiObjectiveOptimization finds alpha with scales and then
  weights the losses by alpha alone, by which u can oppose a task.

  Args:
    gram: [n, n] inner products of the gradients.
    scales: [n] s, at least 0; None is 1. 0 counts as 1, so that the scale of a
      zero gradient can be its norm.

  Returns:
    [n] a, at least 0, with sum_i a_i s_i = 1.

  Raises:
    ValueError: if `gram` is not floating point or not square, or `scales` has
      another size or a negative number.

  >>> gram = jnp.array([[1.0, -1.0], [-1.0, 2.0]])  # of (1, 0) and (-1, 1)
  >>> print(losses.min_norm_weights(gram))
  [0.6 0.4]
  """
  gram = _as_gram(gram)
  n = gram.shape[0]
  scales = checks.as_float("scales", jnp.ones(n) if scales is None else scales)
  checks.shape("scales", scales, (n,), f"[{n}], one for each task")
  checks.between("scales", scales, 0, np.inf)
  scales = jax.lax.stop_gradient(scales).astype(gram.dtype)
  inverse = 1 / jnp.where(scales > 0, scales, 1)
  gram = gram * inverse[:, None] * inverse[None, :]
  # x >= 0 minimising x'Gx + (sum x - 1)^2 is alpha / (1 + |u|^2). The smallest
  # gradient, which |u| is at most, is made 1, so that the two terms compare.
  square = jnp.diagonal(gram)
  least = jnp.min(jnp.where(square > 0, square, jnp.inf))
  least = jnp.where(jnp.isfinite(least), least, 1)
  # By a power of two: the reciprocal of a large number would be 0. Where that
  # made sums of the largest ones infinite, the smallest stays below 1.
  _, exponent = jnp.frexp(least)
  _, exponent_of_largest = jnp.frexp(jnp.max(square))
  exponent = jnp.maximum(exponent, exponent_of_largest - 120)
  gram = jnp.ldexp(gram, -exponent)
  x = quadratic.nonnegative_argmin(gram + 1, jnp.ones_like(square))
  return _if_finite(gram, x / jnp.sum(x) * inverse)


def primary_secondary_weights(gram: chex.Array) -> jax.Array:
  """The nearest direction to g_0 that no other task opposes (kexue.fm 8907).

    min |g_0 - u|^2  subject to  <u, g_i> >= 0,  i = 1 ... n - 1
    u = g_0 + sum_i x_i g_i,  x >= 0;  a = (1, x)

  Task 0 is the primary one, the others are constraints: a task, weight decay
  (g_i = the parameters, whose norm then never grows), the loss on a few clean
  labels. <u, g_0> = |u|^2 >= 0. u = 0 where -g_0 is in the cone of the
  auxiliaries: then nothing moves, so log the norm of u. With one auxiliary,
  x = max(0, -<g_0, g_1>) / |g_1|^2 (A-GEM, arXiv 1812.00420); with more it is
  the projection of GEM (arXiv 1706.08840). Meant for raw gradients, before
  Adam; of a gradient that Adam has changed it promises nothing.

  Args:
    gram: [n, n] inner products of the gradients, the primary one first.

  Returns:
    [n] a: a_0 = 1, the others at least 0; 0 for a zero auxiliary gradient.

  Raises:
    ValueError: if `gram` is not floating point or not square.

  >>> gram = jnp.array([[1.0, -1.0], [-1.0, 2.0]])  # of (1, 0) and (-1, 1)
  >>> print(losses.primary_secondary_weights(gram))
  [1.  0.5]
  """
  gram = _as_gram(gram)
  x = quadratic.nonnegative_argmin(gram[1:, 1:], -gram[1:, 0])
  return _if_finite(gram, jnp.concatenate([jnp.ones(1, gram.dtype), x]))


def upgrad_weights(gram: chex.Array) -> jax.Array:
  """The mean of the projections of all g_i on the dual cone (arXiv 2406.16232).

  UPGrad of Jacobian descent: row i of it is `primary_secondary_weights` with
  task i as the primary one. Nothing is regularised, where TorchJD adds 1e-4.

  Args:
    gram: [n, n] inner products of the gradients.

  Returns:
    [n] a, at least 1 / n.

  Raises:
    ValueError: if `gram` is not floating point or not square.

  >>> gram = jnp.array([[1.0, -1.0], [-1.0, 2.0]])  # of (1, 0) and (-1, 1)
  >>> print(losses.upgrad_weights(gram))
  [1.   0.75]
  """
  gram = _as_gram(gram)
  argmin = jax.vmap(quadratic.nonnegative_argmin, in_axes=(None, 0))
  rows = jnp.eye(len(gram), dtype=gram.dtype) + argmin(gram, -gram)
  return _if_finite(gram, jnp.mean(rows, axis=0))


def pcgrad_weights(gram: chex.Array, rng: chex.PRNGKey) -> jax.Array:
  """PCGrad, for comparison (arXiv 2001.06782, algorithm 1).

  From each g_i take away, over the other tasks j in random order, its part
  along g_j where <., g_j> < 0; then add all. With more than two tasks a later
  projection can undo an earlier one, and the sum depends on the order.

  Args:
    gram: [n, n] inner products of the gradients.
    rng: key of the n orders.

  Returns:
    [n] a, at least 1. A sum: about n times a mean.

  Raises:
    ValueError: if `gram` is not floating point or not square.

  >>> gram = jnp.array([[1.0, -1.0], [-1.0, 2.0]])  # of (1, 0) and (-1, 1)
  >>> print(losses.pcgrad_weights(gram, jax.random.key(0)))
  [2.  1.5]
  """
  gram = _as_gram(gram)
  return _if_finite(gram, _pcgrad(gram, rng))


def gradient_cosines(gram: chex.Array) -> jax.Array:
  """cos(g_i, g_j), to log; negative where two tasks conflict.

  Args:
    gram: [n, n] inner products of the gradients.

  Returns:
    [n, n] in [-1, 1]; 0 in the row and column of a zero gradient.

  Raises:
    ValueError: if `gram` is not floating point or not square.

  >>> gram = jnp.array([[4.0, -1.0], [-1.0, 1.0]])
  >>> print(losses.gradient_cosines(gram))
  [[ 1.  -0.5]
   [-0.5  1. ]]
  """
  gram = _as_gram(gram)
  inverse = inverse_norm_weights(gram)
  return jnp.clip(gram * inverse[:, None] * inverse[None, :], -1, 1)


def _as_gram(gram):
  gram = jax.lax.stop_gradient(checks.as_float("gram", gram))
  meaning = "[n, n], the inner products of n gradients"
  checks.rank_at_least("gram", gram, 2, meaning)
  checks.shape("gram", gram, (len(gram), len(gram)), meaning)
  if not gram.size:
    raise ValueError(f"gram has shape {gram.shape}; there must be a task")
  return gram


def _if_finite(gram, weights):
  """All NaN otherwise: comparisons with NaN would hide a broken gradient."""
  return jnp.where(jnp.isfinite(gram).all(), weights, jnp.nan)


@jax.jit  # or each call outside jit would compile its loop again
def _pcgrad(gram, rng):
  n = gram.shape[0]
  square = jnp.diagonal(gram)

  def project(i, rng):
    def project_off(a, j):
      inner = jnp.sum(a * gram[j])
      conflict = (inner < 0) & (j != i) & (square[j] > 0)
      part = inner / jnp.where(conflict, square[j], 1)
      return a - jnp.where(conflict, part, 0) * (jnp.arange(n) == j), None

    start = (jnp.arange(n) == i).astype(gram.dtype)
    order = jax.random.permutation(rng, n)
    return jax.lax.scan(project_off, start, order)[0]

  rows = jax.vmap(project)(jnp.arange(n), jax.random.split(rng, n))
  return jnp.sum(rows, axis=0)
