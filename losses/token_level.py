# SPDX-License-Identifier: Apache-2.0
"""Losses of one class against all others: maps of the per-token NLL.

Notation: logits z [..., V], target t, p = softmax(z) and

  nll = -log p_t        [...], at least 0                                 (1)

Every loss here takes the nll, not the logits, and is elementwise. So it works
on whatever computes an nll: for small V, optax's
softmax_cross_entropy_with_integer_labels (of float32 logits); for large V,
`losses.linear_nll`, which never holds all logits. An ignored token has nll 0,
hence loss 0 and gradient 0; average with sum(loss) / max(sum(mask), 1).

The gradient of f(nll) on the logits is f'(nll) (p - onehot_t): a method is its
choice of the weight f'.

  method                      f'                          as p_t -> 0
  cross-entropy               1                           1
  smooth accuracy             p_t                         0
  TaiLr                       p_t / (gamma+(1-gamma)p_t)  0, or min_weight
  generalised cross-entropy   p_t^q                       0
  focal                       (1-p_t)^gamma + ...         1

Results are float32, or float64 for float64.
"""

import chex
import jax
import jax.numpy as jnp

from losses import checks
from losses import logspace


def smooth_accuracy_loss(nll: chex.Array) -> jax.Array:
  """1 - p_t: how often a sample from p is wrong.

  The limit gamma = 1 of TaiLr and q = 1 of the generalised cross-entropy; EXACT
  under Gumbel noise (kexue.fm posts 6620, 9098, 10145). Gradient on the logits:
  p_t (p - onehot_t), which vanishes on confident mistakes, so it is for
  fine-tuning after cross-entropy.

  Args:
    nll: [...] at least 0.

  Returns:
    [...] in [0, 1].

  Raises:
    ValueError: if `nll` is not floating point.

  >>> print(losses.smooth_accuracy_loss(jnp.array([0.0, 0.5, 9.0])))
  [0.     0.3935 0.9999]
  """
  return logspace.one_minus_exp(checks.nll("nll", nll))


def tailr(
  nll: chex.Array, *, gamma: chex.Numeric, min_weight: chex.Numeric = 0.0
) -> jax.Array:
  """TaiLr, between cross-entropy and total variation (arXiv 2302.13344).

    L = -log(gamma + (1 - gamma) p_t) / (1 - gamma)

  gamma = 0 is the cross-entropy, gamma = 1 is 1 - p_t. The closed form is of
  kexue.fm post 9526; its gradient on the logits, w (p - onehot_t) with
  w = p_t / (gamma + (1 - gamma) p_t), is that of the authors' -sg[w] log p_t.

  The authors clip w from below at min_weight; without that, confident mistakes
  have no gradient. Here the loss has that clipped gradient and is its integral:
  where p_t < p_0 = min_weight gamma / (1 - min_weight (1 - gamma)), it goes on
  in a straight line of slope min_weight in the nll.

  The authors' (gamma, min_weight): translation (.1, .3), summarisation
  (.8, .2), open-ended generation (1e-7, .2). gamma has no default, since its
  best value differs that much.

  Args:
    nll: [...] at least 0.
    gamma: in [0, 1], scalar or broadcastable; may be traced.
    min_weight: in [0, 1]; 0 is the pure loss.

  Returns:
    [...] in [0, -log(gamma) / (1 - gamma)] if min_weight is 0.

  Raises:
    ValueError: if `nll` is not floating point, or `gamma` or `min_weight` is
      outside [0, 1].

  >>> nll = jnp.array([0.1, 1.0, 10.0])
  >>> print(losses.tailr(nll, gamma=0.1, min_weight=0.3))
  [0.0995 0.9349 4.2512]
  """
  nll = checks.nll("nll", nll)
  gamma = checks.parameter("gamma", gamma, 0, 1, like=nll)
  min_weight = checks.parameter("min_weight", min_weight, 0, 1, like=nll)

  # p_0 > 0 only if both are; 1 - w (1 - gamma) without its cancellation.
  has_tail = (gamma > 0) & (min_weight > 0)
  g, w = (jnp.where(has_tail, x, 1) for x in (gamma, min_weight))
  log_p_0 = jnp.log(w) + jnp.log(g) - jnp.log((1 - w) + w * g)
  # Where the tail begins does not change the loss to first order.
  nll_0 = jax.lax.stop_gradient(jnp.where(has_tail, -log_p_0, jnp.inf))
  in_tail = nll > nll_0
  beyond = jnp.where(in_tail, nll - jnp.where(in_tail, nll_0, 0), 0)
  # Not by a minimum, which at two infinities would have half a slope.
  before = jnp.where(in_tail, nll_0, nll)
  return _tailr_closed_form(before, gamma) + w * beyond


def _tailr_closed_form(nll, gamma):
  """-log(gamma + c p) / c with c = 1 - gamma, each branch where it is exact."""
  c = 1 - gamma
  m = logspace.one_minus_exp(nll)  # 1 - p
  # gamma -> 1: the series in c has a derivative in gamma; the quotient has not.
  series = m * (1 + c * m / 2 + (c * m) ** 2 / 3)
  is_one = c < 1e-4
  c = jnp.where(is_one, 0.5, c)
  # p -> 1: the logarithm is near 0, and -log1p(-c m) keeps its digits.
  is_near = c * m < 0.5
  near = -jnp.log1p(-jnp.where(is_near, c * m, 0)) / c
  is_zero = gamma == 0
  log_gamma = jnp.log(jnp.where(is_zero, 0.5, gamma))
  far = -jnp.logaddexp(log_gamma, jnp.log(c) - nll) / c
  far = jnp.where(is_zero, nll, far)
  return jnp.where(is_one, series, jnp.where(is_near, near, far))


def generalized_cross_entropy(nll: chex.Array, *, q: chex.Numeric) -> jax.Array:
  """(1 - p_t^q) / q, robust to label noise (arXiv 1805.07836).

  q -> 0 is the cross-entropy, q = 1 is 1 - p_t; the authors use q = 0.7
  (memory). Gradient on the logits: p_t^q (p - onehot_t).

  Args:
    nll: [...] at least 0.
    q: in [0, 1], scalar or broadcastable.

  Returns:
    [...] in [0, 1/q].

  Raises:
    ValueError: if `nll` is not floating point or `q` is outside [0, 1].

  >>> nll = jnp.array([0.1, 1.0, 10.0])
  >>> print(losses.generalized_cross_entropy(nll, q=0.7))
  [0.0966 0.7192 1.4273]
  """
  nll = checks.nll("nll", nll)
  q = checks.parameter("q", q, 0, 1, like=nll)
  safe_q = jnp.where(q > 0, q, 1)
  return jnp.where(q > 0, logspace.one_minus_exp(safe_q * nll) / safe_q, nll)


def focal(nll: chex.Array, *, gamma: chex.Numeric = 2.0) -> jax.Array:
  """(1 - p_t)^gamma nll, less weight for what is right (arXiv 1708.02002).

  The multi-class form, without class weights; for the sigmoid one see
  optax.losses.sigmoid_focal_loss. Gradient on the logits: f' (p - onehot_t),
  f' = (1 - p_t)^gamma + gamma p_t (1 - p_t)^(gamma - 1) nll.

  Args:
    nll: [...] at least 0.
    gamma: at least 0, scalar or broadcastable; 0 is the cross-entropy, the
      paper has 2.

  Returns:
    [...] at least 0.

  Raises:
    ValueError: if `nll` is not floating point or `gamma` is negative.

  >>> print(losses.focal(jnp.array([0.1, 1.0, 10.0])))
  [0.0009 0.3996 9.9991]
  """
  nll = checks.nll("nll", nll)
  gamma = checks.parameter("gamma", gamma, 0, jnp.inf, like=nll)
  # The slope is 0 at nll = 0 (of gamma = 0 taken so) and 1 at inf, but neither
  # 0^gamma nor 0 * inf has a derivative there.
  is_zero, is_inf = nll == 0, nll == jnp.inf
  inside = jnp.where(is_zero | is_inf, 1, nll)
  inside = logspace.one_minus_exp(inside) ** gamma * inside
  return jnp.where(is_inf, nll, jnp.where(is_zero, 0, inside))


def label_smoothing(
  nll: chex.Array, uniform_nll: chex.Array, *, smoothing: chex.Numeric
) -> jax.Array:
  """Cross-entropy with (1 - smoothing) onehot_t + smoothing / V.

    L = (1 - smoothing) nll + smoothing uniform_nll

  For integer labels, without any one-hot array (arXiv 1512.00567). Gradient on
  the logits: p - (1 - smoothing) onehot_t - smoothing / V.

  Args:
    nll: [...] at least 0.
    uniform_nll: [...] the mean of -log p_i over the classes: of
      `losses.uniform_nll` or of `losses.linear_nll_terms`.
    smoothing: in [0, 1]; 0.1 is usual.

  Returns:
    [...] at least 0.

  Raises:
    ValueError: if an array is not floating point, the shapes differ, or
      `smoothing` is outside [0, 1].

  >>> logits, labels = jnp.array([[2.0, 0.0, 1.0]]), jnp.array([0])
  >>> nll = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
  >>> uniform_nll = losses.uniform_nll(logits)
  >>> print(losses.label_smoothing(nll, uniform_nll, smoothing=0.1))
  [0.5076]
  """
  nll = checks.nll("nll", nll)
  uniform_nll = checks.nll("uniform_nll", uniform_nll)
  checks.shape("uniform_nll", uniform_nll, nll.shape, f"{nll.shape} of nll")
  smoothing = checks.parameter("smoothing", smoothing, 0, 1, like=nll)
  return (1 - smoothing) * nll + smoothing * uniform_nll


def uniform_nll(
  logits: chex.Array, *, where: chex.Array | None = None
) -> jax.Array:
  """The mean of -log p_i over the classes, for `label_smoothing`.

  Args:
    logits: [..., V]; -inf is a class that does not exist.
    where: boolean, broadcastable to logits: the classes that exist. The others
      get no part of the smoothing.

  Returns:
    [...] at least log of the number of classes; 0 where there is none.

  Raises:
    ValueError: if `logits` is not floating point or `where` does not fit.

  >>> print(losses.uniform_nll(jnp.array([[2.0, 0.0, 1.0]])))
  [1.4076]
  """
  logits = checks.as_float("logits", logits)
  checks.rank_at_least("logits", logits, 1, "[..., V]")
  where = checks.as_mask("where", where, logits.shape) & (logits != -jnp.inf)
  # Finite before log_softmax, so that no gradient is inf - inf.
  log_p = jax.nn.log_softmax(jnp.where(where, logits, 0), where=where)
  total = jnp.sum(jnp.where(where, -log_p, 0), axis=-1)
  return total / jnp.maximum(where.sum(-1), 1)


def logit_adjustment(
  prior: chex.Array, *, tau: chex.Numeric = 1.0, floor: float = 1e-8
) -> jax.Array:
  """tau log prior, to add to the logits in training (arXiv 2007.07314).

  The nll of z + tau log prior is log(1 + sum_i (prior_i / prior_t)^tau
  exp(z_i - z_t)): large margins for rare classes. Predict with z alone for
  balanced accuracy, with the sum for plain accuracy. For large V pass it to
  `losses.linear_nll` as `offset`.

  Args:
    prior: [V] how frequent each class is, at least 0 and not all 0;
      probabilities or counts.
    tau: strength, at least 0; 1 is consistent for the balanced error.
    floor: the least relative frequency, above 0, so that an unseen class is
      finite.

  Returns:
    [V], at most 0.

  Raises:
    ValueError: if `prior` is not floating point, negative or all 0, `tau` is
      negative or `floor` not positive.

  >>> print(losses.logit_adjustment(jnp.array([0.9, 0.1])))
  [-0.1054 -2.3026]
  """
  prior = checks.as_float("prior", prior)
  checks.rank_at_least("prior", prior, 1, "[V]")
  checks.between("prior", prior, 0, jnp.inf)
  checks.between("tau", tau, 0, jnp.inf)
  checks.positive("floor", floor)
  total = prior.sum(-1, keepdims=True)
  checks.positive("the sum of prior", total)
  prior = prior / total
  return tau * jnp.log(jnp.maximum(prior, floor))
