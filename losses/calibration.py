# SPDX-License-Identifier: Apache-2.0
"""Calibration: is what is said with 90 % confidence right 9 times in 10?

Notation: n predictions with confidence c in [0, 1], right (1) or wrong (0). Bin
b of M holds those with c in ((b - 1)/M, b/M]; c = 0 is in the first. With the
sums over a bin count n_b, confidence C_b, correct R_b:

  ECE = sum_b n_b/n |R_b/n_b - C_b/n_b| = 1/n sum_b |R_b - C_b|           (1)
  MCE = max_b |R_b - C_b| / n_b                                           (2)
  mean confidence - accuracy = 1/n sum_b (C_b - R_b)                      (3)

(arXiv 1706.04599). |(3)| <= (1), with equality where all bins err to one side.
A loss that weighs a token by its p_t, as TaiLr does, hardly corrects confident
mistakes; (3) shows whether the model has become over-confident.

The bins are sums, so those of batches add up:

  bins = jax.tree.map(jnp.add, bins, losses.reliability_bins(...))

A reliability diagram shows correct_sum / count against confidence_sum / count.
Results are float32, or float64 for float64; float32 counts are exact up to
2^24, so above that add the bins in NumPy float64. An ECE of n predictions is
biased upwards, by the order of sqrt(M/n): compare at equal n and M.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from losses import checks


class ReliabilityBins(NamedTuple):
  """Sums over the predictions whose confidence is in each bin, [num_bins]."""

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
  """Sums per bin of the confidence, of equal width (arXiv 1706.04599).

  Bin b is (b/M, (b+1)/M] for b = 0 ... M - 1; 0 is in the first. A confidence
  that is b/M rounded to its type is taken as b/M. Gradient: 1 on
  confidence_sum, for each confidence in the bin; none through its choice.

  Args:
    confidences: [...] in [0, 1]: of a classifier the greatest probability, of a
      multi-label model that of each class.
    correct: the shape of confidences; boolean, or floating in [0, 1] as the
      share of annotators that agree. Of a multi-label model the label.
    num_bins: M, at least 1; the paper has 15.
    where: boolean, broadcastable to confidences: the predictions that count.
    axis_name: of the shards of the batch, to add up over, or None.

  Returns:
    count, confidence_sum and correct_sum, each [num_bins].

  Raises:
    ValueError: if `confidences` is not floating point or outside [0, 1],
      `correct` is of integers or outside [0, 1], shapes do not fit or
      `num_bins` is not positive.

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
  checks.between("num_bins", num_bins, 1, jnp.inf)

  # Rounded once from float64, as b/M written out in the type would be.
  edges = jnp.asarray(np.arange(1, num_bins) / num_bins, confidences.dtype)
  index = jnp.searchsorted(edges, confidences.ravel(), side="left")

  # Added up in lanes: a million equal numbers one after the other would be off
  # by a percent in float32.
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

  Args:
    bins: of `losses.reliability_bins`, [..., num_bins].

  Returns:
    [...] in [0, 1]; 0 without predictions.

  >>> bins = losses.reliability_bins(jnp.array([0.75, 0.75, 0.25]),
  ...                                jnp.array([True, False, False]))
  >>> print(f"{losses.expected_calibration_error(bins):.4f}")
  0.2500
  """
  gap = jnp.abs(bins.correct_sum - bins.confidence_sum)
  return jnp.sum(gap, axis=-1) / _total(bins)


def maximum_calibration_error(bins: ReliabilityBins) -> jax.Array:
  """MCE, the distance of confidence and accuracy in the worst bin.

    MCE = max_b |R_b - C_b| / n_b  over the bins that are not empty

  (arXiv 1706.04599). A bin of few predictions can set it.

  Args:
    bins: of `losses.reliability_bins`, [..., num_bins].

  Returns:
    [...] in [0, 1]; 0 without predictions.

  >>> bins = losses.reliability_bins(jnp.array([0.75, 0.75, 0.1]),
  ...                                jnp.array([True, False, True]))
  >>> print(f"{losses.maximum_calibration_error(bins):.4f}")
  0.9000
  """
  gap = jnp.abs(bins.correct_sum - bins.confidence_sum)
  return jnp.max(gap / jnp.where(bins.count > 0, bins.count, 1), axis=-1)


def overconfidence(bins: ReliabilityBins) -> jax.Array:
  """Mean confidence minus accuracy: positive if the model is too sure.

    1/n sum_b (C_b - R_b)

  Args:
    bins: of `losses.reliability_bins`, [..., num_bins].

  Returns:
    [...] in [-1, 1], not beyond the ECE; 0 without predictions.

  >>> bins = losses.reliability_bins(jnp.array([0.9, 0.9]),
  ...                                jnp.array([True, False]))
  >>> print(f"{losses.overconfidence(bins):.4f}")
  0.4000
  """
  gap = bins.confidence_sum - bins.correct_sum
  return jnp.sum(gap, axis=-1) / _total(bins)


def _total(bins):
  """The number of predictions, 1 for none."""
  total = jnp.sum(bins.count, axis=-1)
  return jnp.where(total != 0, total, 1)
