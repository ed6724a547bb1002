# SPDX-License-Identifier: Apache-2.0
"""The F1 score of probabilities: differentiable, and the usual for hard ones.

Notation: labels t and probabilities p in [0, 1].

  F = 2 sum t p / sum (t + p)                                             (1)

summed over the whole batch, not for each sample (kexue.fm post 6620). For p in
{0, 1} it is the F1 of binary classification. The loss is 1 - F.

  dF/dp_i = (2 t_i - F) / sum (t + p)                                     (2)

so a positive pulls with weight 2 - F and a negative pushes with F: the balance
of cross-entropy, by the current F1 (post 7708). On the logit of p there is
p (1 - p) too, which vanishes on confident mistakes: use it to fine-tune after
cross-entropy.

`smoothing` and `empty` are pseudo-counts: as if, besides the batch, a sum
(t + p) of `smoothing` had been seen with an F of `empty`.

  F = (2 sum t p + smoothing empty) / (sum (t + p) + smoothing)           (3)

Without positives and without smoothing, F is 0 for all p > 0, with gradient 0.
With smoothing it falls with p, from `empty`, so that false positives have a
gradient. 0/0, no label and no probability at all, is `empty`, with gradient 0.

Under jit with sharded arrays the sums are over the batch already. Inside
shard_map, pmap or vmap pass `axis_name`: both sums are added over it before the
division, and F is the same on all shards. The gradient of F is then the mean
over `axis_name` (pmean) of the gradients that the shards have for the
parameters, as usual. (shard_map with check_vma, the default, gives it without.)

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

  over all entries. Gradient on p_i: (2 t_i - F) / (sum (t + p) + smoothing).
  For one F1 per sample, jax.vmap it. For single-label softmax predictions with
  one-hot labels it is the mean of p_t, the smooth accuracy.

  Args:
    probabilities: [...] in [0, 1], for instance [B, K].
    labels: the shape of probabilities, in [0, 1].
    where: boolean, broadcastable to probabilities: the entries that count.
    smoothing: at least 0, see (3) of the module.
    empty: F of no label and no probability; 1 is right as nothing was missed.
    axis_name: of the shards of the batch, or None.

  Returns:
    [] in [0, 1] if `empty` is.

  Raises:
    ValueError: if an array is not floating point or outside [0, 1], shapes do
      not fit, or `smoothing` is negative.

  >>> labels = jnp.array([[1.0, 0.0], [0.0, 1.0]])
  >>> probabilities = jnp.array([[0.9, 0.2], [0.4, 0.5]])
  >>> print(f"{losses.soft_f1_micro(probabilities, labels):.4f}")
  0.7000
  """
  p, t, where = _checked(probabilities, labels, where, smoothing)
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

  Rare classes weigh as much as others. Many are absent from a small batch:
  their F is 0 for p > 0, without gradient, unless there is `smoothing`.
  Gradient on p_ik: (2 t_ik - F_k) / (K (sum (t_k + p_k) + smoothing)).

  Args:
    probabilities: [..., K] in [0, 1].
    labels: [..., K] in [0, 1].
    where: boolean, broadcastable to probabilities: the entries that count. A
      class without any is left out of the mean.
    smoothing: at least 0, see (3) of the module.
    empty: F of a class without label and probability, and of no class.
    axis_name: of the shards of the batch, or None.

  Returns:
    [] in [0, 1] if `empty` is.

  Raises:
    ValueError: if an array is not floating point or outside [0, 1], shapes do
      not fit, or `smoothing` is negative.

  >>> labels = jnp.array([[1.0, 0.0], [0.0, 1.0]])
  >>> probabilities = jnp.array([[0.9, 0.2], [0.4, 0.5]])
  >>> print(f"{losses.soft_f1_macro(probabilities, labels):.4f}")
  0.6854
  """
  p, t, where = _checked(probabilities, labels, where, smoothing)
  checks.rank_at_least("probabilities", p, 1, "[..., K]")
  axes = tuple(range(p.ndim - 1))
  both, either, count = _sums(p, t, where, axes, axis_name)
  f1 = _f1(both, either, smoothing, empty)  # [K]
  seen = count > 0
  mean = jnp.sum(f1, where=seen) / jnp.maximum(jnp.sum(seen), 1)
  return jnp.where(jnp.any(seen), mean, empty)


def _checked(probabilities, labels, where, smoothing):
  """Probabilities, labels and mask of one shape; what does not count is 0."""
  p = checks.as_float("probabilities", probabilities)
  t = checks.as_float("labels", labels)
  checks.shape("labels", t, p.shape, f"{p.shape} of probabilities")
  where = checks.as_mask("where", where, p.shape)
  checks.between("probabilities", p, 0, 1, where=where)
  checks.between("labels", t, 0, 1, where=where)
  checks.between("smoothing", smoothing, 0, jnp.inf)
  return jnp.where(where, p, 0), jnp.where(where, t, 0), where


def _sums(p, t, where, axes, axis_name):
  """sum t p, sum (t + p) and the number of entries, over axes and shards."""
  sums = (
    jnp.sum(t * p, axis=axes),
    jnp.sum(t + p, axis=axes),
    jnp.sum(where, axis=axes),
  )
  return sums if axis_name is None else jax.lax.psum(sums, axis_name)


def _f1(both, either, smoothing, empty):
  """(3), with 0/0 = empty."""
  numerator, denominator = 2 * both + smoothing * empty, either + smoothing
  some = denominator != 0
  return jnp.where(some, numerator / jnp.where(some, denominator, 1), empty)
