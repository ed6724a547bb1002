# SPDX-License-Identifier: Apache-2.0
"""The variational bound on data whose denoiser, and so whose bound, is known.

Each pixel is N(.3, .5^2). Given x, the eps-MSE of the perfect denoiser is that
of an affine function of eps, and the bound's integral over the log-SNR is

  KL(q(z_0 | x) || p(z_0)) - KL(q(z_1 | x) || p(z_1))

with the marginals p (both paths have the same forward transitions, so the KL of
paths is that of where they begin). Expected values are float64 NumPy.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simple_diffusion import diffusion
from simple_diffusion import sampler
from simple_diffusion import schedules
from simple_diffusion import variational_bound

MEAN, STD = 0.3, 0.5
SHAPE = (2, 2, 1)
X = np.float32([-1.0, 0.1, 0.3, 0.8]).reshape(1, *SHAPE)
COSINE = schedules.cosine(image_size=2, logsnr_min=-6.0, logsnr_max=5.0)
# Another way from -6 to 5, twice as steep at the noise end.
TURNED = schedules.Schedule(
  image_size=2,
  ref_at_noise=1,
  ref_at_data=4,
  logsnr_min=-6 + 2 * math.log(2),
  logsnr_max=5 - 2 * math.log(2),
)


def levels(logsnr):
  """alpha, sigma in float64."""
  snr = np.exp(np.float64(logsnr))
  return np.sqrt(snr / (1 + snr)), np.sqrt(1 / (1 + snr))


def kl(mean, std, mean_p, std_p):
  """Of two normal distributions, in nats."""
  ratio = (std / std_p) ** 2
  return (ratio - 1 - np.log(ratio) + ((mean - mean_p) / std_p) ** 2) / 2


def integral_bits(x, low=-6.0, high=5.0):
  """The bound's integral for the perfect denoiser, mean over the pixels."""

  def kl_at(logsnr):
    alpha, sigma = levels(logsnr)
    std = np.sqrt(alpha**2 * STD**2 + sigma**2)
    return kl(alpha * np.float64(x), sigma, alpha * MEAN, std).mean()

  return (kl_at(high) - kl_at(low)) / math.log(2)


def steps_bits(x, logsnrs, std=STD):
  """The bound of the steps between logsnrs, from noise to data.

  `std` is what the denoiser believes; it is perfect if that is the data's.
  """
  total = 0.0
  for logsnr_t, logsnr_s in zip(logsnrs[:-1], logsnrs[1:], strict=True):
    alpha, sigma = levels(logsnr_t)
    gain = alpha * std**2 / (alpha**2 * std**2 + sigma**2)
    # x - x_hat = (1 - gain alpha) (x - MEAN) - gain sigma eps.
    x_mse = (1 - gain * alpha) ** 2 * (np.float64(x) - MEAN) ** 2
    x_mse += (gain * sigma) ** 2
    snr_t, snr_s = np.exp(logsnr_t), np.exp(logsnr_s)
    total += (snr_s - snr_t) * x_mse.mean() / 2
  return total / math.log(2)


@functools.cache  # One function, one compilation.
def gaussian(prediction, std=STD):
  """The perfect network of N(MEAN, std^2)."""

  def predict_fn(z, logsnr, cond):
    logsnr_b = diffusion.broadcast_to_images(logsnr, z)
    alpha, sigma = diffusion.alpha(logsnr_b), diffusion.sigma(logsnr_b)
    gain = alpha * std**2 / (alpha**2 * std**2 + sigma**2)
    x_hat = MEAN + gain * (z - alpha * MEAN)
    hat = diffusion.predictions(x_hat, z, logsnr, prediction="x")
    return getattr(hat, prediction)

  return predict_fn


def off_by_one(z, logsnr, x):
  """A network that knows x and says eps + 1: its eps-MSE is one."""
  return diffusion.eps_from_x(x, z, logsnr) + 1


@functools.partial(
  jax.jit,
  static_argnames=(
    "predict_fn",
    "schedule",
    "prediction",
    "clip",
    "num_samples",
    "num_steps",
    "spacing",
  ),
)
def diffusion_bits(
  keys, x, *, schedule=COSINE, prediction="v", clip=False, **options
):
  return variational_bound.diffusion_bits(
    keys,
    x,
    x,
    schedule=schedule,
    prediction=prediction,
    clip=clip,
    **options,
  )


def mean_and_error(x, *, batch_size=2048, **options):
  """Mean over so many images of X's pixels, and its standard error."""
  keys = sampler.keys_for(0, jnp.arange(batch_size))
  x = np.broadcast_to(x, (batch_size, *SHAPE))
  bits = np.float64(diffusion_bits(keys, x, **options))
  assert bits.shape == (batch_size,)
  return bits.mean(), bits.std() / math.sqrt(batch_size)


@pytest.mark.parametrize("logsnr", [-15.0, -6.0, 1.0])
def test_prior(logsnr):
  schedule = schedules.cosine(image_size=2, logsnr_min=logsnr, logsnr_max=9.0)
  alpha, sigma = levels(logsnr)
  expected = kl(alpha * np.float64(X), sigma, 0, 1).mean() / math.log(2)
  bits = variational_bound.prior_bits(X, schedule=schedule)
  np.testing.assert_allclose(bits, [expected], rtol=2e-3)


@pytest.mark.parametrize(
  "schedule, spacing, prediction",
  [
    (COSINE, "logsnr", "v"),
    (COSINE, "logsnr", "eps"),
    (COSINE, "logsnr", "x"),
    (COSINE, "time", "v"),
    (TURNED, "time", "v"),
  ],
  ids=["v", "eps", "x", "time", "turned"],
)
def test_integral_depends_on_the_ends_only(schedule, spacing, prediction):
  mean, error = mean_and_error(
    X,
    predict_fn=gaussian(prediction),
    prediction=prediction,
    schedule=schedule,
    spacing=spacing,
    num_samples=8,
  )
  expected = integral_bits(X)
  assert error < 0.015 * expected
  assert abs(mean - expected) < 4 * error


@pytest.mark.parametrize(
  "schedule, num_steps, num_samples",
  [(COSINE, 1, 1), (COSINE, 8, 8), (TURNED, 8, 3)],
  ids=["one", "cosine", "turned"],
)
def test_steps(schedule, num_steps, num_samples):
  logsnrs = np.float64(
    sampler.logsnr_grid(schedule, num_steps=num_steps, spacing="time")
  )
  mean, error = mean_and_error(
    X,
    predict_fn=gaussian("v"),
    schedule=schedule,
    num_steps=num_steps,
    num_samples=num_samples,
    spacing="time",
    batch_size=4096,
  )
  expected = steps_bits(X, logsnrs)
  assert error < 0.05 * expected
  assert abs(mean - expected) < 4 * error


def test_more_steps_are_better_and_end_in_the_integral():
  ends = np.linspace(-6, 5, 1001)
  np.testing.assert_allclose(steps_bits(X, ends), integral_bits(X), rtol=0.01)
  fine, coarse = (
    mean_and_error(
      X,
      predict_fn=gaussian("v"),
      num_steps=num_steps,
      num_samples=8,
      spacing="logsnr",
    )
    for num_steps in (1024, 16)
  )
  expected = integral_bits(X)
  assert abs(fine[0] - expected) < 4 * fine[1] + 0.01 * expected
  assert coarse[0] - expected > 10 * coarse[1]


@pytest.mark.parametrize(
  "schedule, spacing",
  [(COSINE, "time"), (TURNED, "time"), (TURNED, "logsnr")],
  ids=["cosine", "turned", "logsnr"],
)
def test_weights_without_chance(schedule, spacing):
  # With an eps-MSE of one the bounds are half the sums of their weights.
  keys = sampler.keys_for(0, jnp.arange(4))
  x = np.broadcast_to(X, (4, *SHAPE))
  options = dict(
    predict_fn=off_by_one, prediction="eps", schedule=schedule, spacing=spacing
  )
  logsnrs = sampler.logsnr_grid(schedule, num_steps=8, spacing=spacing)
  expected = np.expm1(np.diff(np.float64(logsnrs))).sum() / (2 * math.log(2))
  # As many samples as steps: each step once.
  bits = diffusion_bits(keys, x, num_steps=8, num_samples=8, **options)
  np.testing.assert_allclose(bits, np.full(4, expected), rtol=1e-4)

  expected = (5 - -6) / (2 * math.log(2))
  bits = diffusion_bits(keys, x, num_samples=64, **options)
  # In time, 64 random times leave a few per cent of chance.
  rtol = {"logsnr": 1e-4, "time": 0.05}[spacing]
  np.testing.assert_allclose(bits, np.full(4, expected), rtol=rtol)


@pytest.mark.parametrize("std", [0.3, 0.8])
def test_a_wrong_denoiser_has_a_larger_bound(std):
  np_rng = np.random.default_rng(2)
  x = np.float32(MEAN + STD * np_rng.standard_normal((2048, *SHAPE)))
  mean, error = mean_and_error(x, predict_fn=gaussian("v", std), num_samples=8)
  right, _ = mean_and_error(x, predict_fn=gaussian("v"), num_samples=8)
  # With the same noise, so that the difference is of the denoisers alone.
  expected = steps_bits(x, np.linspace(-6, 5, 2001), std)
  assert abs(mean - expected) < 4 * error + 0.01 * expected
  assert mean - right > 0.03


def test_clipping_is_of_x():
  keys = sampler.keys_for(0, jnp.arange(4))
  x = np.broadcast_to(X, (4, *SHAPE))

  def bits(value, clip):
    return diffusion_bits(
      keys,
      x,
      predict_fn=lambda z, logsnr, cond: jnp.full_like(z, value),
      prediction="x",
      clip=clip,
      num_samples=8,
    )

  # Its 3 becomes 1, and its 1 stays what it is.
  np.testing.assert_allclose(bits(3.0, True), bits(1.0, False), rtol=1e-5)


def test_noise_is_that_of_the_image():
  def bits(*indices):
    keys = sampler.keys_for(0, jnp.array(indices))
    x = np.broadcast_to(X, (len(indices), *SHAPE))
    return diffusion_bits(keys, x, predict_fn=gaussian("v"), num_samples=2)

  three = bits(0, 1, 2)
  np.testing.assert_allclose(bits(2), three[2:], rtol=1e-6)
  assert np.ptp(three) > 0.01


def test_noise_is_another_at_each_level():
  def nothing(z, logsnr, cond):
    return jnp.zeros_like(z)

  # eps_hat = 0 leaves a mean of 4 pixels x 64 levels of eps^2, variance 2.
  mean, error = mean_and_error(
    X, predict_fn=nothing, prediction="eps", num_samples=64, batch_size=512
  )
  std = error * math.sqrt(512) / mean
  np.testing.assert_allclose(std, math.sqrt(2 / (4 * 64)), rtol=0.15)


@pytest.mark.parametrize(
  "change, message",
  [
    ({"num_samples": 0}, "num_samples=0"),
    ({"num_steps": 0}, "num_steps=0"),
    ({"spacing": "t"}, "spacing='t'; the options are time, logsnr"),
    ({"spacing": "t", "num_steps": 2}, "spacing='t'; the options are time"),
    ({"prediction": "y"}, "prediction='y'"),
  ],
)
def test_errors(change, message):
  keys = sampler.keys_for(0, jnp.arange(1))
  with pytest.raises(ValueError, match=message):
    diffusion_bits(
      keys, X, **({"predict_fn": gaussian("v"), "num_samples": 2} | change)
    )
