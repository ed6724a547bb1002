# SPDX-License-Identifier: Apache-2.0
"""EMO: the earth mover's distance between tokens (arXiv 2310.04691).

Notation: logits z [..., V], p = softmax(z), target t or a distribution tau,
token vectors e_i, normalised e^ = e / |e|, and the cost of taking i for j

  c_ij = 1 - <e^_i, e^_j> in [0, 2],   c_ii = 0                           (1)

  emd = sum_i p_i c_it                        one-hot target, exact       (2)
      = (1 - p_t) sum_{i != t} q_i c_it,  q = softmax(z) over i != t      (3)
  emd <= sum_ij p_i c_ij tau_j                any target: an upper bound  (4)

(3) and nll = log(1 + sum_{i != t} exp(z_i - z_t)) have only terms of one sign,
so nll/emd keeps its digits for a confident token; 1 - <sum p_i e^_i, e^_t>
cancels there, and has a ratio of 3e5 or a negative one where the true one is 1.
Everything is float32 (float64 for float64), whatever the type of the input.

Gradient of emd on the logits: p_j (c_jt - emd). It is bounded and vanishes on
confident mistakes, so maximum likelihood is mixed in: `emo_mode1`, `emo_mode2`,
which are maps of (nll, emd) and take those of `losses.linear_emo_terms` too.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from losses import checks
from losses import logspace


class EMOTerms(NamedTuple):
  """nll [...] at least 0, and emd [...] in [0, 2]: log both."""

  nll: jax.Array
  emd: jax.Array


def emo_terms(
  logits: chex.Array,
  labels: chex.Array,
  embedding: chex.Array,
  *,
  where: chex.Array | None = None,
) -> EMOTerms:
  """The nll and the earth mover's distance, equation (3), for integer labels.

  Args:
    logits: [..., V]; -inf is a class that does not exist.
    labels: [...] integers in [0, V).
    embedding: [V, d], never differentiated: the rows of the pretrained language
      model head, kept as a copy ("fixed" costs) or as they are now
      ("adaptive"). A row of zeros is at cost 1 from all others.
    where: boolean, broadcastable to labels: the tokens that count. The others
      have both terms 0, whatever their label.

  Returns:
    nll [...] and emd [...], float32. A label whose logit is -inf has nll inf.

  Raises:
    ValueError: if a shape or type does not fit, or a label that counts is not
      in [0, V) (where it is concrete; under jit both terms are NaN).

  >>> logits = jnp.array([[1.0, 2.0, 0.5, -0.3]])
  >>> e = jnp.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [-1.0, 0.0]])
  >>> nll, emd = losses.emo_terms(logits, jnp.array([0]), e)
  >>> print(nll, emd)
  [1.5255] [0.487]
  """
  logits = checks.as_float("logits", logits)
  labels = checks.as_integer("labels", labels)
  checks.shape("labels", labels, logits.shape[:-1], "that of logits[..., 0]")
  unit = _unit_rows(embedding, logits)
  where = checks.as_mask("where", where, labels.shape)
  checks.class_labels(labels, logits.shape[-1], where=where)

  # What is left out is made harmless before it can have a gradient of NaN.
  labels = jnp.where(where, labels, 0)
  exists = logits != -jnp.inf
  z = jnp.where(where[..., None] & exists, logits, 0)
  cosine = jnp.einsum("...d,vd->...v", unit[labels], unit, precision="highest")
  cost = jnp.maximum(1 - cosine, 0).astype(z.dtype)
  is_label = jax.nn.one_hot(labels, z.shape[-1], dtype=bool)
  z_label = jnp.sum(z, axis=-1, keepdims=True, where=is_label)
  others = exists & ~is_label
  nll = logspace.log1p_sum_exp(z - z_label, where=others)
  # A label that does not exist is impossible, unless nothing else is possible.
  absent = others.any(-1) & ~(exists & is_label).any(-1)
  nll = jnp.where(absent, jnp.inf, nll)
  # Out of range, which under jit nobody can refuse.
  nll = jnp.where(is_label.any(-1), nll, jnp.nan)
  q = jax.nn.softmax(z, where=others)
  emd = logspace.one_minus_exp(nll) * jnp.sum(q * cost, axis=-1)
  return EMOTerms(jnp.where(where, nll, 0), jnp.where(where, emd, 0))


def soft_emo_terms(
  logits: chex.Array,
  targets: chex.Array,
  embedding: chex.Array,
  *,
  where: chex.Array | None = None,
) -> EMOTerms:
  """The cross-entropy and the bound (4) on the distance to a distribution.

  For label smoothing, mixup or distillation. One-hot targets give `emo_terms`.
  The bound is not tight: it is sum_ij p_i c_ij p_j > 0 at p = tau.

  Args:
    logits: [..., V]; -inf is a class that does not exist.
    targets: [..., V] in [0, 1] with sum 1; not differentiated.
    embedding: as in `emo_terms`.
    where: boolean, broadcastable to logits[..., 0]: the tokens that count.

  Returns:
    nll [...], the cross-entropy -sum_j tau_j log p_j, and emd [...], float32.

  Raises:
    ValueError: if a shape or type does not fit, or targets that count are not
      distributions (where they are concrete).

  >>> logits = jnp.array([[1.0, 2.0, 0.5, -0.3]])
  >>> e = jnp.array([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [-1.0, 0.0]])
  >>> tau = jnp.array([[0.7, 0.3, 0.0, 0.0]])
  >>> print(losses.soft_emo_terms(logits, tau, e).emd)
  [0.4034]
  """
  logits = checks.as_float("logits", logits)
  targets = jax.lax.stop_gradient(checks.as_float("targets", targets))
  checks.shape("targets", targets, logits.shape, "that of logits")
  unit = _unit_rows(embedding, logits)
  where = checks.as_mask("where", where, logits.shape[:-1])
  checks.distributions("targets", targets, where=where)

  exists = logits != -jnp.inf
  z = jnp.where(where[..., None] & exists, logits, 0)
  # (C tau)_i without its diagonal, which is exactly 0: what is left of it
  # cancels only as far as tau_i itself is near 1.
  mean = jnp.einsum("...v,vd->...d", targets, unit, precision="highest")
  cosine = jnp.einsum("...d,vd->...v", mean, unit, precision="highest")
  square = jnp.sum(unit**2, axis=-1)  # 1, or 0 for a row of zeros.
  own = targets * jnp.broadcast_to(square, targets.shape)
  total = targets.sum(-1, keepdims=True)
  cost = jnp.maximum((total - targets) - (cosine - own), 0)
  emd = jnp.sum(jax.nn.softmax(z, where=exists) * cost, axis=-1)

  # Relative to the largest logit, whose own log p then keeps its digits.
  top = jnp.argmax(jnp.where(exists, z, -jnp.inf), axis=-1)
  is_top = jax.nn.one_hot(top, z.shape[-1], dtype=bool)
  gap = jnp.sum(z, axis=-1, keepdims=True, where=is_top) - z
  log_total = logspace.log1p_sum_exp(-gap, where=exists & ~is_top)
  # Of a target that is NaN, too.
  counted = targets != 0
  nll = jnp.sum(targets * (gap + log_total[..., None]), axis=-1, where=counted)
  absent = exists.any(-1) & jnp.any(counted & ~exists, axis=-1)
  nll = jnp.where(absent, jnp.inf, jnp.where(exists.any(-1), nll, 0))
  return EMOTerms(jnp.where(where, nll, 0), jnp.where(where, emd, 0))


def emo_mode1(
  nll: chex.Array, emd: chex.Array, *, ratio_max: float = 1e4
) -> jax.Array:
  """(nll + sg[nll / emd] emd) / 2, mode 1 of DRSY/EMO.

  For fine-tuning and domain adaptation. Its value is nll, so log the terms;
  its gradient is nll/2 (grad log nll + grad log emd).

  Args:
    nll: [...] at least 0.
    emd: [...] at least 0. To weigh it by nll / (emd + p_t) instead, as the
      newer of the authors' two programs does, give `losses.stabilized_emd`.
    ratio_max: above 0, the largest nll / emd, ours. It matters where emd is 0
      and nll is not, among tokens of equal vectors.

  Returns:
    [...] at least 0.

  Raises:
    ValueError: if a shape or type does not fit.

  >>> nll, emd = jnp.array([1.5, 0.01]), jnp.array([0.5, 0.002])
  >>> print(losses.emo_mode1(nll, emd))
  [1.5  0.01]
  >>> print(jax.grad(lambda emd: losses.emo_mode1(nll, emd).sum())(emd))
  [1.5 2.5]
  """
  nll, emd = _same_shape(nll, emd)
  return (nll + _ratio(nll, emd, ratio_max) * emd) / 2


def emo_mode2(
  nll: chex.Array, emd: chex.Array, *, ratio_max: float = 1e4
) -> jax.Array:
  """emd + sg[emd / nll] nll, mode 2 of DRSY/EMO.

  For light continual pre-training. Its value is 2 emd, so log the terms; its
  gradient is emd (grad log nll + grad log emd).

  Args:
    nll: [...] at least 0.
    emd: [...] at least 0.
    ratio_max: above 0, the largest emd / nll, ours.

  Returns:
    [...] at least 0.

  Raises:
    ValueError: if a shape or type does not fit.

  >>> nll, emd = jnp.array([1.5, 0.01]), jnp.array([0.5, 0.002])
  >>> print(losses.emo_mode2(nll, emd))
  [1.    0.004]
  """
  nll, emd = _same_shape(nll, emd)
  # An infinite nll has the ratio 0, and 0 * inf is NaN.
  nll = jnp.minimum(nll, jnp.finfo(nll.dtype).max)
  return emd + _ratio(emd, nll, ratio_max) * nll


def stabilized_emd(nll: chex.Array, emd: chex.Array) -> jax.Array:
  """emd + sg[p_t], for a ratio that goes to 0 on confident tokens.

  With it `emo_mode1` weighs emd by nll / (emd + p_t) as emo_patch.py of
  DRSY/EMO does; with emd itself by nll / emd as its gpt2.py does. Which of them
  the paper's tables had is not known. The gradient is that of emd.

  Args:
    nll: [...] at least 0.
    emd: [...] at least 0.

  Returns:
    [...] at least 0.

  Raises:
    ValueError: if a shape or type does not fit.

  >>> print(losses.stabilized_emd(jnp.array([1.5255]), jnp.array([0.487])))
  [0.7045]
  """
  nll, emd = _same_shape(nll, emd)
  return emd + jnp.exp(-jax.lax.stop_gradient(nll))


def _ratio(numerator, denominator, ratio_max):
  checks.positive("ratio_max", ratio_max)
  numerator, denominator = jax.lax.stop_gradient((numerator, denominator))
  safe = jnp.where(denominator > 0, denominator, 1)
  ratio = jnp.where(denominator > 0, numerator / safe, ratio_max)
  return jnp.minimum(ratio, ratio_max)


def _same_shape(nll, emd):
  nll, emd = checks.nll("nll", nll), checks.as_float("emd", emd)
  checks.shape("emd", emd, nll.shape, f"{nll.shape} of nll")
  checks.between("emd", emd, -1e-3, jnp.inf)
  return nll, emd


def _unit_rows(embedding, logits):
  """e^ [V, d] in float32; a row of zeros stays."""
  embedding = jax.lax.stop_gradient(checks.as_float("embedding", embedding))
  checks.rank_at_least("logits", logits, 1, "[..., V]")
  v = logits.shape[-1]
  if not v:
    raise ValueError(f"logits has shape {logits.shape}; V must be at least 1")
  checks.shape("embedding", embedding, (v, None), f"[V, d] with V = {v}")
  # No square overflows or vanishes.
  largest = jnp.max(jnp.abs(embedding), axis=-1, keepdims=True, initial=0)
  embedding = embedding / jnp.where(largest > 0, largest, 1)
  square = jnp.sum(embedding**2, axis=-1, keepdims=True)
  safe = jnp.where(square > 0, square, 1)
  return embedding * jnp.where(square > 0, jax.lax.rsqrt(safe), 0)
