# SPDX-License-Identifier: Apache-2.0
"""Calibration: are predictions of 90 % confidence right 9 times in 10?

Notation: n predictions with confidence c in [0, 1], right (1) or wrong (0). Bin
b of M holds those with c in ((b - 1)/M, b/M]; c = 0 is in the first. With the
sums over a bin count n_b, confidence C_b, correct R_b:

  ECE = sum_b n_b/n |R_b/n_b - C_b/n_b| = 1/n sum_b |R_b - C_b|           (1)
  MCE = max_b |R_b - C_b| / n_b                                           (2)
  mean confidence - accuracy = 1/n sum_b (C_b - R_b)                      (3)

(arXiv 1706.04599). The absolute value of (3) is at most (1), and equal to it if
all bins err to the same side. A loss that weighs a token by its p_t, as TaiLr
does, hardly corrects confident mistakes; (3) shows whether the model has become
over-confident.

The bins are sums, so those of several batches are added up:

  bins = jax.tree.map(jnp.add, bins, losses.reliability_bins(...))

A reliability diagram shows correct_sum / count against confidence_sum / count.
The ECE of a finite sample is too large, by about sqrt(M/n): compare only at
equal n and M.

Results are float32, or float64 for float64. A float32 count is exact up to
2^24; for more predictions add up the bins of batches in NumPy float64.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from losses import checks


class ReliabilityBins(NamedTuple):
  """Three sums [num_bins]: each over the predictions of a bin."""

  count: jax.Array
  confidence_sum: jax.Array
  correct_sum: jax.Array


def reliability_bins(
  confidences: chex.Array,
  correct: chex.Array,
  *,
  num_bins: int = 15,
  where: chex.Array | None = None,
  axis_name: str | tuple[str, ...] | None = None,
) -> ReliabilityBins:
  """Sums over the predictions by bin of confidence (arXiv 1706.04599).

  The M bins have equal width: bin b is (b/M, (b+1)/M] for b = 0 ... M - 1, and
  0 is in the first. b/M is rounded to the type of the confidences. Gradient: 1
  on a confidence from the confidence_sum of its bin. The choice of the bin has
  no gradient.

  Args:
    confidences: [...] in [0, 1]. For a classifier the probability of the
      predicted class; for a multi-label model that of each class.
    correct: the shape of confidences; boolean, or floating in [0, 1], for
      instance the share of annotators who agree. For a multi-label model the
      labels.
    num_bins: M, an integer, at least 1; the paper has 15.
    where: boolean, broadcastable to confidences: the predictions that count.
    axis_name: name of the axis or axes over which the batch is sharded, or
      None. The sums are then over all shards; for gradients see
      losses/soft_f1.py.

  Returns:
    count, confidence_sum and correct_sum, each [num_bins].

  Raises:
    ValueError: if `confidences` is not floating point or outside [0, 1],
      `correct` is of integers or outside [0, 1], shapes do not fit, or
      `num_bins` is not an integer of at least 1.

  >>> confidences = jnp.array([0.3, 0.9, 0.8, 0.5])
  >>> correct = jnp.array([False, True, False, True])
  >>> bins = losses.reliability_bins(confidences, correct, num_bins=2)
  >>> print(bins.count, bins.confidence_sum, bins.correct_sum)
  [2. 2.] [0.8 1.7] [1. 1.]
  """
  confidences = checks.as_float("confidences", confidences)
  correct = jnp.asarray(correct)
  if correct.dtype == bool:
    correct = correct.astype(confidences.dtype)
  correct = checks.as_float("correct", correct)
  meaning = f"{confidences.shape} of confidences"
  checks.shape("correct", correct, confidences.shape, meaning)
  where = checks.as_mask("where", where, confidences.shape)
  checks.between("confidences", confidences, 0, 1, where=where)
  checks.between("correct", correct, 0, 1, where=where)
  checks.whole_number("num_bins", num_bins, 1)

  # Divided in float64 and rounded once, as a literal 0.3 is: 3/10 in float32
  # may be another number.
  edges = jnp.asarray(np.arange(1, num_bins) / num_bins, confidences.dtype)
  index = jnp.searchsorted(edges, confidences.ravel(), side="left")

  # Each bin is added up in 1024 parts: a million equal numbers added one after
  # the other would be off by a percent in float32.
  lane = jnp.arange(index.size) % 1024

  def bin_sums(values):
    values = jnp.where(where, values, 0).ravel()
    lanes = jnp.zeros((num_bins, 1024), values.dtype)
    return lanes.at[index, lane].add(values).sum(-1)

  bins = ReliabilityBins(
    count=bin_sums(jnp.ones_like(confidences)),
    confidence_sum=bin_sums(confidences),
    correct_sum=bin_sums(correct),
  )
  return bins if axis_name is None else jax.lax.psum(bins, axis_name)


def expected_calibration_error(bins: ReliabilityBins) -> jax.Array:
  """ECE, the mean distance of confidence and accuracy (arXiv 1706.04599).

    ECE = 1/n sum_b |R_b - C_b|

  Gradient on C_b: the sign of C_b - R_b, over n.

  Args:
    bins: of `losses.reliability_bins`, [..., num_bins].

  Returns:
    [...] in [0, 1]; 0 without predictions.

  Raises:
    ValueError: if `bins` is not a ReliabilityBins of three sums of one shape.

  >>> bins = losses.reliability_bins(jnp.array([0.75, 0.75, 0.25]),
  ...                                jnp.array([True, False, False]))
  >>> print(f"{losses.expected_calibration_error(bins):.4f}")
  0.2500
  """
  _check(bins)
  gap = jnp.abs(bins.correct_sum - bins.confidence_sum)
  return jnp.sum(gap, axis=-1) / _total(bins)


def maximum_calibration_error(bins: ReliabilityBins) -> jax.Array:
  """MCE, the distance of confidence and accuracy in the worst bin.

    MCE = max_b |R_b - C_b| / n_b  over the bins that are not empty

  (arXiv 1706.04599). It may come from a bin of few predictions. Gradient on
  C_b: the sign of C_b - R_b, over n_b, in the worst bin.

  Args:
    bins: of `losses.reliability_bins`, [..., num_bins].

  Returns:
    [...] in [0, 1]; 0 without predictions.

  Raises:
    ValueError: if `bins` is not a ReliabilityBins of three sums of one shape.

  >>> bins = losses.reliability_bins(jnp.array([0.75, 0.75, 0.1]),
  ...                                jnp.array([True, False, True]))
  >>> print(f"{losses.maximum_calibration_error(bins):.4f}")
  0.9000
  """
  _check(bins)
  gap = jnp.abs(bins.correct_sum - bins.confidence_sum)
  return jnp.max(gap / jnp.where(bins.count > 0, bins.count, 1), axis=-1)


def overconfidence(bins: ReliabilityBins) -> jax.Array:
  """Mean confidence minus accuracy: positive if the model is too sure.

    1/n sum_b (C_b - R_b)

  Gradient on C_b: 1/n.

  Args:
    bins: of `losses.reliability_bins`, [..., num_bins].

  Returns:
    [...] in [-1, 1]; 0 without predictions. Its absolute value is at most the
    ECE.

  Raises:
    ValueError: if `bins` is not a ReliabilityBins of three sums of one shape.

  >>> bins = losses.reliability_bins(jnp.array([0.9, 0.9]),
  ...                                jnp.array([True, False]))
  >>> print(f"{losses.overconfidence(bins):.4f}")
  0.4000
  """
  _check(bins)
  gap = bins.confidence_sum - bins.correct_sum
  return jnp.sum(gap, axis=-1) / _total(bins)


def _check(bins):
  """ValueError unless a ReliabilityBins of three sums [..., num_bins]."""
  if not isinstance(bins, ReliabilityBins):
    raise ValueError(
      f"bins is a {type(bins).__name__}, not the ReliabilityBins that "
      "losses.reliability_bins returns"
    )
  shape = jnp.shape(bins.count)
  if not shape:
    raise ValueError("bins.count has shape (), not [..., num_bins]")
  for name in ("confidence_sum", "correct_sum"):
    meaning = f"{shape} of bins.count"
    checks.shape(f"bins.{name}", getattr(bins, name), shape, meaning)


def _total(bins):
  """The number of predictions, 1 for none."""
  total = jnp.sum(bins.count, axis=-1)
  return jnp.where(total != 0, total, 1)
