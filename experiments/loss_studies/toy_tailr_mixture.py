# SPDX-License-Identifier: Apache-2.0
"""TaiLr's mixture: one Gaussian for two, by divergence or by distance.

The toy of arXiv 2302.13344, with parameters read off its figure (memory):

  data = 0.8 N(1, 0.5^2) + 0.2 N(5, 0.4^2)

The Kullback-Leibler divergence, cross-entropy's, covers both modes; total
variation keeps to the large one. TaiLr needs probabilities of tokens, which
here are intervals of a width; its gamma is compared with them. All in float64.
"""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize
from scipy import stats
import tqdm

import losses

FINE = np.arange(-5, 11, 1e-3)
# Where searches start, (mu, log sigma): on both modes, and on the large one.
STARTS = ((1.8, np.log(1.67)), (1.0, np.log(0.5)))


def data(x):
  """The density, [...]."""
  return 0.8 * stats.norm.pdf(x, 1, 0.5) + 0.2 * stats.norm.pdf(x, 5, 0.4)


def total_variation(mu: float, sigma: float) -> float:
  """Half the integral of |data - N(mu, sigma^2)|, in [0, 1]."""
  difference = np.abs(data(FINE) - stats.norm.pdf(FINE, mu, sigma))
  return float(np.trapezoid(difference, FINE) / 2)


def tailr_fn(width: float):
  """(mu, log sigma), gamma -> TaiLr of the intervals, a mean over the data."""
  x = np.arange(-5, 11, width)
  share = data(x) * width

  @jax.jit
  def fn(params, gamma):
    z = -(((x - params[0]) * jnp.exp(-params[1])) ** 2) / 2
    nll = jax.nn.logsumexp(z) - z
    return jnp.sum(share * losses.tailr(nll, gamma=gamma))

  return fn


def search(fn) -> tuple[float, float]:
  """(mu, sigma) at the least fn(mu, log sigma), from all starts."""
  settings = {"xatol": 1e-7, "fatol": 1e-12}
  best = min(
    (
      optimize.minimize(fn, start, method="Nelder-Mead", options=settings)
      for start in STARTS
    ),
    key=lambda found: found.fun,
  )
  return float(best.x[0]), float(np.exp(best.x[1]))


def describe(mu: float, sigma: float) -> dict:
  return {
    "mu": mu,
    "sigma": sigma,
    "peak": float(stats.norm.pdf(0, scale=sigma)),
    "total_variation": total_variation(mu, sigma),
  }


def measure(config) -> dict:
  """The best Gaussians by divergence, by total variation, and by TaiLr.

  Args:
    config: of configs/loss_toys.py:tailr_mixture.

  Returns:
    kl, tvd: mu, sigma, peak of the density, total_variation; largest: the
      probability of the data's likeliest interval; tailr: rows of these and
      gamma.
  """
  mean = 0.8 * 1 + 0.2 * 5
  square = 0.8 * (0.5**2 + 1**2) + 0.2 * (0.4**2 + 5**2)
  rows = []
  with jax.enable_x64(True):
    fn = tailr_fn(config.width)
    for gamma in tqdm.tqdm(config.gammas, unit="gamma"):
      best = search(lambda q, gamma=gamma: float(fn(jnp.asarray(q), gamma)))
      rows.append({"gamma": gamma} | describe(*best))
  nearest = search(lambda q: total_variation(q[0], np.exp(q[1])))
  return {
    "kl": describe(mean, float(np.sqrt(square - mean**2))),
    "tvd": describe(*nearest),
    "largest": float(data(FINE).max() * config.width),
    "tailr": rows,
  }
