# SPDX-License-Identifier: Apache-2.0
"""How far two predictions for one input are apart: symmetric KL and R-Drop.

Notation: logits s and t of two passes, p = softmax(s), q = softmax(t).

  KL(p || q) + KL(q || p) = <p - q, s - t>                                (1)
  D(s, t) = sum_i (sigmoid(a s_i) - sigmoid(a t_i)) a (s_i - t_i)         (2)

(2) treats each class as a binary decision of its own and adds up their
symmetric KLs. It is for multi-label scores, such as those of GlobalPointer
(kexue.fm post 9039). Adding one number to all logits changes (2) but not (1).
Both are symmetric, at least 0, and 0 only where the predictions agree.

Where p and q nearly agree, a plain difference would cancel. So p - q is
computed as (p + q) tanh(d / 2) and KL(p || q) as sum p (d + exp(-d) - 1), with
d = log p - log q. Then no term is negative. What remains is the rounding of d:
in float32 logit differences of 1e-3 give a KL to about 3 digits.

A class whose logit is -inf in either argument is left out of both. Results are
float32, or float64 for float64.
"""

import chex
import jax
import jax.numpy as jnp

from losses import checks


def softmax_kl(
  logits1: chex.Array,
  logits2: chex.Array,
  *,
  where: chex.Array | None = None,
) -> jax.Array:
  """KL(p || q) of two softmax predictions, from their logits.

    KL = sum_i p_i (log p_i - log q_i)

  The default divergence of `losses.virtual_adversarial_loss`. Gradient: q - p
  on logits2, and p_i (log p_i - log q_i - KL) on logits1.

  Args:
    logits1: [..., C] of p; -inf is a class that does not exist.
    logits2: [..., C] of q.
    where: boolean, broadcastable to logits1: the classes that exist.

  Returns:
    [...] at least 0; 0 where no class exists.

  Raises:
    ValueError: if the logits are not floating point or shapes do not fit.

  >>> logits1 = jnp.array([[1.0, 0.0], [3.0, -3.0]])
  >>> print(losses.softmax_kl(logits1, jnp.zeros((2, 2))))
  [0.1109 0.6758]
  """
  s, t, exists = _both(logits1, logits2, where)
  log_p, log_q = _log_softmax(s, exists), _log_softmax(t, exists)
  p, q, d = jnp.exp(log_p), jnp.exp(log_q), log_p - log_q
  # sum (q - p) = 0 is added: the terms p d alone have both signs and cancel.
  # exp(-d) overflows where q is far above p; there q - p does not cancel.
  is_near = jnp.abs(d) < 1
  near_d = jnp.where(is_near, d, 0)
  near = p * (near_d + jnp.expm1(-near_d))
  return jnp.sum(jnp.where(is_near, near, p * d + q - p), -1, where=exists)


def symmetric_kl(
  logits1: chex.Array,
  logits2: chex.Array,
  *,
  where: chex.Array | None = None,
) -> jax.Array:
  """KL(p || q) + KL(q || p) of two softmax predictions (kexue.fm post 9039).

    D = <p - q, s - t>

  The sum of both directions; some authors take half of it. Gradient on s:
  p_i (d_i - <p, d>) + p_i - q_i with d = s - t. On t it is the same with s and
  t exchanged.

  Args:
    logits1: [..., C] s; -inf is a class that does not exist.
    logits2: [..., C] t.
    where: boolean, broadcastable to logits1: the classes that exist.

  Returns:
    [...] at least 0; 0 where no class exists.

  Raises:
    ValueError: if the logits are not floating point or shapes do not fit.

  >>> logits1 = jnp.array([[1.0, 0.0, -jnp.inf], [3.0, -3.0, 0.0]])
  >>> logits2 = jnp.array([[0.0, 0.0, -jnp.inf], [3.0, -3.0, 0.0]])
  >>> print(losses.symmetric_kl(logits1, logits2))
  [0.2311 0.    ]
  """
  s, t, exists = _both(logits1, logits2, where)
  log_p, log_q = _log_softmax(s, exists), _log_softmax(t, exists)
  # <p - q, s - t>: a constant added to s - t has no effect, as sum (p - q) = 0.
  difference = log_p - log_q
  p_minus_q = (jnp.exp(log_p) + jnp.exp(log_q)) * jnp.tanh(difference / 2)
  return jnp.sum(p_minus_q * difference, axis=-1, where=exists)


def multilabel_symmetric_kl(
  logits1: chex.Array,
  logits2: chex.Array,
  *,
  scale: chex.Numeric = 1.0,
  where: chex.Array | None = None,
  axis: int | tuple[int, ...] = -1,
) -> jax.Array:
  """Symmetric KL of two multi-label predictions (kexue.fm post 9039).

    D = sum_i (sigmoid(a s_i) - sigmoid(a t_i)) a (s_i - t_i),  a = scale

  Gradient on s_i: a (sigmoid(a s_i) - sigmoid(a t_i)) + a^2 sigmoid'(a s_i)
  (s_i - t_i). The post has a = 1. A model trained by ZLPR has the probabilities
  of a = 2 (`losses.zlpr_probabilities`). For spans the sum grows with n^2: see
  `losses.mean_multilabel_symmetric_kl`. The post reports that R-Drop with this
  divergence helped a little, that the softmax KL of the flattened scores helped
  less, and that the weight had to be tuned.

  Args:
    logits1: [..., C] s; -inf is a class that does not exist.
    logits2: [..., C] t.
    scale: a, at least 0; a scalar or broadcastable to logits1.
    where: boolean, broadcastable to logits1: the classes that exist.
    axis: the axis or axes of the classes: (-2, -1) for scores of spans
      [..., n, n].

  Returns:
    logits1 without `axis`, at least 0; 0 where no class exists.

  Raises:
    ValueError: if the logits are not floating point, shapes do not fit, or
      `scale` is negative.

  >>> logits1, logits2 = jnp.array([[1.0, -1.0]]), jnp.array([[0.5, 0.2]])
  >>> print(losses.multilabel_symmetric_kl(logits1, logits2))
  [0.3914]
  """
  s, t, exists = _both(logits1, logits2, where)
  scale = checks.parameter("scale", scale, 0, jnp.inf, like=s)
  # In an order in which neither a large mask nor a large gap becomes infinite.
  first, last = jnp.minimum(scale, 1), jnp.maximum(scale, 1)
  difference = last * (first * s - first * t)
  s, t = scale * s, scale * t
  # The probability that of two draws, one from each, just one is yes. Times
  # tanh((s - t) / 2) it is sigmoid(s) - sigmoid(t).
  disagree = jax.nn.sigmoid(s) * jax.nn.sigmoid(-t)
  disagree += jax.nn.sigmoid(-s) * jax.nn.sigmoid(t)
  terms = disagree * jnp.tanh(difference / 2) * difference
  return jnp.sum(terms, axis=axis, where=exists)


def mean_multilabel_symmetric_kl(
  logits1: chex.Array,
  logits2: chex.Array,
  *,
  scale: chex.Numeric = 1.0,
  where: chex.Array | None = None,
  axis: int | tuple[int, ...] = -1,
) -> jax.Array:
  """`losses.multilabel_symmetric_kl` per class that exists.

    D / number of classes that exist

  A mean does not grow with the length of the text, so one weight serves all
  lengths. Gradient: that of the sum, divided by the same number.

  Args:
    logits1: [..., C] s; -inf is a class that does not exist.
    logits2: [..., C] t.
    scale: a, at least 0; a scalar or broadcastable to logits1.
    where: boolean, broadcastable to logits1: the classes that exist.
    axis: the axis or axes of the classes.

  Returns:
    logits1 without `axis`, at least 0; 0 where no class exists.

  Raises:
    ValueError: as `losses.multilabel_symmetric_kl`.

  >>> scores = jnp.array([[[1.0, -1.0], [0.0, 2.0]]])
  >>> spans = losses.span_mask(jnp.array([True, True]))
  >>> print(losses.mean_multilabel_symmetric_kl(
  ...     scores, jnp.zeros_like(scores), where=spans, axis=(-2, -1)))
  [0.4079]
  """
  total = multilabel_symmetric_kl(
    logits1, logits2, scale=scale, where=where, axis=axis
  )
  _, _, exists = _both(logits1, logits2, where)
  return total / jnp.maximum(jnp.sum(exists, axis=axis), 1)


def r_drop(
  nll1: chex.Array,
  nll2: chex.Array,
  divergence: chex.Array,
  *,
  alpha: chex.Numeric,
) -> jax.Array:
  """R-Drop: two passes with two dropout masks should agree (arXiv 2106.14448).

    L = nll1 + nll2 + alpha/2 (KL12 + KL21)

  of each sample, as the paper weighs it (memory). Published codes weigh it
  differently. For B samples and C classes, the loss of each code is
  factor * mean(r_drop(...)), with this factor and this alpha:

    code                    its loss                             factor  alpha
    paper; fairseq (a = 5)  mean nll1+nll2 + a/2 mean KL12+KL21  1       a
    ViT (a = .3)            mean nll1+nll2 +   a  sum KL12+KL21  1       2 B a
    README                  mean(nll1+nll2)/2 + a/2 sum of them  1/2     2 B a
    bojone (a = 4)          mean(nll1+nll2)/2 + a/4 mean         1/2     a
    bert4torch (a = 4)      the same, mean over B and C          1/2     a / C

  fairseq (reg_label_smooth_cross_entropy.py, a sample being a token), ViT and
  README are of dropreg/R-Drop; bojone is bojone/r-drop. Where the KL is summed
  over the batch, the regularisation grows with the batch size. Gradient: 1 on
  nll1 and nll2, alpha/2 on `divergence`. On unlabelled data use
  alpha/2 * divergence alone.

  Args:
    nll1: [...] at least 0, the loss of the first pass; for instance
      optax.softmax_cross_entropy_with_integer_labels.
    nll2: [...] at least 0, the loss of the second pass.
    divergence: [...] KL12 + KL21, at least 0: `losses.symmetric_kl`, or
      `losses.multilabel_symmetric_kl` if nll1 and nll2 are of ZLPR.
    alpha: at least 0, a scalar or broadcastable to nll1. It is the paper's;
      the table converts the a of other codes.

  Returns:
    [...] at least 0.

  Raises:
    ValueError: if an array is not floating point, the shapes differ, an nll or
      `alpha` is negative, or `alpha` does not fit.

  >>> logits1, logits2 = jnp.array([[2.0, 0.0]]), jnp.array([[1.0, 0.0]])
  >>> labels = jnp.array([0])
  >>> nll = optax.softmax_cross_entropy_with_integer_labels
  >>> print(losses.r_drop(nll(logits1, labels), nll(logits2, labels),
  ...                     losses.symmetric_kl(logits1, logits2), alpha=4.0))
  [0.7397]
  """
  nll1, nll2 = checks.nll("nll1", nll1), checks.nll("nll2", nll2)
  divergence = checks.as_float("divergence", divergence)
  meaning = f"{nll1.shape} of nll1"
  checks.shape("nll2", nll2, nll1.shape, meaning)
  checks.shape("divergence", divergence, nll1.shape, meaning)
  alpha = checks.parameter("alpha", alpha, 0, jnp.inf, like=nll1)
  return nll1 + nll2 + alpha / 2 * divergence


def _both(logits1, logits2, where):
  """Both logits, 0 where a class does not exist, and which classes exist."""
  s = checks.as_float("logits1", logits1)
  t = checks.as_float("logits2", logits2)
  checks.rank_at_least("logits1", s, 1, "[..., C]")
  checks.shape("logits2", t, s.shape, f"{s.shape} of logits1")
  exists = checks.as_mask("where", where, s.shape)
  exists &= (s != -jnp.inf) & (t != -jnp.inf)
  # Before the first subtraction: inf - inf is NaN, in the gradient too.
  return jnp.where(exists, s, 0), jnp.where(exists, t, 0), exists


def _log_softmax(logits, exists):
  """log_softmax over the classes that exist, 0 at the others."""
  log_p = jax.nn.log_softmax(logits, where=exists)
  return jnp.where(exists, log_p, 0)
