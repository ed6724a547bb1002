# SPDX-License-Identifier: Apache-2.0
"""Soft F1: the F1 score of probabilities, differentiable.

Notation: labels t and probabilities p in [0, 1].

  F = 2 sum t p / sum (t + p)                                             (1)

where the sums are over the whole batch, not over each sample (kexue.fm post
6620). If every p is 0 or 1, F is the usual F1 of binary classification. The
loss to minimise is 1 - F. With

  dF/dp_i = (2 t_i - F) / sum (t + p)                                     (2)

a step raises the p of positives in proportion to 2 - F and lowers the p of
negatives in proportion to F: like cross-entropy, with class weights that follow
the current F1 (post 7708). The gradient on the logit of p has the factor
p (1 - p), which vanishes on confident mistakes. So train with cross-entropy
first, then fine-tune with F.

With `smoothing` > 0, F is drawn towards the value `empty`:

  F = (2 sum t p + smoothing empty) / (sum (t + p) + smoothing)           (3)

It is as if further examples had been seen, with a sum (t + p) of `smoothing`
and an F of `empty`. This matters where the batch has no positive: without
smoothing F is 0 for all p > 0, with gradient 0; with smoothing F falls from
`empty` as p grows, so false positives have a gradient. If all t and p are 0 and
there is no smoothing, F = 0/0 is set to `empty`, with gradient 0.

Under jit with sharded arrays the sums are over the whole batch anyway. Inside
shard_map, pmap or vmap pass `axis_name`: the sums are added up over the shards
before the division, so every shard has the same F. Inside, a gradient on
parameters that all shards share is

  under shard_map with check_vma=True (the default): that of F;
  otherwise: another on each shard; that of F is their mean,
    jax.lax.pmean(gradient, axis_name).

Results are float32, or float64 for float64.
"""

import chex
import jax
import jax.numpy as jnp

from losses import checks


def soft_f1_micro(
  probabilities: chex.Array,
  labels: chex.Array,
  *,
  where: chex.Array | None = None,
  smoothing: chex.Numeric = 0.0,
  empty: chex.Numeric = 1.0,
  axis_name: str | tuple[str, ...] | None = None,
) -> jax.Array:
  """F1 of all decisions together (kexue.fm post 6620).

    F = 2 sum t p / sum (t + p)

  with sums over all entries. Gradient on p_i: (2 t_i - F) / (sum (t + p) +
  smoothing). For one F1 per sample use jax.vmap. For softmax predictions and
  one-hot labels F is the smooth accuracy, the mean of the p of the labels.

  Args:
    probabilities: [...] in [0, 1], for instance [B, K].
    labels: the shape of probabilities, in [0, 1].
    where: boolean, broadcastable to probabilities: the entries that count.
    smoothing: a scalar at least 0, see (3) of the module.
    empty: a scalar, the F where all labels and probabilities are 0. The default
      1 says that predicting nothing was right.
    axis_name: name of the axis or axes over which the batch is sharded, or
      None.

  Returns:
    [], in [0, 1] if `empty` is.

  Raises:
    ValueError: if an array is not floating point or outside [0, 1], shapes do
      not fit, `smoothing` is negative, or it or `empty` is not a scalar.

  >>> labels = jnp.array([[1.0, 0.0], [0.0, 1.0]])
  >>> probabilities = jnp.array([[0.9, 0.2], [0.4, 0.5]])
  >>> print(f"{losses.soft_f1_micro(probabilities, labels):.4f}")
  0.7000
  """
  p, t, where = _checked(probabilities, labels, where)
  smoothing, empty = _scalars(smoothing, empty, p.dtype)
  axes = tuple(range(p.ndim))
  both, either, _ = _sums(p, t, where, axes, axis_name)
  return _f1(both, either, smoothing, empty)


def soft_f1_macro(
  probabilities: chex.Array,
  labels: chex.Array,
  *,
  where: chex.Array | None = None,
  smoothing: chex.Numeric = 0.0,
  empty: chex.Numeric = 1.0,
  axis_name: str | tuple[str, ...] | None = None,
) -> jax.Array:
  """The mean of the F1 of each class (kexue.fm post 6620).

    F = 1/K sum_k 2 sum t_k p_k / sum (t_k + p_k)

  Rare classes weigh as much as others. A small batch has no positive of many
  classes. The F of these is 0 for p > 0, without gradient, unless there is
  `smoothing`.
  Gradient on p_ik: (2 t_ik - F_k) / (K (sum (t_k + p_k) + smoothing)).

  Args:
    probabilities: [..., K] in [0, 1].
    labels: [..., K] in [0, 1].
    where: boolean, broadcastable to probabilities: the entries that count. A
      class without any is left out of the mean.
    smoothing: a scalar at least 0, see (3) of the module.
    empty: a scalar, the F of a class whose labels and probabilities are all 0;
      and the result if no class has an entry.
    axis_name: name of the axis or axes over which the batch is sharded, or
      None.

  Returns:
    [], in [0, 1] if `empty` is.

  Raises:
    ValueError: if an array is not floating point or outside [0, 1], shapes do
      not fit, `smoothing` is negative, or it or `empty` is not a scalar.

  >>> labels = jnp.array([[1.0, 0.0], [0.0, 1.0]])
  >>> probabilities = jnp.array([[0.9, 0.2], [0.4, 0.5]])
  >>> print(f"{losses.soft_f1_macro(probabilities, labels):.4f}")
  0.6854
  """
  p, t, where = _checked(probabilities, labels, where)
  smoothing, empty = _scalars(smoothing, empty, p.dtype)
  checks.rank_at_least("probabilities", p, 1, "[..., K]")
  axes = tuple(range(p.ndim - 1))
  both, either, count = _sums(p, t, where, axes, axis_name)
  f1 = _f1(both, either, smoothing, empty)  # [K]
  seen = count > 0
  mean = jnp.sum(f1, where=seen) / jnp.maximum(jnp.sum(seen), 1)
  return jnp.where(jnp.any(seen), mean, empty)


def _checked(probabilities, labels, where):
  """Probabilities, labels and mask of one shape; 0 where it is False."""
  p = checks.as_float("probabilities", probabilities)
  t = checks.as_float("labels", labels)
  checks.shape("labels", t, p.shape, f"{p.shape} of probabilities")
  where = checks.as_mask("where", where, p.shape)
  checks.between("probabilities", p, 0, 1, where=where)
  checks.between("labels", t, 0, 1, where=where)
  return jnp.where(where, p, 0), jnp.where(where, t, 0), where


def _scalars(smoothing, empty, dtype):
  scalar = jnp.zeros((), dtype)
  return (
    checks.parameter("smoothing", smoothing, 0, jnp.inf, like=scalar),
    checks.parameter("empty", empty, -jnp.inf, jnp.inf, like=scalar),
  )


def _sums(p, t, where, axes, axis_name):
  """sum t p, sum (t + p) and the number of entries, over axes and shards."""
  sums = (
    jnp.sum(t * p, axis=axes),
    jnp.sum(t + p, axis=axes),
    jnp.sum(where, axis=axes),
  )
  return sums if axis_name is None else jax.lax.psum(sums, axis_name)


def _f1(both, either, smoothing, empty):
  """(3) of one sum or one per class, with 0/0 = empty."""
  numerator, denominator = 2 * both + smoothing * empty, either + smoothing
  some = denominator != 0
  return jnp.where(some, numerator / jnp.where(some, denominator, 1), empty)
