# SPDX-License-Identifier: Apache-2.0
"""Calibration against float64 NumPy loops and models of known ECE."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import losses

RNG = np.random.default_rng(0)
BINS = jax.jit(
  losses.reliability_bins, static_argnames=("num_bins", "axis_name")
)
SUMMARIES = (
  losses.expected_calibration_error,
  losses.maximum_calibration_error,
  losses.overconfidence,
)


def bins_by_loop(confidences, correct, num_bins):
  """count, confidence_sum, correct_sum in float64."""
  sums = np.zeros((3, num_bins))
  for c, right in zip(confidences, correct, strict=True):
    b = 0
    while b < num_bins - 1 and not c <= np.float32((b + 1) / num_bins):
      b += 1
    sums[:, b] += 1, c, right
  return sums


def summaries_by_loop(sums):
  """ECE, MCE and mean confidence minus accuracy, as the paper defines them."""
  n = sums[0].sum()
  ece, mce = 0.0, 0.0
  for count, confidence, right in sums.T:
    if count:
      gap = abs(right / count - confidence / count)
      ece += count / n * gap
      mce = max(mce, gap)
  return ece, mce, sums[1].sum() / n - sums[2].sum() / n


@pytest.mark.parametrize("num_bins", [15, 10, 1])
def test_bins_and_summaries_are_those_of_a_loop(num_bins):
  edges = np.arange(num_bins + 1) / num_bins  # 0 and 1 among them
  confidences = np.float32(np.append(RNG.uniform(0.2, 0.9, 100), edges))
  correct = RNG.uniform(size=confidences.size) < 0.6
  bins = BINS(confidences, correct, num_bins=num_bins)
  expected = bins_by_loop(confidences, correct, num_bins)
  np.testing.assert_allclose(bins, expected, rtol=1e-6)
  for f, value in zip(SUMMARIES, summaries_by_loop(expected), strict=True):
    np.testing.assert_allclose(f(bins), value, rtol=1e-5, atol=1e-6)


def test_bins_are_closed_above():
  confidences = np.float32([0, 0.1, 0.2, 0.30000001, 0.3, 0.7, 0.9, 1])
  bins = BINS(confidences, confidences > 2, num_bins=10)
  np.testing.assert_array_equal(bins.count, [2, 1, 2, 0, 0, 0, 1, 0, 1, 1])


def test_batches_add_up():
  confidences = np.float32(RNG.uniform(size=(4, 25)))
  correct = RNG.uniform(size=(4, 25)) < 0.5
  whole = BINS(confidences, correct)
  parts = [BINS(*batch) for batch in zip(confidences, correct, strict=True)]
  added = jax.tree.map(lambda *sums: sum(sums), *parts)
  np.testing.assert_allclose(added, whole, rtol=1e-6)
  shards = jax.vmap(
    lambda c, r: losses.reliability_bins(c, r, axis_name="shards"),
    axis_name="shards",
  )(confidences, correct)
  for shard in range(4):
    np.testing.assert_allclose([x[shard] for x in shards], whole, rtol=1e-6)


def known_model(accuracy_of):
  """15 bins of 200, at the centres; the share that is right is exact."""
  centres = (np.arange(15) + 0.5) / 15
  right = np.round(200 * accuracy_of(centres)).astype(int)
  correct = np.arange(200) < right[:, None]
  return np.float32(np.repeat(centres, 200)), correct.ravel(), right / 200


def test_of_a_calibrated_model_the_error_is_0():
  # Centres of 20 bins, so that 200 times each is whole.
  centres = (np.arange(20) + 0.5) / 20
  confidences = np.float32(np.repeat(centres, 200))
  correct = np.arange(200) < np.round(200 * centres)[:, None]
  bins = BINS(confidences, correct.ravel(), num_bins=20)
  for f in SUMMARIES:
    np.testing.assert_allclose(f(bins), 0, atol=1e-6)


def test_of_an_overconfident_model_the_error_is_known():
  """Accuracy c^2 at confidence c: too sure in every bin, most at 1/2."""
  confidences, correct, accuracy = known_model(np.square)
  gap = (np.arange(15) + 0.5) / 15 - accuracy
  bins = BINS(confidences, correct)
  ece, mce, over = (f(bins) for f in SUMMARIES)
  np.testing.assert_allclose(ece, gap.mean(), rtol=1e-5)  # about 1/6
  np.testing.assert_allclose(ece, 1 / 6, atol=0.01)
  np.testing.assert_allclose(over, ece, rtol=1e-6)
  np.testing.assert_allclose(mce, gap.max(), rtol=1e-5)  # about 1/4


def test_errors_of_both_signs_do_not_cancel():
  """Always 1/2 right, said with 0 to 1: ECE 1/4, on the whole not too sure."""
  confidences, correct, _ = known_model(lambda c: np.full_like(c, 0.5))
  bins = BINS(confidences, correct)
  expected = abs((np.arange(15) + 0.5) / 15 - 0.5).mean()
  np.testing.assert_allclose(
    losses.expected_calibration_error(bins), expected, rtol=1e-5
  )
  np.testing.assert_allclose(losses.overconfidence(bins), 0, atol=1e-6)


def test_many_equal_confidences_keep_their_digits():
  confidences = np.full(500_000, 0.9, np.float32)
  correct = np.arange(500_000) % 10 != 0  # calibrated
  bins = BINS(confidences, correct)
  assert losses.expected_calibration_error(bins) < 1e-4


def test_masked_predictions_do_not_count():
  confidences, correct = np.float32([0.2, np.nan, 0.9]), np.array([True] * 3)
  where = np.array([True, False, True])
  expected = BINS(confidences[where], correct[where])
  for c in (confidences, np.float32([0.2, 5.0, 0.9])):
    bins = losses.reliability_bins(c, correct, where=where)
    np.testing.assert_allclose(bins, expected, rtol=1e-6)
  nothing = BINS(confidences, correct, where=np.zeros(3, bool))
  np.testing.assert_array_equal(nothing, 0)
  for f in SUMMARIES:
    assert f(nothing) == 0


def test_gradient_is_the_sign_of_the_gap():
  """Over-confident in the upper bin, under-confident in the lower."""
  correct = jnp.array([True, False, True])

  def ece(confidences):
    bins = losses.reliability_bins(confidences, correct, num_bins=2)
    return losses.expected_calibration_error(bins)

  slope = jax.grad(ece)(jnp.array([0.2, 0.8, 0.9]))
  np.testing.assert_allclose(slope, [-1 / 3, 1 / 3, 1 / 3], rtol=1e-6)


def test_correct_may_be_a_share():
  bins = BINS(jnp.array([0.7, 0.8]), jnp.array([0.25, 0.5]), num_bins=1)
  np.testing.assert_allclose(bins.correct_sum, [0.75])


def test_mistakes_are_named():
  c, right = np.float32([0.2, 0.4]), np.array([True, False])
  with pytest.raises(ValueError, match="confidences must be floating point"):
    losses.reliability_bins(right, right)
  with pytest.raises(ValueError, match="correct must be floating point"):
    losses.reliability_bins(c, right.astype(int))
  with pytest.raises(ValueError, match=r"correct has shape \(3,\)"):
    losses.reliability_bins(c, np.array([True] * 3))
  with pytest.raises(ValueError, match="confidences has 20"):
    losses.reliability_bins(100 * c, right)
  for number in (0, 2.5):
    with pytest.raises(
      ValueError, match=f"num_bins={number} must be an integer"
    ):
      losses.reliability_bins(c, right, num_bins=number)


@pytest.mark.parametrize("f", SUMMARIES)
def test_bins_that_are_none_are_named(f):
  bins = losses.reliability_bins(np.float32([0.2]), np.array([True]))
  # [1] or [] against [15] would be broadcast.
  with pytest.raises(
    ValueError, match=r"correct_sum has shape \(1,\), not \(15"
  ):
    f(bins._replace(correct_sum=jnp.ones(1)))
  with pytest.raises(ValueError, match=r"confidence_sum has shape \(\)"):
    f(bins._replace(confidence_sum=1.0))
  with pytest.raises(ValueError, match=r"count has shape \(\), not \[..."):
    f(jax.tree.map(jnp.sum, bins))
  with pytest.raises(ValueError, match="bins is a tuple, not the Reliability"):
    f(tuple(bins))
