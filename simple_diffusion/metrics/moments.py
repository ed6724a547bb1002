# SPDX-License-Identifier: Apache-2.0
"""Mean and covariance of features, by batch and by process, in float64.

Sums of squares are taken about the mean of each part and then merged, never
about zero, so nothing cancels (Chan, Golub and LeVeque, 1983):

  n = n_a + n_b,  d = m_b - m_a
  m = m_a + d n_b / n
  S = S_a + S_b + d d^T n_a n_b / n
"""

from collections.abc import Iterable
import functools
from typing import NamedTuple

import chex
import jax
from jax.experimental import multihost_utils
import numpy as np


class Moments(NamedTuple):
  """What a Gaussian is fitted to.

  Attributes:
    count: number of features, N.
    mean: float64 [D]; zeros if N is 0.
    scatter: float64 [D, D], the sum of (x - mean) (x - mean)^T.
  """

  count: int
  mean: np.ndarray
  scatter: np.ndarray


def moments_of(features: np.ndarray) -> Moments:
  """Moments of features [N, D], N >= 1."""
  chex.assert_rank(features, 2)
  x = np.float64(features)
  mean = x.mean(0)
  centred = x - mean
  return Moments(len(x), mean, centred.T @ centred)


def merge(a: Moments, b: Moments) -> Moments:
  """Moments of the union of two sets."""
  chex.assert_equal_shape([a.mean, b.mean])
  count = a.count + b.count
  difference = b.mean - a.mean
  weight = a.count * b.count / count
  return Moments(
    count,
    a.mean + difference * (b.count / count),
    a.scatter + b.scatter + weight * np.outer(difference, difference),
  )


def moments_of_batches(batches: Iterable[np.ndarray]) -> Moments:
  """Moments of all features of an iterable of [B, D], each seen once."""
  return functools.reduce(merge, map(moments_of, batches))


def covariance(moments: Moments) -> np.ndarray:
  """Unbiased covariance [D, D].

  Raises:
    ValueError: of fewer than two features.
  """
  if moments.count < 2:
    raise ValueError(
      f"a covariance of {moments.count} image(s) does not exist; give at least "
      "2, and thousands for a number that means anything"
    )
  return moments.scatter / (moments.count - 1)


def merge_processes(moments: Moments) -> Moments:
  """Moments of the features of all processes, the same on each of them.

  Every process must call it, the first with at least one feature. Another may
  have none: moments of count 0.
  """
  if jax.process_count() == 1:
    return moments
  counts, means, scatters = map(gather_float64, moments)
  parts = map(Moments, map(int, counts), means, scatters)
  return functools.reduce(merge, parts)


def gather_float64(values) -> np.ndarray:
  """Float64 values of equal shape [...] of all P processes: [P, ...] on each.

  Every process of several must call it.
  """
  # As halves of 32 bits: JAX would round float64 to float32 on the way.
  halves = np.float64(values).reshape(-1).view(np.uint32)
  rows = multihost_utils.process_allgather(halves)
  return rows.view(np.float64).reshape(-1, *np.shape(values))
