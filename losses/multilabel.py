# SPDX-License-Identifier: Apache-2.0
"""ZLPR: multi-label classification as one softmax-like loss, no class weights.

Notation: scores s [..., C], labels t in [0, 1], threshold s_0,

  L = log(1 + sum_i t_i e^(s_0 - s_i)) + log(1 + sum_i (1 - t_i) e^(s_i - s_0))

(kexue.fm posts 7359 and, for soft labels, 9064; arXiv 2208.02955). Predict the
classes with s_i > s_0. L is convex in s, and least where t = sigmoid(2 (s -
s_0)): probabilities have that factor 2. There L is 2 log(1 + sum_i sqrt(t_i (1
- t_i))), which is 0 for hard labels only. L keeps its value when all (s - s_0,
t) become (s_0 - s, 1 - t). No class, or none of one kind, leaves a term of 0.

Results are float32, or float64 for float64.
"""

import functools

import chex
import jax
import jax.numpy as jnp

from losses import checks
from losses import logspace


def zlpr(
  logits: chex.Array,
  labels: chex.Array,
  *,
  threshold: chex.Numeric = 0.0,
  where: chex.Array | None = None,
  axis: int | tuple[int, ...] = -1,
) -> jax.Array:
  """ZLPR with hard or soft labels (kexue.fm post 9064, arXiv 2208.02955).

    L = log(1 + sum_i t_i e^-s_i) + log(1 + sum_i (1 - t_i) e^s_i)

  after s <- logits - threshold. Gradient on s_i: -t_i e^-s_i / (1 + sum t e^-s)
  + (1 - t_i) e^s_i / (1 + sum (1 - t) e^s). A label of exactly 0 or 1 is absent
  from the other sum, so that hard labels need no clipping and the gradient on
  the label is that of the term it is in.

  Args:
    logits: [..., C]; -inf is a class that does not exist.
    labels: the shape of logits, in [0, 1]. 0 and 1, or anything between by
      label smoothing, mixup or a teacher.
    threshold: s_0, broadcastable to logits; may be learned, for instance a
      score of each example.
    where: boolean, broadcastable to logits: the classes that exist.
    axis: the classes, one axis or several: (-2, -1) for scores of spans
      [..., n, n].

  Returns:
    logits without `axis`, at least 0; 0 if no class exists.

  Raises:
    ValueError: if `logits` or `labels` is not floating point, shapes do not
      fit, or a label is outside [0, 1] or positive where no class exists.

  >>> logits = jnp.array([[3.0, -2.0, 0.5], [-1.0, 2.0, 1.0]])
  >>> labels = jnp.array([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
  >>> print(losses.zlpr(logits, labels))
  [1.0725 0.7209]

  Label smoothing (of each class on its own) and mixup:

  >>> smooth = 0.9 * labels + 0.1 / 2
  >>> print(losses.zlpr(logits, smooth))
  [1.6776 1.0965]
  >>> logits_of_mixed = jnp.zeros((2, 3))
  >>> mixed = 0.7 * labels + 0.3 * labels[::-1]
  >>> print(losses.zlpr(logits_of_mixed, mixed))
  [1.8262 1.8262]
  """
  s, t, exists = _scores_and_labels(logits, labels, threshold, where)
  # Not t > 0: a NaN is both, and shows in the result.
  log_t = _log(t, exists & ~(t <= 0))
  log_rest = _log(1 - t, exists & ~(t >= 1))
  positive = logspace.log1p_sum_exp(log_t - s, axis=axis, where=exists)
  negative = logspace.log1p_sum_exp(log_rest + s, axis=axis, where=exists)
  return positive + negative


def zlpr_minimum(
  labels: chex.Array,
  *,
  where: chex.Array | None = None,
  axis: int | tuple[int, ...] = -1,
) -> jax.Array:
  """The least ZLPR that these labels allow, 2 log(1 + sum sqrt(t (1 - t))).

  Attained where t = sigmoid(2 s). For ZLPR it is what the entropy of the labels
  is for cross-entropy.

  Args:
    labels: [..., C] in [0, 1].
    where: boolean, broadcastable to labels: the classes that exist.
    axis: the classes, one axis or several.

  Returns:
    labels without `axis`, at least 0; 0 for hard labels.

  Raises:
    ValueError: if `labels` is not floating point or outside [0, 1], or `where`
      does not fit.

  >>> print(losses.zlpr_minimum(jnp.array([[1.0, 0.0], [0.9, 0.2]])))
  [0.     1.0613]
  """
  labels = checks.as_float("labels", labels)
  where = checks.as_mask("where", where, labels.shape)
  checks.between("labels", labels, 0, 1, where=where)
  variance = labels * (1 - labels)
  # The square root has no derivative at 0.
  soft = where & (variance != 0)
  root = jnp.where(soft, jnp.sqrt(jnp.where(soft, variance, 1)), 0)
  return 2 * jnp.log1p(jnp.sum(root, axis=axis))


def zlpr_excess(
  logits: chex.Array,
  labels: chex.Array,
  *,
  threshold: chex.Numeric = 0.0,
  where: chex.Array | None = None,
  axis: int | tuple[int, ...] = -1,
) -> jax.Array:
  """ZLPR minus the least that its labels allow: 0 at the optimum.

    L = zlpr(logits, labels) - zlpr_minimum(labels)

  For reports on soft labels. The gradient on the logits is that of `zlpr`.

  Args:
    logits: [..., C]; -inf is a class that does not exist.
    labels: the shape of logits, in [0, 1].
    threshold: broadcastable to logits.
    where: boolean, broadcastable to logits: the classes that exist.
    axis: the classes, one axis or several.

  Returns:
    logits without `axis`, at least 0 up to rounding.

  Raises:
    ValueError: as `zlpr`.

  >>> labels = jnp.array([[0.9, 0.2]])
  >>> logits = jnp.log(labels / (1 - labels)) / 2
  >>> excess = losses.zlpr_excess(jnp.stack([logits, logits + 1]),
  ...                             jnp.stack([labels, labels]))
  >>> print(jnp.abs(excess.round(4)))
  [[0.    ]
   [0.2336]]
  """
  loss = zlpr(logits, labels, threshold=threshold, where=where, axis=axis)
  exists = jnp.asarray(logits) != -jnp.inf
  where = checks.as_mask("where", where, exists.shape) & exists
  return loss - zlpr_minimum(labels, where=where, axis=axis)


def zlpr_probabilities(
  logits: chex.Array, *, threshold: chex.Numeric = 0.0
) -> jax.Array:
  """sigmoid(2 (s - s_0)), the labels for which `zlpr` is at its least.

  Args:
    logits: [...].
    threshold: s_0, broadcastable to logits.

  Returns:
    [...] in [0, 1]; above 1/2 is predicted.

  Raises:
    ValueError: if `logits` is not floating point or `threshold` does not fit.

  >>> print(losses.zlpr_probabilities(jnp.array([-1.0, 0.0, 3.0])))
  [0.1192 0.5    0.9975]
  """
  logits = checks.as_float("logits", logits)
  return jax.nn.sigmoid(2 * _above(logits, threshold))


def sparse_zlpr(
  logits: chex.Array,
  indices: chex.Array,
  *,
  threshold: chex.Numeric = 0.0,
  padding: int = -1,
  where: chex.Array | None = None,
) -> jax.Array:
  """ZLPR of hard labels given as the indices of the positive classes.

  For many classes with few positives. Exactly `zlpr` of their many-hot labels,
  and so is its gradient: the negatives are summed without the positives. Taking
  the positives' part out of the sum over all classes, log(1 - e^(b - a)) as in
  kexue.fm post 8888, is wrong in float32 as soon as one score is above 9, and
  then pushes positive scores down.

  Args:
    logits: [..., C]; -inf is a class that does not exist.
    indices: [..., K] integers in [0, C) or `padding`, in any order; a class
      that comes twice counts once.
    threshold: s_0, broadcastable to logits.
    padding: the index that stands for nothing. If it is that of a class, the
      class is never positive; leave it out with `where` if it does not exist.
    where: boolean, broadcastable to logits: the classes that exist.

  Returns:
    [...] at least 0. NaN under jit for an index that is neither a class nor
    `padding`.

  Raises:
    ValueError: if `logits` is not floating point, `indices` are not integers of
      its leading shape, or one is not a class that exists.

  >>> logits = jnp.array([[3.0, -2.0, 0.5], [-1.0, 2.0, 1.0]])
  >>> indices = jnp.array([[0, -1], [2, 1]])
  >>> print(losses.sparse_zlpr(logits, indices))
  [1.0725 0.7209]
  """
  logits = checks.as_float("logits", logits)
  checks.rank_at_least("logits", logits, 1, "[..., C]")
  indices = checks.as_integer("indices", indices)
  *batch, num_classes = logits.shape
  checks.shape("indices", indices, (*batch, None), f"{(*batch, 'K')}")
  where = checks.as_mask("where", where, logits.shape)
  used = indices != padding
  name = f"indices, other than padding={padding},"
  checks.between(name, indices, 0, num_classes - 1, where=used)

  valid = used & (indices >= 0) & (indices < num_classes)
  is_known = (valid | ~used).all(-1)
  # One past the last class stands for nothing. Sorted, duplicates are adjacent.
  indices = jnp.sort(jnp.where(valid, indices, num_classes))

  @functools.partial(jnp.vectorize, signature="(k)->(k),(c)")
  def in_example(indices):
    is_positive = (
      jnp.zeros(num_classes, bool).at[indices].set(True, mode="drop")
    )
    return jnp.diff(indices, prepend=-1) != 0, is_positive

  is_first, is_positive = in_example(indices)
  checks.on_present("indices", is_positive, where)
  checks.on_present("indices", is_positive, logits != -jnp.inf)

  s, exists = _existing(logits, threshold, where)
  counted = is_first & (indices < num_classes)
  gather = jnp.minimum(indices, num_classes - 1)
  counted &= jnp.take_along_axis(exists, gather, axis=-1)
  positive = logspace.log1p_sum_exp(
    -jnp.take_along_axis(s, gather, axis=-1), where=counted
  )
  negative = logspace.log1p_sum_exp(s, where=exists & ~is_positive)
  return jnp.where(is_known, positive + negative, jnp.nan)


def _scores_and_labels(logits, labels, threshold, where):
  """s with 0 for absent classes, t, and which classes exist."""
  logits = checks.as_float("logits", logits)
  labels = checks.as_float("labels", labels)
  checks.shape("labels", labels, logits.shape, f"{logits.shape} of logits")
  where = checks.as_mask("where", where, logits.shape)
  checks.between("labels", labels, 0, 1, where=where)
  checks.on_present("labels", labels > 0, where)
  checks.on_present("labels", labels > 0, logits != -jnp.inf)
  s, exists = _existing(logits, threshold, where)
  return s, labels, exists


def _existing(logits, threshold, where):
  exists = where & (logits != -jnp.inf)
  return jnp.where(exists, _above(logits, threshold), 0), exists


def _above(logits, threshold):
  threshold = jnp.asarray(threshold, logits.dtype)
  return logits - checks.broadcast("threshold", threshold, logits.shape)


def _log(x, positive):
  """log x where positive and -inf elsewhere, without an infinite gradient."""
  return jnp.where(positive, jnp.log(jnp.where(positive, x, 1)), -jnp.inf)
