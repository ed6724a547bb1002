# SPDX-License-Identifier: Apache-2.0
"""How far two predictions for one input are apart: symmetric KL and R-Drop.

Notation: logits s and t of two passes, p = softmax(s), q = softmax(t).

  KL(p || q) + KL(q || p) = <p - q, s - t>                                (1)
  D(s, t) = sum_i (sigmoid(a s_i) - sigmoid(a t_i)) a (s_i - t_i)         (2)

(2) is the sum of the symmetric KLs of independent binary classes and the form
for multi-label scores, among them those of GlobalPointer (kexue.fm post 9039).
Unlike (1) it changes when one number is added to all logits. Both are
symmetric, at least 0, and 0 only where the predictions agree.

To keep all digits where p and q nearly agree, u - v is computed as
(u + v) tanh((log u - log v) / 2): then no term is negative either. A logit of
-inf, in either argument, is a class that does not exist for both. Results are
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

  For `losses.virtual_adversarial_loss`. Gradient: q - p on logits2, and
  p_i (log p_i - log q_i - KL) on logits1.

  Args:
    logits1: [..., C] of p; -inf is a class that does not exist.
    logits2: [..., C] of q.
    where: boolean, broadcastable to logits1: the classes that exist.

  Returns:
    [...] at least 0 up to rounding; 0 where no class exists.

  Raises:
    ValueError: if the logits are not floating point or shapes do not fit.

  >>> logits1 = jnp.array([[1.0, 0.0], [3.0, -3.0]])
  >>> print(losses.softmax_kl(logits1, jnp.zeros((2, 2))))
  [0.1109 0.6758]
  """
  s, t, exists = _both(logits1, logits2, where)
  log_p, log_q = _log_softmax(s, exists), _log_softmax(t, exists)
  return jnp.sum(jnp.exp(log_p) * (log_p - log_q), axis=-1, where=exists)


def symmetric_kl(
  logits1: chex.Array,
  logits2: chex.Array,
  *,
  where: chex.Array | None = None,
) -> jax.Array:
  """KL(p || q) + KL(q || p) of two softmax predictions (kexue.fm post 9039).

    D = <p - q, s - t>

  The sum of both directions, without the factor 1/2 that some give it. Gradient
  on s: p_i (d_i - <p, d>) + p_i - q_i with d = s - t; on t the same with s and
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
  # The mean difference of s - t drops out of <p - q, s - t>.
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
  (s_i - t_i). The post has a = 1; the probabilities that ZLPR learns are those
  of a = 2 (`losses.zlpr_probabilities`). For spans the sum grows with n^2: see
  `losses.mean_multilabel_symmetric_kl`. In the post it helped R-Drop a little,
  (1) on the flattened scores less, and its weight had to be tuned.

  Args:
    logits1: [..., C] s; -inf is a class that does not exist.
    logits2: [..., C] t.
    scale: a, a scalar at least 0; may be traced.
    where: boolean, broadcastable to logits1: the classes that exist.
    axis: the classes, one axis or several: (-2, -1) for scores of spans
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
  checks.between("scale", scale, 0, jnp.inf)
  s, t = scale * s, scale * t
  difference = s - t
  # One says yes and the other no: sigmoid(s) - sigmoid(t) is tanh times it.
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

  Its size does not depend on the length, so one weight serves all lengths.
  Gradient: that of the sum, divided by the same number.

  Args:
    logits1: [..., C] s; -inf is a class that does not exist.
    logits2: [..., C] t.
    scale: a, a scalar at least 0; may be traced.
    where: boolean, broadcastable to logits1: the classes that exist.
    axis: the classes, one axis or several.

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
  """R-Drop: two passes with two dropout masks shall agree (arXiv 2106.14448).

    L = nll1 + nll2 + alpha/2 (KL12 + KL21)

  per sample, in the paper's convention (memory). Published codes weigh it
  otherwise. With B samples in the batch and C classes, the loss of each is
  factor * mean(r_drop(...)) with

    code                    its loss                             factor  alpha
    paper; fairseq (a = 5)  mean nll1+nll2 + a/2 mean KL12+KL21  1       a
    ViT (a = .3)            mean nll1+nll2 +   a  sum KL12+KL21  1       2 B a
    README                  mean(nll1+nll2)/2 + a/2 sum of them  1/2     2 B a
    bojone (a = 4)          mean(nll1+nll2)/2 + a/4 mean         1/2     a
    bert4torch (a = 4)      the same, mean over B and C          1/2     a / C

  fairseq, ViT and README are of dropreg/R-Drop, bojone is bojone/r-drop. Where
  the KL is summed over the batch, the regularisation grows with the batch size.
  Gradient: that of each term times its factor. On unlabelled data use
  alpha/2 `divergence` alone.

  Args:
    nll1: [...] at least 0, of the first pass, for instance of optax's
      softmax_cross_entropy_with_integer_labels.
    nll2: [...] of the second pass.
    divergence: [...] KL12 + KL21: `losses.symmetric_kl`, or
      `losses.multilabel_symmetric_kl` where nll is ZLPR.
    alpha: a scalar at least 0, of the first row of the table.

  Returns:
    [...] at least 0.

  Raises:
    ValueError: if an array is not floating point, the shapes differ, or `alpha`
      is negative.

  >>> logits1, logits2 = jnp.array([[2.0, 0.0]]), jnp.array([[1.0, 0.0]])
  >>> labels = jnp.array([0])
  >>> nll = optax.softmax_cross_entropy_with_integer_labels
  >>> print(losses.r_drop(nll(logits1, labels), nll(logits2, labels),
  ...                     losses.symmetric_kl(logits1, logits2), alpha=4.0))
  [0.7397]
  """
  nll1 = checks.as_float("nll1", nll1)
  nll2 = checks.as_float("nll2", nll2)
  divergence = checks.as_float("divergence", divergence)
  meaning = f"{nll1.shape} of nll1"
  checks.shape("nll2", nll2, nll1.shape, meaning)
  checks.shape("divergence", divergence, nll1.shape, meaning)
  checks.between("alpha", alpha, 0, jnp.inf)
  return nll1 + nll2 + alpha / 2 * divergence


def _both(logits1, logits2, where):
  """Both logits, finite and equal where a class does not exist; which exist."""
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
