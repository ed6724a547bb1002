# SPDX-License-Identifier: Apache-2.0
"""EXACT: the expected accuracy of noisy logits (arXiv 2205.09615).

Notation: mean logits mu [..., C], label y, noise n of scale sigma,

  P = Pr(mu_y + sigma n_y > mu_i + sigma n_i for all i != y)              (1)
  Delta_i = (mu_y - mu_i) / sigma,  i != y                                (2)

and the loss is 1 - P. Given the noise of y the others are independent, so for
Gaussian noise P is one integral (kexue.fm post 10145),

  P = E prod_i Phi(Delta_i + e),  e ~ N(0, 1)                             (3)
  dP/dDelta_i = E phi(Delta_i + e) prod_{k != i} Phi(Delta_k + e)         (4)

by Gauss-Hermite quadrature: no random key, C = 2 is Phi(Delta / sqrt 2). For
Gumbel noise P is softmax(mu / tau)_y. P sums to 1 over y. sigma -> 0 is the
accuracy, sigma -> infinity is P = 1/C; the gradient of either vanishes, so the
authors shrink sigma as they train, and normalise the logits and the gradients:
see `standardize_logits`, `sigma_schedule`, `scale_by_norm_ema`.

Results are float32, or float64 for float64.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
from numpy.polynomial import hermite_e

from losses import checks
from losses import logspace

# Beyond, Phi(Delta + e) is 0 or 1 to float32 at every node, as |e| < 9.
_FAR = 40.0


def expected_accuracy_loss(
  logits: chex.Array,
  labels: chex.Array,
  *,
  sigma: chex.Numeric = 1.0,
  margin: chex.Numeric | None = None,
  num_nodes: int = 128,
  where: chex.Array | None = None,
) -> jax.Array:
  """EXACT, 1 - P of (3), for Gaussian noise (arXiv 2205.09615).

    L = 1 - E prod_{i != y} Phi(min(mu_y - mu_i, margin) / sigma + e)

  Gradient: with G_i = dP/dDelta_i of (4), G_i / sigma on mu_i, their negative
  sum on mu_y and sum_i Delta_i G_i / sigma on sigma. It vanishes on confident
  mistakes. Value and gradient take O(num_nodes C) time and O(C) memory an
  example, second derivatives O(num_nodes C) memory.

  Relative error of P at most, over Delta of -2, 0, 2, 4 and random ones:

    nodes  C = 10   C = 100  C = 1000
    32     1.7e-5   1.2e-2   1e-1
    64     3e-9     3e-4     5e-3
    128    1e-13    1e-6     2e-4

  The authors' estimator with 16 samples has, at Delta = 0, a relative standard
  deviation of 22 %, 100 % and 310 %. Their vision runs have margins of 0.5 and
  5 and sigma from 10 to 0.01-1 (in their code the variance, 100 to 1e-4-1).

  Args:
    logits: [..., C]; -inf is a class that does not exist.
    labels: [...] integers in [0, C).
    sigma: above 0, in units of the logits, scalar or broadcastable to labels;
      may be traced or learned.
    margin: at least 0, in units of the logits, scalar or broadcastable to
      labels: a lead beyond it counts no more and has no gradient. None is no
      margin.
    num_nodes: of the quadrature, 1 to 256. Those of negligible weight are not
      evaluated: 58 of 128 are.
    where: boolean, broadcastable to logits: the classes that exist.

  Returns:
    [...] in [0, 1] up to rounding; 0 if no class exists or y alone does, 1 if
    others do but not y. NaN for a label outside [0, C) under jit.

  Raises:
    ValueError: if `logits` is not floating point, `labels` are not integers of
      its leading shape and among the classes that exist, or another argument
      is out of its range.

  >>> logits = jnp.array([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
  >>> labels = jnp.array([0, 1])
  >>> print(losses.expected_accuracy_loss(logits, labels))
  [0.3663 0.8169]
  >>> print(losses.expected_accuracy_loss(logits, labels, sigma=0.1))
  [0. 1.]
  """
  gap, rival, certain = _gaps(logits, labels, where)
  checks.positive("sigma", sigma)
  sigma = checks.parameter("sigma", sigma, 0, jnp.inf, like=certain)[..., None]
  checks.whole_number("num_nodes", num_nodes, 1)
  checks.between("num_nodes", num_nodes, 1, 256)
  if margin is not None:
    margin = checks.parameter("margin", margin, 0, jnp.inf, like=certain)
    gap = jnp.minimum(gap, margin[..., None])
  # A class that always loses: its factor in (3) is 1, its gradient 0.
  delta = jnp.where(rival, gap / sigma, jnp.inf)
  return jnp.where(certain == 0, _error(delta, num_nodes), certain)


def gumbel_expected_accuracy_loss(
  logits: chex.Array,
  labels: chex.Array,
  *,
  tau: chex.Numeric = 1.0,
  where: chex.Array | None = None,
) -> jax.Array:
  """EXACT for Gumbel noise of scale tau (kexue.fm post 10145).

    L = 1 - softmax(mu / tau)_y

  It is `smooth_accuracy_loss`, from logits. Gradient on the logits:
  p_y (p - onehot_y) / tau, which is p_y times that of cross-entropy. `tailr`
  interpolates between the two.

  Args:
    logits: [..., C]; -inf is a class that does not exist.
    labels: [...] integers in [0, C).
    tau: above 0, in units of the logits, scalar or broadcastable to labels; may
      be traced or learned.
    where: boolean, broadcastable to logits: the classes that exist.

  Returns:
    [...] in [0, 1]; 0 if no class exists or y alone does, 1 if others do but
    not y. NaN for a label outside [0, C) under jit.

  Raises:
    ValueError: as `expected_accuracy_loss`.

  >>> logits, labels = jnp.array([[1.0, 0.0, 0.0]]), jnp.array([0])
  >>> print(losses.gumbel_expected_accuracy_loss(logits, labels))
  [0.4239]
  """
  gap, rival, certain = _gaps(logits, labels, where)
  checks.positive("tau", tau)
  tau = checks.parameter("tau", tau, 0, jnp.inf, like=certain)[..., None]
  nll = logspace.log1p_sum_exp(-gap / tau, where=rival)
  return jnp.where(certain == 0, logspace.one_minus_exp(nll), certain)


def _gaps(logits, labels, where):
  """mu_y - mu_i [..., C], which i compete with y, and a certain loss [...].

  The last is 1 where y does not exist but others do, NaN where y is no class
  at all, and 0 where it is the noise that decides.
  """
  logits = checks.as_float("logits", logits)
  checks.rank_at_least("logits", logits, 1, "[..., C]")
  labels = checks.as_integer("labels", labels)
  *batch, num_classes = logits.shape
  checks.shape("labels", labels, (*batch,), f"{(*batch,)} of logits")
  where = checks.as_mask("where", where, logits.shape)
  checks.class_labels(labels, num_classes, where=where.any(-1))
  is_label = jax.nn.one_hot(labels, num_classes, dtype=bool)
  checks.on_present("labels", is_label & where.any(-1, keepdims=True), where)

  exists = where & (logits != -jnp.inf)
  logits = jnp.where(exists, logits, 0)
  mu_y = jnp.sum(logits, axis=-1, keepdims=True, where=is_label)
  rival = exists & ~is_label
  # A label that does not exist loses to any class that does.
  is_lost = rival.any(-1) & ~(exists & is_label).any(-1)
  is_class = is_label.any(-1) | ~where.any(-1)
  certain = jnp.where(is_class, is_lost.astype(logits.dtype), jnp.nan)
  return mu_y - logits, rival, certain


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def _error(delta, num_nodes):
  """1 - P of (3) for Delta [..., C], in which y itself has +inf."""
  return _error_and_slope(delta, num_nodes)[0]


@_error.defjvp
def _error_jvp(num_nodes, primals, tangents):
  # Autodiff of the quadrature would keep [..., C] for each node.
  error, slope = _error_and_slope(primals[0], num_nodes)
  return error, jnp.sum(slope * tangents[0], axis=-1)


@functools.partial(jax.jit, static_argnums=1)
def _error_and_slope(delta, num_nodes):
  """1 - P and its derivative -(4), [...] and [..., C], node by node."""
  delta = jnp.clip(delta, -_FAR, _FAR)
  log_sqrt_2_pi = 0.5 * np.log(2 * np.pi)

  def add_node(carry, node):
    error, slope = carry
    e, weight = node
    x = delta + e
    log_cdf = _log_cdf(x)
    log_product = jnp.sum(log_cdf, axis=-1, keepdims=True)
    # The weights sum to 1. Summing 1 - product keeps the digits of small ones.
    error -= weight * jnp.expm1(log_product[..., 0])
    log_pdf = -(x**2) / 2 - log_sqrt_2_pi
    slope -= weight * jnp.exp(log_product - log_cdf + log_pdf)
    return (error, slope), None

  # Of the sharding of delta, which the carry must have from the start.
  zeros = jnp.zeros_like(delta)
  start = (zeros.sum(-1), zeros)
  nodes = [a.astype(delta.dtype) for a in _gauss_hermite(num_nodes)]
  return jax.lax.scan(add_node, start, nodes)[0]


def _log_cdf(x):
  """log Phi(x) with all its digits, bounded from below.

  jax.scipy.special.log_ndtr has, for 0 < x < 5, the logarithm of a number near
  1, and so no digits of 1 - P below 1e-7.
  """
  # Phi(-|x|), without the derivative of |x| at 0.
  root_half = np.sqrt(0.5).astype(x.dtype)
  tail = jax.lax.erfc(jnp.where(x > 0, x, -x) * root_half) / 2
  # tiny is 0 to a tail that is used, and makes the others' logarithm finite; as
  # a factor of (3) it makes any product 0 for all purposes.
  tiny = jnp.finfo(x.dtype).tiny
  return jnp.where(x > 0, jnp.log1p(-tail), jnp.log(tail + tiny))


@functools.cache
def _gauss_hermite(num_nodes: int) -> tuple[np.ndarray, np.ndarray]:
  """Nodes and weights of N(0, 1) in float64, without negligible ones."""
  nodes, weights = hermite_e.hermegauss(num_nodes)
  weights /= weights.sum()
  # What is integrated is at most 1: these are below the rounding of float64.
  kept = weights > 1e-16
  return nodes[kept], weights[kept]
