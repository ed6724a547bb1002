# SPDX-License-Identifier: Apache-2.0
"""The toy of TaiLr (arXiv 2302.13344): one Gaussian for a mixture of two.

The data are 0.8 N(1, 0.5^2) + 0.2 N(5, 0.4^2), read off the figure of the
authors' README (memory). Cross-entropy, as the Kullback-Leibler divergence,
covers both modes; total variation keeps to the large one, as TaiLr is to do.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize
from scipy import stats

import losses

WIDTH = 0.05  # Of the tokens, which are intervals.
X = np.arange(-5, 11, WIDTH)
FINE = np.arange(-5, 11, 1e-3)


def data(x):
  return 0.8 * stats.norm.pdf(x, 1, 0.5) + 0.2 * stats.norm.pdf(x, 5, 0.4)


def total_variation(mu, sigma):
  distance = np.abs(data(FINE) - stats.norm.pdf(FINE, mu, sigma))
  return np.trapezoid(distance, FINE) / 2


def fit(f, start):
  """(mu, sigma) at the least f(mu, log sigma) near the start."""
  start = [start[0], np.log(start[1])]
  settings = {"xatol": 1e-7, "fatol": 1e-12}
  best = optimize.minimize(f, start, method="Nelder-Mead", options=settings)
  return best.x[0], np.exp(best.x[1])


@jax.jit
def tailr(params, gamma):
  """TaiLr of a Gaussian, averaged over the data."""
  z = -(((X - params[0]) * jnp.exp(-params[1])) ** 2) / 2
  nll = jax.nn.logsumexp(z) - z
  return (data(X) * WIDTH * losses.tailr(nll, gamma=gamma)).sum()


def fit_tailr(gamma, start):
  with jax.enable_x64(True):
    return fit(lambda q: float(tailr(jnp.array(q), gamma)), start)


# mu, sigma, the peak of the density and the distance in float64; the first is
# that of equal moments, the second of a search by scipy.
KL = (1.8000, 1.6709, 0.2388, 0.5169)
TVD = (1.0508, 0.6190, 0.6445, 0.1999)


def test_best_gaussians():
  mean = 0.8 * 1 + 0.2 * 5
  deviation = np.sqrt(0.8 * (0.25 + 1) + 0.2 * (0.16 + 25) - mean**2)
  nearest = fit(lambda q: total_variation(q[0], np.exp(q[1])), [1.0, 0.6])
  for (mu, sigma), expected in (((mean, deviation), KL), (nearest, TVD)):
    peak = stats.norm.pdf(0, scale=sigma)
    result = mu, sigma, peak, total_variation(mu, sigma)
    np.testing.assert_allclose(result, expected, atol=1e-4)


@pytest.mark.parametrize("gamma", [0.0, 1e-7])  # 1e-7: the authors' COCO runs.
def test_small_gamma_covers_both_modes(gamma):
  # The tails beyond X are missing, and the intervals have a width.
  np.testing.assert_allclose(fit_tailr(gamma, KL[:2]), KL[:2], atol=1e-3)


def test_gamma_near_the_probabilities_is_nearly_total_variation():
  # 1e-3; a token of the large mode has 0.03. Measured: 1.0000, 0.4693, 0.2034.
  mu, sigma = fit_tailr(1e-3, KL[:2])
  np.testing.assert_allclose([mu, sigma], [1.0, 0.4693], atol=1e-3)
  assert TVD[3] < total_variation(mu, sigma) < TVD[3] + 0.005
