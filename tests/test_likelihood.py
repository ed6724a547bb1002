# SPDX-License-Identifier: Apache-2.0
"""Bits per dimension of greys whose distribution is known.

An image is one pixel of five greys, drawn by PROBABILITIES; the perfect
denoiser is a softmax over them. Expected values are float64 quadrature.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special
from scipy import stats

from simple_diffusion import diffusion
from simple_diffusion import likelihood
from simple_diffusion import sampler
from simple_diffusion import schedules

GREYS = np.linspace(-1, 1, 5)
# A Gaussian, discretised: the mass of each grey's cell, and the outer tails.
MEAN, STD = 0.1, 0.6
EDGES = np.array([-np.inf, -0.75, -0.25, 0.25, 0.75, np.inf])
PROBABILITIES = np.diff(stats.norm(MEAN, STD).cdf(EDGES))
ENTROPY = -np.sum(PROBABILITIES * np.log2(PROBABILITIES))

SCHEDULE = schedules.cosine(image_size=1)
COUNT = 4096  # images of each grey


@functools.cache
def ending_at(logsnr):
  return likelihood.ending_at(SCHEDULE, logsnr)


def greys_denoiser(z, logsnr, cond):
  """E[x | z] of the greys, as prediction x."""
  alpha, sigma = (
    f(logsnr)[:, None] for f in (diffusion.alpha, diffusion.sigma)
  )
  greys = np.float32(GREYS)[None]
  errors = z.reshape(-1, 1) - alpha * greys  # [B, L]
  logits = np.log(np.float32(PROBABILITIES))[None]
  logits = logits - errors**2 / (2 * sigma**2)
  x_hat = jnp.sum(jax.nn.softmax(logits) * greys, axis=1)
  return x_hat.reshape(z.shape)


def gaussian_denoiser(z, logsnr, cond):
  """E[x | z] of N(MEAN, STD^2), as prediction x."""
  logsnr = diffusion.broadcast_to_images(logsnr, z)
  alpha, sigma = diffusion.alpha(logsnr), diffusion.sigma(logsnr)
  gain = alpha * STD**2 / (alpha**2 * STD**2 + sigma**2)
  return MEAN + gain * (z - alpha * MEAN)


def levels(logsnr):
  """alpha, sigma in float64."""
  snr = np.exp(np.float64(logsnr))
  return np.sqrt(snr / (1 + snr)), np.sqrt(1 / (1 + snr))


def kl_to(log_p, grey, logsnr):
  """KL(q(z | x) || p) in bits, by Gauss-Hermite quadrature."""
  alpha, sigma = levels(logsnr)
  nodes, weights = np.polynomial.hermite_e.hermegauss(200)
  weights = weights / weights.sum()
  z = alpha * grey + sigma * nodes
  log_q = stats.norm(alpha * grey, sigma).logpdf(z)
  return weights @ (log_q - log_p(z)) / math.log(2)


def log_marginal(logsnr):
  """log p(z) of the noisy greys."""
  alpha, sigma = levels(logsnr)

  def log_p(z):
    parts = stats.norm(alpha * GREYS, sigma).logpdf(z[:, None])
    return special.logsumexp(parts + np.log(PROBABILITIES), axis=1)

  return log_p


def log_decoder(z, logsnr):
  """log p(x | z_0) of the five greys, [N, 5]."""
  alpha, sigma = levels(logsnr)
  return special.log_softmax(
    -((z[:, None] - alpha * GREYS) ** 2) / (2 * sigma**2), axis=1
  )


def decoder_bits(index, logsnr):
  """-E log2 p(x | z_0) by quadrature."""
  alpha, sigma = levels(logsnr)
  nodes, weights = np.polynomial.hermite_e.hermegauss(200)
  z = alpha * GREYS[index] + sigma * nodes
  log_p = log_decoder(z, logsnr)[:, index]
  return -(weights / weights.sum()) @ log_p / math.log(2)


def batch_of(grey, count=COUNT):
  return np.full((count, 1, 1, 1), grey, np.float32)


@functools.partial(jax.jit, static_argnames=("schedule", "clip"))
def variational_bits(keys, x, *, schedule, clip=False):
  return likelihood.variational_bits(
    keys,
    x,
    None,
    schedule=schedule,
    num_levels=5,
    predict_fn=greys_denoiser,
    prediction="x",
    clip=clip,
    num_samples=32,
  )


@pytest.mark.parametrize("end", [2.0, 5.0])
def test_variational_bound_of_the_perfect_denoiser(end):
  # Each part in closed form, and their sum above what it bounds.
  alpha, sigma = levels(end)
  z, dz = np.linspace(-8, 8, 20001, retstep=True)
  p_z = np.exp(log_marginal(end)(z))
  totals = []
  for i, grey in enumerate(GREYS):
    keys = sampler.keys_for(i, jnp.arange(COUNT))
    bits = variational_bits(keys, batch_of(grey), schedule=ending_at(end))
    parts = [np.float64(part) for part in bits]
    expected = (
      kl_to(stats.norm().logpdf, grey, -15.0),
      kl_to(log_marginal(end), grey, end)
      - kl_to(log_marginal(-15.0), grey, -15.0),
      decoder_bits(i, end),
    )
    for part, value in zip(parts, expected, strict=True):
      error = part.std() / math.sqrt(COUNT)
      assert abs(part.mean() - value) < 4 * error + 1e-6
    # The model: z_0 from its marginal, then the decoder.
    model = -np.log2(np.sum(p_z * np.exp(log_decoder(z, end)[:, i])) * dz)
    assert sum(expected) > model - 1e-6
    totals.append(sum(parts).mean())
  # Cross-entropy is never below entropy, and reached where noise is small.
  mean = PROBABILITIES @ totals
  assert mean > ENTROPY
  if end == 5.0:
    np.testing.assert_allclose(mean, ENTROPY, atol=0.05)


def test_clipping_helps_or_does_nothing():
  # The perfect x_hat is within [-1, 1] already.
  keys = sampler.keys_for(0, jnp.arange(8))
  plain = variational_bits(keys, batch_of(1.0, 8), schedule=ending_at(5.0))
  clipped = variational_bits(
    keys, batch_of(1.0, 8), schedule=ending_at(5.0), clip=True
  )
  np.testing.assert_allclose(clipped, plain, atol=1e-4)


@pytest.mark.parametrize("end", [-15.0, 3.0, 8.0, 15.0])
def test_reconstruction(end):
  np_rng = np.random.default_rng(0)
  level = np_rng.integers(256, size=(3, 4, 4, 2))
  x = 2 * level / 255 - 1
  eps = np_rng.standard_normal(x.shape)
  schedule = schedules.cosine(image_size=4, logsnr_min=-16, logsnr_max=end)
  bits = likelihood.reconstruction_bits(
    np.float32(x), np.float32(eps), schedule=schedule, num_levels=256
  )
  alpha, sigma = levels(end)
  z = alpha * x + sigma * eps
  greys = 2 * np.arange(256) / 255 - 1
  logits = -((z[..., None] - alpha * greys) ** 2) / (2 * sigma**2)
  log_p = special.log_softmax(logits, axis=-1)
  log_p = np.take_along_axis(log_p, level[..., None], axis=-1)
  expected = -log_p.reshape(3, -1).mean(1) / math.log(2)
  np.testing.assert_allclose(bits, expected, rtol=1e-4, atol=1e-6)
  if end == -15:
    np.testing.assert_allclose(bits, np.full(3, 8.0), atol=0.01)
  if end == 15:
    np.testing.assert_allclose(bits, np.zeros(3), atol=1e-3)


@functools.partial(
  jax.jit,
  static_argnames=("schedule", "dequantisation", "num_levels", "num_probes"),
)
def flow_bits(keys, x, *, schedule, dequantisation, num_levels=5, num_probes=1):
  return likelihood.flow_bits(
    keys,
    x,
    None,
    schedule=schedule,
    num_levels=num_levels,
    dequantisation=dequantisation,
    num_probes=num_probes,
    predict_fn=gaussian_denoiser,
    prediction="x",
    num_steps=24,
  )


@pytest.mark.parametrize("end", [4.0, 15.0])
@pytest.mark.parametrize("dequantisation", likelihood.DEQUANTISATIONS)
def test_flow(dequantisation, end):
  # Of data that are N(MEAN, STD^2), and noisier by the schedule's end.
  alpha, sigma = levels(end)
  density = stats.norm(MEAN, math.sqrt(STD**2 + math.exp(-end)))
  for i in (1, 4):
    keys = sampler.keys_for(0, jnp.arange(COUNT))
    x = batch_of(GREYS[i])
    bits = flow_bits(
      keys, x, schedule=ending_at(end), dequantisation=dequantisation
    )
    bits = np.float64(bits)
    if dequantisation == "uniform":
      y = GREYS[i] + np.linspace(-0.25, 0.25, 2001)
      expected = -np.mean(density.logpdf(y)) / math.log(2) + 1  # -log2(1/2)
      model = -np.log2(np.diff(density.cdf(GREYS[i] + [-0.25, 0.25]))[0])
    else:

      def log_p(z, alpha=alpha):
        return density.logpdf(z / alpha) - np.log(alpha)

      expected = kl_to(log_p, GREYS[i], end) + decoder_bits(i, end)
      z, dz = np.linspace(-8, 8, 20001, retstep=True)
      given = np.exp(log_decoder(z, end)[:, i])
      model = -np.log2(np.sum(np.exp(log_p(z)) * given) * dz)
    error = bits.std() / math.sqrt(COUNT)
    assert abs(bits.mean() - expected) < 4 * error + 1e-3
    assert expected > model  # Jensen


def test_flow_with_small_cells_is_exact():
  # 256 greys under a wide Gaussian: their probabilities, 9 digits apart.
  level = np.arange(256)
  edges = (2 * level[:, None] + [-1, 1]) / 255 - 1
  bits = flow_bits(
    sampler.keys_for(0, jnp.arange(256)),
    np.float32(2 * level / 255 - 1).reshape(256, 1, 1, 1),
    schedule=ending_at(15.0),
    dequantisation="uniform",
    num_levels=256,
  )
  mass = np.diff(stats.norm(MEAN, STD).cdf(edges))[:, 0]
  # Within its cell the density of an image varies by up to 1 %.
  np.testing.assert_allclose(bits, -np.log2(mass), atol=0.025)
  np.testing.assert_allclose(np.mean(bits + np.log2(mass)), 0, atol=2e-3)


def test_probes():
  # One pixel: a random sign squared is one, so all traces are exact.
  options = dict(schedule=ending_at(5.0), dequantisation="normal")
  keys = sampler.keys_for(0, jnp.arange(4))
  exact = flow_bits(keys, batch_of(0.5, 4), num_probes=None, **options)
  signs = flow_bits(keys, batch_of(0.5, 4), num_probes=3, **options)
  np.testing.assert_allclose(exact, signs, rtol=1e-5)
  with pytest.raises(ValueError, match="num_probes=0"):
    flow_bits(keys, batch_of(0.5, 4), num_probes=0, **options)
  with pytest.raises(ValueError, match="'u'; the options are uniform, normal"):
    flow_bits(keys, batch_of(0.5, 4), **(options | {"dequantisation": "u"}))


def test_ends():
  assert likelihood.default_logsnr_end(256) == pytest.approx(13.3)
  # 2 / 16 instead of 2 / 255 between greys, at the same ratio to the noise.
  ratio = 2 / 255 * math.exp(13.3 / 2)
  assert likelihood.default_logsnr_end(17) == pytest.approx(
    2 * math.log(ratio / (2 / 16))
  )
  shifted = schedules.interpolated_cosine(image_size=512, ref_at_data=64)
  cut = likelihood.ending_at(shifted, 7.0)
  np.testing.assert_allclose(cut.logsnr(0.0), 7.0, atol=1e-4)
  np.testing.assert_allclose(cut.logsnr(1.0), shifted.logsnr(1.0), atol=1e-2)
  last = float(shifted.logsnr(0.0))  # May be given back as it is.
  assert likelihood.ending_at(shifted, last).logsnr(0.0) == pytest.approx(last)
  for outside in (last + 0.1, -30.0):
    with pytest.raises(ValueError, match="not within the schedule"):
      likelihood.ending_at(shifted, outside)
