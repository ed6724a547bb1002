# SPDX-License-Identifier: Apache-2.0
"""Samplers on data whose denoiser is known: every pixel is N(.3, .5^2)."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simple_diffusion import diffusion
from simple_diffusion import sampler
from simple_diffusion import schedules

MEAN, STD = 0.3, 0.5
SCHEDULE = schedules.cosine(image_size=32)
PAIRS = [(2.0, 1.0), (10.0, -15.0), (-8.0, -8.5), (0.001, 0.0)]


def gaussian_x_hat(z, logsnr):
  """E[x | z] of the data: x and z are jointly Gaussian."""
  logsnr = diffusion.broadcast_to_images(logsnr, z)
  alpha2, sigma2 = jax.nn.sigmoid(logsnr), jax.nn.sigmoid(-logsnr)
  gain = jnp.sqrt(alpha2) * STD**2 / (alpha2 * STD**2 + sigma2)
  return MEAN + gain * (z - jnp.sqrt(alpha2) * MEAN)


def gaussian_predict_fn(prediction):
  """The perfect network, in either parametrisation; it needs no condition."""

  def predict_fn(z, logsnr, cond):
    x_hat = gaussian_x_hat(z, logsnr)
    hat = diffusion.predictions(x_hat, z, logsnr, prediction="x")
    return getattr(hat, prediction)

  return predict_fn


def levels(logsnr):
  """alpha, sigma in float64."""
  snr = np.exp(np.float64(logsnr))
  return np.sqrt(snr / (1 + snr)), np.sqrt(1 / (1 + snr))


@functools.cache
def integrate(method, num_steps):
  """z at logsnr 8 from z = 1.1 at -8, in steps uniform in the log-SNR."""
  logsnrs = jnp.linspace(-8.0, 8.0, num_steps + 1)

  def step(carry, pair):
    z, x_hat_prev, logsnr_prev = carry
    x_hat = gaussian_x_hat(z, pair[0])
    match method:
      case "ddim":
        z = sampler.ddim_step(z, x_hat, *pair)
      case "dpmpp_2m":
        x_mid = sampler.extrapolated(x_hat, x_hat_prev, logsnr_prev, *pair)
        z = sampler.ddim_step(z, x_mid, *pair)
      case "heun":
        z = sampler.heun_step(gaussian_x_hat, z, x_hat, *pair)
    return (z, x_hat, pair[0]), None

  start = jnp.float32(1.1), jnp.float32(0), jnp.float32(-jnp.inf)
  (z, _, _), _ = jax.lax.scan(step, start, (logsnrs[:-1], logsnrs[1:]))
  return float(z)


def exact_flow(z, logsnr_t, logsnr_s):
  """The probability flow keeps how many standard deviations z is away."""
  (alpha_t, sigma_t), (alpha_s, sigma_s) = levels(logsnr_t), levels(logsnr_s)
  std_t = np.sqrt(alpha_t**2 * STD**2 + sigma_t**2)
  std_s = np.sqrt(alpha_s**2 * STD**2 + sigma_s**2)
  return alpha_s * MEAN + std_s * (z - alpha_t * MEAN) / std_t


@pytest.mark.parametrize(
  "method, order, after_10, after_50",
  # The values from a float64 program of the formulas in the solvers' papers;
  # the exact solution of the same problem is 0.8475469.
  [
    ("ddim", 1, 0.7484109, 0.8261052),
    ("dpmpp_2m", 2, 0.8619592, 0.8484070),
    ("heun", 2, 0.8132900, 0.8458714),
  ],
)
def test_worked_trajectory_and_order(method, order, after_10, after_50):
  exact = exact_flow(1.1, -8, 8)
  np.testing.assert_allclose(exact, 0.8475469, atol=1e-7)
  # A float32 sum of 10 or 50 steps.
  np.testing.assert_allclose(integrate(method, 10), after_10, atol=1e-6)
  np.testing.assert_allclose(integrate(method, 50), after_50, atol=3e-6)
  errors = [abs(integrate(method, n) - exact) for n in (50, 100)]
  np.testing.assert_allclose(math.log2(errors[0] / errors[1]), order, atol=0.15)


@pytest.mark.parametrize("logsnr_s, logsnr_t", PAIRS)
def test_coefficients(logsnr_s, logsnr_t):
  (alpha_t, sigma_t), (alpha_s, sigma_s) = levels(logsnr_t), levels(logsnr_s)
  z_t, x_hat, noise = np.eye(3, dtype=np.float32)  # [3]: one is 1, all else 0.

  # DDIM keeps the eps_hat that z_t and x_hat imply.
  eps_hat = (z_t - alpha_t * x_hat) / sigma_t
  z_s = sampler.ddim_step(z_t, x_hat, logsnr_t, logsnr_s)
  expected = alpha_s * x_hat + sigma_s * eps_hat
  np.testing.assert_allclose(z_s, expected, rtol=1e-4)

  # Ancestral: the posterior in the terms of section 2 of the paper.
  alpha_ts = alpha_t / alpha_s
  var_ts = sigma_t**2 - alpha_ts**2 * sigma_s**2
  mean = [alpha_ts * sigma_s**2 / sigma_t**2, alpha_s * var_ts / sigma_t**2]
  std_min, std_max = np.sqrt(var_ts) * sigma_s / sigma_t, np.sqrt(var_ts)
  step = functools.partial(
    sampler.ancestral_step, z_t, x_hat, noise, logsnr_t, logsnr_s
  )
  stds = {0.0: std_min, 1.0: std_max, 0.2: std_min**0.8 * std_max**0.2}
  for gamma, std in stds.items():
    # At 1 - r = 1e-3 the log-SNRs' rounding of 6e-8 is 6e-5 of it.
    np.testing.assert_allclose(step(gamma=gamma), [*mean, std], rtol=1e-4)

  # SDE-DPM-Solver++(1), arXiv 2211.01095: another derivation of gamma = 0.
  h = (logsnr_s - logsnr_t) / 2
  expected = [
    sigma_s / sigma_t * np.exp(-h),
    alpha_s * (1 - np.exp(-2 * h)),
    sigma_s * np.sqrt(1 - np.exp(-2 * h)),
  ]
  np.testing.assert_allclose(step(gamma=0.0), expected, rtol=1e-4)


@pytest.mark.parametrize("logsnr_s, logsnr_t", PAIRS)
def test_coefficients_with_a_past(logsnr_s, logsnr_t):
  # SDE-DPM-Solver++(2M) as arXiv 2211.01095 has it.
  z_t, x_hat, x_hat_prev, noise = np.eye(4, dtype=np.float32)
  (_, sigma_t), (alpha_s, sigma_s) = levels(logsnr_t), levels(logsnr_s)
  h, r = (logsnr_s - logsnr_t) / 2, 3 / (logsnr_s - logsnr_t)
  gain = alpha_s * (1 - np.exp(-2 * h))
  expected = [
    sigma_s / sigma_t * np.exp(-h),
    gain + gain / (2 * r),
    -gain / (2 * r),
    sigma_s * np.sqrt(1 - np.exp(-2 * h)),
  ]

  def step(logsnr_prev):
    x_mid = sampler.extrapolated(
      x_hat, x_hat_prev, logsnr_prev, logsnr_t, logsnr_s
    )
    return sampler.ancestral_step(
      z_t, x_mid, noise, logsnr_t, logsnr_s, gamma=0.0
    )

  np.testing.assert_allclose(step(logsnr_t - 3), expected, rtol=1e-4)
  # Without a past, of order one.
  np.testing.assert_allclose(step(-np.inf)[1:3], [gain, 0], rtol=1e-4)


@functools.partial(
  jax.jit,
  static_argnames=(
    "prediction",
    "num_steps",
    "method",
    "spacing",
    "schedule",
    "clip",
  ),
)
def sample_gaussian(
  keys,
  *,
  prediction="v",
  spacing="time",
  schedule=SCHEDULE,
  clip=False,
  **options,
):
  return sampler.sample(
    keys,
    None,
    predict_fn=gaussian_predict_fn(prediction),
    schedule=schedule,
    prediction=prediction,
    image_shape=(32, 32, 1),
    spacing=spacing,
    clip=clip,
    **options,
  )


def test_spacing_under_a_shifted_schedule():
  # The numbers of the module's docstring: uniform in time, the last steps are
  # so long in log-SNR that samples are blurred posterior means.
  keys = sampler.keys_for(0, jnp.arange(64))
  shifted = schedules.shifted_cosine(image_size=512, ref=64)
  std = {
    spacing: sample_gaussian(
      keys, num_steps=25, method="dpmpp_2m", spacing=spacing, schedule=shifted
    ).std()
    for spacing in sampler.SPACINGS
  }
  np.testing.assert_allclose(std["time"], 0.35, atol=0.02)
  np.testing.assert_allclose(std["logsnr"], STD, atol=0.02)


def test_grid():
  uniform = sampler.logsnr_grid(SCHEDULE, num_steps=5, spacing="logsnr")
  np.testing.assert_allclose(uniform, np.linspace(-15, 15, 6), atol=1e-3)
  in_time = sampler.logsnr_grid(SCHEDULE, num_steps=2, spacing="time")
  np.testing.assert_allclose(in_time, [-15, 0, 15], atol=1e-3)
  with pytest.raises(ValueError, match="spacing='t'; the options are time"):
    sampler.logsnr_grid(SCHEDULE, num_steps=5, spacing="t")


@pytest.mark.parametrize(
  "method, tolerance",
  # 65536 pixels: standard errors of .0020 for the mean and .0014 for the
  # deviation, times 3; and what 128 steps of order 1 leave, about .01.
  [
    ("ancestral", 0.015),
    ("ddim", 0.015),
    ("dpmpp_2m", 6e-3),
    ("dpmpp_2m_sde", 6e-3),
    ("heun", 6e-3),
  ],
)
def test_moments(method, tolerance):
  keys = sampler.keys_for(0, jnp.arange(64))
  images = sample_gaussian(keys, num_steps=128, method=method)
  assert images.shape == (64, 32, 32, 1)
  assert images.dtype == jnp.float32
  np.testing.assert_allclose(images.mean(), MEAN, atol=6e-3)
  np.testing.assert_allclose(images.std(), STD, atol=tolerance)
  for axis in (0, 1, 2):  # Pixels and images are independent.
    a, b = np.moveaxis(images, axis, 0)[:2] - MEAN
    assert abs(np.mean(a * b)) < 5 * STD**2 / np.sqrt(a.size)


def test_same_images_from_every_prediction():
  keys = sampler.keys_for(0, [0, 1])
  v, eps, x = (
    sample_gaussian(keys, prediction=p, num_steps=8, method="dpmpp_2m")
    for p in ("v", "eps", "x")
  )
  np.testing.assert_allclose(v, x, atol=2e-5)
  # At the first step eps is divided by alpha = 1/1808.
  np.testing.assert_allclose(eps, x, atol=2e-3)


def test_images_depend_on_seed_and_index_only():
  def images(seed, *indices):
    keys = sampler.keys_for(seed, jnp.array(indices))
    return np.asarray(sample_gaussian(keys, num_steps=4, method="ancestral"))

  eight = images(0, *range(8))
  np.testing.assert_allclose(images(0, 5), eight[5:6], atol=1e-6)
  np.testing.assert_allclose(images(0, 7, 1, 2), eight[[7, 1, 2]], atol=1e-6)
  assert np.abs(images(1, 5) - eight[5:6]).mean() > 0.1
  assert np.abs(eight[1:] - eight[:-1]).mean() > 0.1


@pytest.mark.parametrize("method", sampler.METHODS)
def test_one_step_predicts_once(method):
  # At t = 1, alpha = 1/1808: E[x | z] is the mean but for .00014 z.
  keys = sampler.keys_for(0, jnp.arange(2))
  images = sample_gaussian(keys, num_steps=1, method=method)
  np.testing.assert_allclose(images, MEAN, atol=1e-3)
  assert np.std(images) > 1e-5


def linear_x_hat(clip_inside):
  def predict_fn(z, logsnr, cond):
    x_hat = cond["scale"] * z + cond["shift"]
    return jnp.clip(x_hat, -1, 1) if clip_inside else x_hat

  return predict_fn


def test_clip():
  @functools.partial(jax.jit, static_argnums=(2, 3))
  def run(scale, shift, clip_inside, clip):
    return sampler.sample(
      sampler.keys_for(0, jnp.arange(2)),
      {"scale": scale, "shift": shift},
      predict_fn=linear_x_hat(clip_inside),
      schedule=SCHEDULE,
      prediction="x",
      image_shape=(4, 4, 1),
      num_steps=3,
      method="heun",
      spacing="time",
      clip=clip,
    )

  np.testing.assert_allclose(run(0.0, 3.0, False, True), 1)
  np.testing.assert_allclose(run(0.0, -3.0, False, False), -3)
  # Steps too use the clipped x_hat, not the result alone: clipping in the
  # network instead gives the same trajectory.
  in_sampler, in_network = (
    run(2.0, 0.1, False, True),
    run(2.0, 0.1, True, False),
  )
  np.testing.assert_allclose(in_sampler, in_network, atol=1e-5)


@pytest.mark.parametrize("method", sampler.METHODS)
def test_traces_and_network_evaluations(method):
  num_steps, traces, evaluations = 6, [], []

  def predict_fn(z, logsnr, cond):
    traces.append(z.shape)
    jax.debug.callback(evaluations.append, logsnr[0])
    return z

  images = sampler.sample(
    sampler.keys_for(0, jnp.arange(2)),
    None,
    predict_fn=predict_fn,
    schedule=SCHEDULE,
    prediction="x",
    image_shape=(2, 2, 1),
    num_steps=num_steps,
    method=method,
    spacing="time",
  )
  images.block_until_ready()
  jax.effects_barrier()
  # One body, whatever the number of steps; Heun's asks twice.
  assert len(traces) == (2 if method == "heun" else 1)
  times = 1 - np.arange(num_steps) / num_steps
  if method == "heun":  # T and T - 1: the last step needs no second look.
    times = np.concatenate([times, times[1:]])
  np.testing.assert_allclose(
    sorted(evaluations), np.sort(SCHEDULE.logsnr(times)), atol=1e-5
  )


def test_mistakes():
  run = functools.partial(
    sampler.sample,
    cond=None,
    predict_fn=gaussian_predict_fn("x"),
    schedule=SCHEDULE,
    prediction="x",
    image_shape=(2, 2, 1),
    spacing="time",
  )
  keys = sampler.keys_for(0, jnp.arange(2))
  with pytest.raises(ValueError, match="'euler'; .* ancestral, ddim, dpmpp_2m"):
    run(keys, num_steps=2, method="euler")
  with pytest.raises(ValueError, match="num_steps=0 must be at least 1"):
    run(keys, num_steps=0, method="ddim")
  with pytest.raises(AssertionError):
    run(jax.random.key(0), num_steps=2, method="ddim")


def labelled_predict_fn(z, logsnr, cond):
  """Moves with the label and the log-SNR; label 9 stands for "none"."""
  strength = jnp.where(cond == 9, 0.0, 1.0 + cond) + 0.1 * logsnr
  return z + diffusion.broadcast_to_images(strength, z)


def guided(scale, logsnr, labels, interval=None):
  predict_fn = sampler.guide(
    labelled_predict_fn, scale=scale, null_cond=9, interval=interval
  )
  z = jnp.ones((len(labels), 2, 2, 1))
  return predict_fn(z, jnp.float32(logsnr), jnp.array(labels))[:, 0, 0, 0]


def test_guidance_formula():
  # (1 + eta) conditional - eta null, at scale 1 + eta.
  logsnr, labels = np.float32([-2, 0, 4]), [0, 3, 9]
  null = 1 + 0.1 * logsnr
  conditional = null + [1, 4, 0]
  for scale in (0.0, 1.0, 1.5, 4.0):
    expected = scale * conditional - (scale - 1) * null
    np.testing.assert_allclose(
      guided(scale, logsnr, labels), expected, rtol=1e-6
    )
  predict_fn = sampler.guide(labelled_predict_fn, scale=1.0, null_cond=9)
  assert predict_fn is labelled_predict_fn  # No second evaluation.


def test_guidance_is_the_same_in_every_prediction():
  z = jnp.linspace(-1, 1, 8).reshape(2, 2, 2, 1)
  logsnr, labels = jnp.array([-1.0, 2.0]), jnp.array([3, 5])
  x_hats = []
  for prediction in ("v", "eps", "x"):

    def predict_fn(z, logsnr, cond, prediction=prediction):
      x_hat = labelled_predict_fn(z, logsnr, cond)
      hat = diffusion.predictions(x_hat, z, logsnr, prediction="x")
      return getattr(hat, prediction)

    guide = sampler.guide(predict_fn, scale=3.0, null_cond=9)
    output = guide(z, logsnr, labels)
    hat = diffusion.predictions(output, z, logsnr, prediction=prediction)
    x_hats.append(hat.x)
  np.testing.assert_allclose(x_hats[0], x_hats[2], atol=1e-5)
  np.testing.assert_allclose(x_hats[1], x_hats[2], atol=1e-5)


def test_interval_is_in_log_snr():
  t = np.linspace(0, 1, 33)
  for ref in (512, 64):  # Another shift: the same log-SNRs are guided.
    schedule = schedules.shifted_cosine(image_size=512, ref=ref)
    logsnr = np.asarray(schedule.logsnr(t))
    labels = [2] * len(t)
    actual = guided(2.0, logsnr, labels, interval=(-3.0, 1.0))
    inside = (-3 <= logsnr) & (logsnr <= 1)
    assert 5 < inside.sum() < 28
    everywhere, nowhere = (guided(s, logsnr, labels) for s in (2.0, 1.0))
    np.testing.assert_allclose(
      actual, np.where(inside, everywhere, nowhere), rtol=1e-6
    )


def test_guidance_of_structured_conditions_under_jit():
  def predict_fn(z, logsnr, cond):
    strength = (cond["text"].sum(axis=-1) * cond["mask"]).sum(axis=-1)
    return z + diffusion.broadcast_to_images(strength, z)

  guide = sampler.guide(
    predict_fn,
    scale=3.0,
    # One example's: [N, D], and [N] as a list of integers.
    null_cond={"text": np.full((4, 5), 0.1), "mask": np.array([1, 0, 0, 0])},
  )
  cond = {"text": jnp.ones((2, 4, 5)), "mask": jnp.ones((2, 4))}
  z, logsnr = jnp.zeros((2, 2, 2, 1)), jnp.zeros((2,))
  output = jax.jit(guide)(z, logsnr, cond)
  # Conditional 20, null 0.5.
  np.testing.assert_allclose(output, 0.5 + 3 * 19.5, rtol=1e-6)
