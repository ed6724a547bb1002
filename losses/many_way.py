# SPDX-License-Identifier: Apache-2.0
"""n m-way classification: n items of m classes each, as one loss (post 9158).

Notation: scores s [..., n, m], labels t [..., n, m], each t_i a distribution
over the m classes. The sum of the n cross-entropies is

  sum_j log prod_i (1 + sum_{k != j} e^(s_ik - s_ij))^t_ij                (1)

and keeping the products only to first order, inside the logarithm, gives one
logarithm a class in place of one an item: a class that is the label of N items
weighs about log N, not N. For m = 2 the losses are ZLPR, of s_i1 - s_i2 and of
half of that. They are convex, and adding a constant to an item's scores changes
nothing. The author of kexue.fm post 9158 calls the generalisation a failure:
`many_way_loss1` has no closed form for soft labels (and its minimum may rank
the classes otherwise than they do), `many_way_loss3` is bad with nearly hard
ones.

Results are float32, or float64 for float64.
"""

import chex
import jax
import jax.numpy as jnp

from losses import checks
from losses import logspace


def many_way_loss1(
  logits: chex.Array, labels: chex.Array, *, where: chex.Array | None = None
) -> jax.Array:
  """The first loss of kexue.fm post 9158, for hard labels.

    L = sum_j log A_j,  A_j = 1 + sum_i sum_{k != j} t_ij e^(s_ik - s_ij)

  The sum of the cross-entropies if each class is the label of at most one item.
  Gradient on s_ij: -t_ij sum_{k != j} e^(s_ik - s_ij) / A_j + sum_{h != j} t_ih
  e^(s_ij - s_ih) / A_h. Takes O(n m) time and memory.

  Args:
    logits: [..., n, m]; -inf is a class that does not exist for that item.
    labels: the shape of logits, in [0, 1] with sum 1 over m.
    where: boolean, broadcastable to [..., n]: the items that exist.

  Returns:
    [...] at least 0; 0 if no item exists.

  Raises:
    ValueError: if `logits` or `labels` is not floating point, shapes do not
      fit, m is 0, or the labels of an item that exists are not a distribution
      over the classes that do.

  >>> logits = jnp.array([[[1.0, 0.0, -1.0], [0.5, 2.0, 0.0]]])
  >>> labels = jax.nn.one_hot(jnp.array([[0, 2]]), 3)
  >>> print(losses.many_way_loss1(logits, labels))
  [2.714]
  """
  s, log_t, exists = _scores_and_log_labels(logits, labels, where)
  # u_ij = log t_ij + log sum_{k != j} e^(s_ik - s_ij), without an [n, m, m]
  # array: from differences d to the highest score, so that e^d is at most 1.
  top = jnp.argmax(jnp.where(exists, s, -jnp.inf), axis=-1, keepdims=True)
  is_top = jax.nn.one_hot(top[..., 0], s.shape[-1], dtype=bool)
  others = exists & ~is_top
  d = jnp.where(exists, s - jnp.take_along_axis(s, top, axis=-1), 0)
  lse = logspace.log1p_sum_exp(d, where=others)[..., None]
  # Of j below the top, p_j is at most 1/2 and can be taken from the whole.
  p = jnp.where(others, jnp.exp(d - lse), 0)
  below_top = lse + jnp.log1p(-p) - d
  # Of the top itself it cannot: the others are summed directly.
  some = others.any(-1, keepdims=True)
  of_top = jax.nn.logsumexp(
    jnp.where(some, jnp.where(others, d, -jnp.inf), 0), axis=-1, keepdims=True
  )
  of_top = jnp.where(some, of_top, -jnp.inf)
  u = log_t + jnp.where(is_top, of_top, below_top)
  return logspace.log1p_sum_exp(u, axis=-2, where=exists).sum(-1)


def many_way_loss3(
  logits: chex.Array, labels: chex.Array, *, where: chex.Array | None = None
) -> jax.Array:
  """The third loss of kexue.fm post 9158, for soft labels.

    L = sum_j log A_j,  A_j = 1 + sum_i t_ij e^(m_i - s_ij),  m_i = mean_j s_ij

  Least where t = softmax(s). With hard labels it is about 0 as soon as the
  label's score is well above the mean of its item, even if another score is
  higher still. Gradient on s_ij: sum_h r_ih / m - r_ij, r_ij = t_ij
  e^(m_i - s_ij) / A_j.

  Args:
    logits: [..., n, m]; -inf is a class that does not exist for that item.
    labels: the shape of logits, in [0, 1] with sum 1 over m.
    where: boolean, broadcastable to [..., n]: the items that exist.

  Returns:
    [...] at least 0; 0 if no item exists.

  Raises:
    ValueError: as `many_way_loss1`.

  >>> logits = jnp.array([[[1.0, 0.0, -1.0], [0.5, 2.0, 0.0]]])
  >>> labels = jax.nn.one_hot(jnp.array([[0, 2]]), 3)
  >>> print(losses.many_way_loss3(logits, labels))
  [1.5075]
  """
  s, log_t, exists = _scores_and_log_labels(logits, labels, where)
  count = jnp.maximum(exists.sum(-1, keepdims=True), 1)
  mean = s.sum(-1, keepdims=True) / count
  u = log_t + mean - s
  return logspace.log1p_sum_exp(u, axis=-2, where=exists).sum(-1)


def _scores_and_log_labels(logits, labels, where):
  """s with 0 where no class exists, log t, and where one does."""
  logits = checks.as_float("logits", logits)
  checks.rank_at_least("logits", logits, 2, "[..., n, m]")
  if logits.shape[-1] == 0:
    raise ValueError(f"logits has shape {logits.shape}, so no classes (m = 0)")
  labels = checks.as_float("labels", labels)
  checks.shape("labels", labels, logits.shape, f"{logits.shape} of logits")
  where = checks.as_mask("where", where, logits.shape[:-1])[..., None]
  where = jnp.broadcast_to(where, logits.shape)
  checks.between("labels", labels, 0, 1, where=where)
  checks.on_present("labels", (labels > 0) & where, logits != -jnp.inf)
  exists = where & (logits != -jnp.inf)
  checks.distributions("labels", labels, where=exists.any(-1))
  # Not labels > 0: a NaN is a label, and shows in the result.
  some = exists & ~(labels <= 0)
  # A finite logarithm first, so that no gradient on a label is infinite.
  log_t = jnp.where(some, jnp.log(jnp.where(some, labels, 1)), -jnp.inf)
  return jnp.where(exists, logits, 0), log_t, exists
