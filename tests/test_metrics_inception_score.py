# SPDX-License-Identifier: Apache-2.0
"""The Inception score at its bounds, and against its definition."""

import numpy as np
import pytest

from simple_diffusion import metrics


def one_hot_logits(labels, num_classes):
  """So sure that the other probabilities are 0 in float64."""
  return 1e4 * np.eye(num_classes)[labels]


def test_bounds():
  labels = np.repeat(np.arange(6), 50)
  # One perfect image a class: K, less what the parts' class counts vary.
  mean, std = metrics.inception_score(one_hot_logits(labels, 6), num_splits=1)
  np.testing.assert_allclose((mean, std), (6, 0), rtol=1e-12)
  # Always the same class, or no idea: 1.
  same = metrics.inception_score(one_hot_logits(0 * labels, 6), num_splits=5)
  np.testing.assert_allclose(same, (1, 0), atol=1e-12)
  clueless = metrics.inception_score(np.zeros((300, 6)), num_splits=5)
  np.testing.assert_allclose(clueless, (1, 0), atol=1e-12)


def test_definition():
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(37, 5)) * 2
  p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
  divergences = [(row * np.log(row / p.mean(0))).sum() for row in p]
  expected = np.exp(np.mean(divergences))
  found = metrics.inception_score(logits, num_splits=1)
  np.testing.assert_allclose(found, (expected, 0), rtol=1e-12)
  # The logits' offset is nothing.
  shifted = logits + 1e3 * rng.normal(size=(37, 1))
  np.testing.assert_allclose(
    metrics.inception_score(shifted, num_splits=1)[0], expected, rtol=1e-9
  )


def test_images_in_order_of_their_class_are_shuffled():
  labels = np.repeat(np.arange(10), 100)
  mean, std = metrics.inception_score(one_hot_logits(labels, 10))
  assert 9 < mean < 10  # In their order it would be 1: one class a split.
  assert 0 < std < 0.5


def test_splits_that_cannot_be():
  with pytest.raises(ValueError, match="num_splits 10 .* images, 3"):
    metrics.inception_score(np.zeros((3, 2)))
  with pytest.raises(ValueError, match="num_splits 0"):
    metrics.inception_score(np.zeros((3, 2)), num_splits=0)
