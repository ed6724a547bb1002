# SPDX-License-Identifier: Apache-2.0
"""Densities under the probability flow, where they are known."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special
from scipy import stats

from simple_diffusion import diffusion
from simple_diffusion import probability_flow
from simple_diffusion import sampler
from simple_diffusion import schedules

SCHEDULE = schedules.cosine(image_size=2)  # log-SNR -15 to 15
END_VARIANCE = math.exp(-15)  # of the noise in what is measured as x
SHAPE = (2, 2, 1)

# Four pixels that depend on each other, of standard deviations 0.1 to 0.7.
np_rng = np.random.default_rng(0)
MEAN = np_rng.uniform(-0.5, 0.5, 4)
VECTORS = np.linalg.qr(np_rng.standard_normal((4, 4)))[0]
VALUES = np.array([0.01, 0.05, 0.2, 0.5])
COVARIANCE = (VECTORS * VALUES) @ VECTORS.T


@functools.cache  # One function, one compilation.
def gaussian(prediction):
  """The perfect network for N(MEAN, COVARIANCE)."""
  vectors, values = np.float32(VECTORS), np.float32(VALUES)

  def predict_fn(z, logsnr, cond):
    alpha, sigma = (
      f(logsnr)[:, None] for f in (diffusion.alpha, diffusion.sigma)
    )
    mean = np.float32(MEAN)[None]
    moved = (z.reshape(-1, 4) - alpha * mean) @ vectors
    gain = alpha * values[None] / (alpha**2 * values[None] + sigma**2)
    x_hat = (mean + (gain * moved) @ vectors.T).reshape(z.shape)
    hat = diffusion.predictions(x_hat, z, logsnr, prediction="x")
    return getattr(hat, prediction)

  return predict_fn


@functools.partial(
  jax.jit,
  static_argnames=("predict_fn", "schedule", "prediction", "num_steps"),
)
def density_bits(
  x, probes, *, predict_fn, schedule=SCHEDULE, prediction="v", num_steps=32
):
  return probability_flow.density_bits(
    x,
    probes,
    None,
    predict_fn=predict_fn,
    schedule=schedule,
    prediction=prediction,
    num_steps=num_steps,
  )


def draws(batch_size):
  x = np.random.default_rng(1).multivariate_normal(MEAN, COVARIANCE, batch_size)
  return np.float32(x).reshape(batch_size, *SHAPE)


def exact_bits(x):
  noisy = COVARIANCE + END_VARIANCE * np.eye(4)
  log_p = stats.multivariate_normal(MEAN, noisy).logpdf(x.reshape(-1, 4))
  return -log_p / (4 * math.log(2))


UNIT_PROBES = probability_flow.unit_probes(image_shape=SHAPE)


@pytest.mark.parametrize("prediction", ["v", "eps", "x"])
def test_gaussian_exactly(prediction):
  x = draws(8)
  bits = density_bits(
    x,
    UNIT_PROBES,
    predict_fn=gaussian(prediction),
    prediction=prediction,
  )
  assert bits.dtype == jnp.float32
  np.testing.assert_allclose(bits, exact_bits(x), atol=1e-3)


def test_ends_of_the_schedule_are_all_that_matters():
  # Another way between the same ends, and other ends: noisier images.
  x, probes = draws(8), UNIT_PROBES
  options = dict(image_size=2, ref_at_noise=1, ref_at_data=4)
  turned = schedules.Schedule(
    logsnr_min=-15 + 2 * math.log(2), logsnr_max=15 - 2 * math.log(2), **options
  )
  fn = gaussian("v")
  bits = density_bits(x, probes, predict_fn=fn, schedule=turned)
  np.testing.assert_allclose(bits, exact_bits(x), atol=1e-3)

  early = schedules.cosine(image_size=2, logsnr_max=4.0)
  noisy = COVARIANCE + math.exp(-4) * np.eye(4)
  log_p = stats.multivariate_normal(MEAN, noisy).logpdf(x.reshape(-1, 4))
  bits = density_bits(x, probes, predict_fn=fn, schedule=early)
  np.testing.assert_allclose(bits, -log_p / (4 * math.log(2)), atol=1e-3)


def test_random_signs_are_unbiased():
  x = np.repeat(draws(1), 1024, axis=0)
  keys = sampler.keys_for(0, jnp.arange(1024))
  fn = gaussian("v")
  errors = []
  for num_probes in (1, 4):
    probes = probability_flow.sign_probes(
      keys, num_probes=num_probes, image_shape=SHAPE
    )
    assert set(np.unique(probes)) == {-1, 1}
    bits = np.float64(density_bits(x, probes, predict_fn=fn))
    errors.append(bits.std())
    standard_error = bits.std() / math.sqrt(len(bits))
    assert abs(bits.mean() - exact_bits(x)[0]) < 4 * standard_error + 1e-4
  assert errors[0] > 0.05  # The signs do matter here, and more of them help:
  np.testing.assert_allclose(errors[0] / errors[1], 2, rtol=0.15)


def test_probes_are_those_of_the_image():
  def probes(*indices):
    keys = sampler.keys_for(0, jnp.array(indices))
    options = dict(num_probes=16, image_shape=SHAPE)
    return np.asarray(probability_flow.sign_probes(keys, **options))

  three = probes(0, 1, 2)
  assert three.shape == (16, 3, *SHAPE)
  np.testing.assert_array_equal(probes(2), three[:, 2:])
  assert np.abs(three[:, 0] - three[:, 1]).any()


@pytest.mark.parametrize("at_a_time", [1, 3])
def test_exact_trace_in_pieces(monkeypatch, at_a_time):
  options = dict(
    predict_fn=gaussian("v"), schedule=SCHEDULE, prediction="v", num_steps=1
  )
  at_once = probability_flow.density_bits(
    draws(2), UNIT_PROBES, None, **options
  )
  monkeypatch.setattr(probability_flow, "PROBES_AT_A_TIME", at_a_time)
  in_pieces = probability_flow.density_bits(
    draws(2), UNIT_PROBES, None, **options
  )
  np.testing.assert_allclose(in_pieces, at_once, rtol=1e-5)


def test_mixture():
  # 0.3 N(-.6, .1^2) + 0.7 N(.5, .2^2): the divergence varies with z.
  weights, means, stds = (
    np.array(a) for a in ([0.3, 0.7], [-0.6, 0.5], [0.1, 0.2])
  )

  def predict_fn(z, logsnr, cond):
    alpha, sigma = (
      f(logsnr)[:, None] for f in (diffusion.alpha, diffusion.sigma)
    )
    w, m, s = (jnp.float32(a)[None] for a in (weights, means, stds))
    z = z.reshape(-1, 1)
    variance = alpha**2 * s**2 + sigma**2
    log_part = jnp.log(w) - jnp.log(variance) / 2
    log_part -= (z - alpha * m) ** 2 / (2 * variance)
    x_hat = m + alpha * s**2 / variance * (z - alpha * m)
    x_hat = jnp.sum(jax.nn.softmax(log_part) * x_hat, axis=1)
    return x_hat.reshape(-1, 1, 1, 1)

  x = np.float32(np.linspace(-1, 1.2, 12)).reshape(12, 1, 1, 1)
  bits = density_bits(
    x,
    jnp.ones((1, *x.shape)),
    predict_fn=predict_fn,
    prediction="x",
    num_steps=128,
  )
  log_p = stats.norm(means, np.sqrt(stds**2 + END_VARIANCE)).logpdf(
    np.float64(x).reshape(12, 1)
  )
  log_p = special.logsumexp(log_p + np.log(weights), axis=1)
  np.testing.assert_allclose(bits, -log_p / math.log(2), atol=1e-3)


def test_any_network_has_a_density():
  # Whatever v_hat is, what the flow makes of N(0, 1) integrates to one.
  def predict_fn(z, logsnr, cond):
    gain = 0.5 * jnp.tanh(logsnr)
    return 0.3 * jnp.sin(3 * z) + gain.reshape(-1, 1, 1, 1) * z

  x = np.float32(np.linspace(-8, 8, 2001))
  bits = density_bits(
    x.reshape(-1, 1, 1, 1), jnp.ones((1, 2001, 1, 1, 1)), predict_fn=predict_fn
  )
  total = np.sum(np.exp2(-np.float64(bits))) * (16 / 2000)
  np.testing.assert_allclose(total, 1, atol=1e-3)


def test_order():
  x, probes, fn = draws(8), UNIT_PROBES, gaussian("v")
  errors = []
  for num_steps in (10, 20):
    bits = density_bits(x, probes, predict_fn=fn, num_steps=num_steps)
    errors.append(np.abs(bits - exact_bits(x)).mean())
  assert 1e-5 < errors[1]  # Above what float32 leaves.
  np.testing.assert_allclose(math.log2(errors[0] / errors[1]), 4, atol=0.5)


def test_condition_reaches_the_network():
  def predict_fn(z, logsnr, cond):
    assert logsnr.shape == (2,) and cond.shape == (2,)
    return z * cond.reshape(2, 1, 1, 1)

  bits = probability_flow.density_bits(
    jnp.zeros((2, *SHAPE)),
    UNIT_PROBES,
    jnp.array([0.0, 1.0]),
    predict_fn=predict_fn,
    schedule=SCHEDULE,
    prediction="v",
    num_steps=16,
  )
  # z stays 0; v_hat = z has trace D, v_hat = 0 none. The integral of
  # alpha sigma / 2 is atan(exp(logsnr / 2)) between the ends.
  normal = math.log2(2 * math.pi) / 2
  integral = (math.atan(math.exp(7.5)) - math.atan(math.exp(-7.5))) / math.log(
    2
  )
  np.testing.assert_allclose(bits, [normal, normal - integral], atol=1e-3)


@pytest.mark.parametrize(
  "change, message",
  [({"num_steps": 0}, "num_steps=0"), ({"prediction": "y"}, "prediction='y'")],
)
def test_errors(change, message):
  with pytest.raises(ValueError, match=message):
    density_bits(draws(1), UNIT_PROBES, predict_fn=gaussian("v"), **change)
