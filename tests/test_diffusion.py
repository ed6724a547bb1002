# SPDX-License-Identifier: Apache-2.0
"""The algebra of z_t against float64, Bayes' rule and the limits."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simple_diffusion import diffusion
from simple_diffusion import schedules

# A float32 has a unit roundoff of 6e-8; images of normal noise reach 4.
ATOL = 2e-6

LOGSNR = np.linspace(-15, 15, 31, dtype=np.float32)

CONVERSIONS = {
  ("x", "v"): diffusion.x_from_v,
  ("eps", "v"): diffusion.eps_from_v,
  ("x", "eps"): diffusion.x_from_eps,
  ("eps", "x"): diffusion.eps_from_x,
  ("v", "x"): diffusion.v_from_x,
  ("v", "eps"): diffusion.v_from_eps,
}


def levels(logsnr):
  """alpha, sigma in float64, from SNR = alpha^2/sigma^2 and their circle."""
  snr = np.exp(np.asarray(logsnr, np.float64))
  return np.sqrt(snr / (1 + snr)), np.sqrt(1 / (1 + snr))


def extremes():
  """+-20, and both ends of cosine, shifted and interpolated schedules."""
  ends = [
    schedules.Schedule(
      image_size=512, ref_at_noise=at_noise, ref_at_data=at_data
    ).logsnr(np.array([0, 1]))
    for at_noise, at_data in ((512, 512), (64, 64), (32, 256), (256, 32))
  ]
  return np.concatenate([np.float32([-20, 20]), *ends])


def state(logsnr, shape=(8, 8, 3)):
  """x in [-1, 1], eps and float64 z, v at each of the log-SNRs [B]."""
  rng = np.random.default_rng(0)
  shape = (len(logsnr), *shape)
  x = rng.uniform(-1, 1, shape).astype(np.float32)
  eps = rng.standard_normal(shape).astype(np.float32)
  alpha, sigma = levels(np.reshape(logsnr, (-1, 1, 1, 1)))
  truth = {"x": x, "eps": eps, "v": alpha * eps - sigma * x}
  return truth, alpha * x + sigma * eps


def images_of(logsnr):
  truth, z = state(logsnr)
  return {k: jnp.float32(y) for k, y in truth.items()}, jnp.float32(z)


def amplification(source, logsnr):
  """How much rounding z and the source is magnified: the division's factor."""
  alpha, sigma = levels(logsnr)
  return {"v": np.ones_like(alpha), "eps": 1 / alpha, "x": 1 / sigma}[source]


def assert_images_close(actual, desired, tolerance):
  """|actual - desired| within the tolerance [B] of each example."""
  error = np.abs(np.asarray(actual, np.float64) - desired)
  np.testing.assert_array_less(error.max(axis=(1, 2, 3)), tolerance)


def test_variance_preserving():
  logsnr = np.linspace(-30, 30, 121, dtype=np.float32)
  alpha, sigma = diffusion.alpha(logsnr), diffusion.sigma(logsnr)
  np.testing.assert_allclose(alpha**2 + sigma**2, 1, atol=3e-7)
  # Relative accuracy, also of a level that is nearly 0.
  np.testing.assert_allclose(alpha, levels(logsnr)[0], rtol=2e-6)
  np.testing.assert_allclose(sigma, levels(logsnr)[1], rtol=2e-6)


def test_diffuse_and_v_definition():
  truth, z = state(LOGSNR)
  images, _ = images_of(LOGSNR)
  z_t = diffusion.diffuse(images["x"], images["eps"], LOGSNR)
  np.testing.assert_allclose(z_t, z, atol=ATOL)
  v = diffusion.v_from_x_eps(images["x"], images["eps"], LOGSNR)
  np.testing.assert_allclose(v, truth["v"], atol=ATOL)


def test_v_is_the_velocity_along_the_circle():
  # z(phi) = cos(phi) x + sin(phi) eps, where tan(phi) = sigma / alpha; so
  # v = dz/dphi, the definition of arXiv 2202.00512 (appendix D, memory).
  images, _ = images_of([0.0])

  def z_at(phi):
    logsnr = -2 * jnp.log(jnp.tan(phi))
    return diffusion.diffuse(images["x"], images["eps"], logsnr)

  for phi in (0.05, 0.8, 1.5):
    _, velocity = jax.jvp(z_at, (phi,), (1.0,))
    logsnr = -2 * np.log(np.tan(phi))
    v = diffusion.v_from_x_eps(images["x"], images["eps"], logsnr)
    np.testing.assert_allclose(velocity, v, atol=1e-5)


@pytest.mark.parametrize("target, source", CONVERSIONS)
def test_conversion_and_round_trip(target, source):
  # The rotations are exact to rounding; a division magnifies it, at most by
  # exp(15/2) = 1808, so that three digits of seven remain.
  truth, _ = state(LOGSNR)
  images, z = images_of(LOGSNR)
  there = CONVERSIONS[target, source](images[source], z, LOGSNR)
  tolerance = ATOL * amplification(source, LOGSNR)
  assert_images_close(there, truth[target], tolerance)
  # Back, the worse of the two directions counts.
  back = CONVERSIONS[source, target](there, z, LOGSNR)
  tolerance = np.maximum(tolerance, ATOL * amplification(target, LOGSNR))
  assert_images_close(back, truth[source], tolerance)


@pytest.mark.parametrize("prediction", ["v", "eps", "x"])
def test_predictions_agree(prediction):
  truth, _ = state(LOGSNR)
  images, z = images_of(LOGSNR)
  output = images[prediction]
  hat = diffusion.predictions(output, z, LOGSNR, prediction=prediction)
  tolerance = ATOL * amplification(prediction, LOGSNR)
  for name, seen in hat._asdict().items():
    assert_images_close(seen, truth[name], tolerance)
  np.testing.assert_array_equal(getattr(hat, prediction), output)
  half = output.astype(jnp.bfloat16)  # A network may answer in bfloat16.
  hat = diffusion.predictions(half, z, LOGSNR, prediction=prediction)
  assert {y.dtype for y in hat} == {jnp.dtype("float32")}


@pytest.mark.parametrize("prediction", ["v", "eps", "x"])
def test_finite_values_and_gradients_at_the_extremes(prediction):
  logsnr = extremes()
  images, z = images_of(logsnr)

  def total(output, z, logsnr):
    z_t = diffusion.diffuse(images["x"], images["eps"], logsnr)
    hat = diffusion.predictions(output, z, logsnr, prediction=prediction)
    return sum(y.sum() for y in (z_t, *hat))

  value, gradients = jax.value_and_grad(total, argnums=(0, 1, 2))(
    images[prediction], z, logsnr
  )
  for array in (value, *gradients):
    assert np.all(np.isfinite(array))


def bayes(x, z_t, logsnr_s, logsnr_t):
  """q(z_s | z_t, x) as the product of two Gaussians in z_s, in float64.

  q(z_s | x) = N(alpha_s x, sigma_s^2) times q(z_t | z_s), a Gaussian of
  alpha_ts z_s whose variance makes q(z_t | x) come out: precisions add, and
  means are weighted by precision.
  """
  (alpha_s, sigma_s), (alpha_t, sigma_t) = levels(logsnr_s), levels(logsnr_t)
  alpha_ts = alpha_t / alpha_s
  var_ts = sigma_t**2 - alpha_ts**2 * sigma_s**2
  precision = 1 / sigma_s**2 + alpha_ts**2 / var_ts
  mean = (alpha_s * x / sigma_s**2 + alpha_ts * z_t / var_ts) / precision
  return mean, 1 / precision, var_ts


def pairs():
  """All pairs logsnr_s > logsnr_t of a grid: [N], [N], exact in float32."""
  grid = np.float32([-20.5, -15, -8.25, -3, -0.5, 0, 1, 4.75, 10, 15, 20])
  return np.array(list(itertools.combinations(grid[::-1], 2))).T


def test_posterior_is_bayes_rule():
  logsnr_s, logsnr_t = pairs()
  rng = np.random.default_rng(1)
  x, z_t = rng.standard_normal((2, len(logsnr_s))).astype(np.float32)
  q = diffusion.posterior(x, z_t, logsnr_s, logsnr_t)
  mean, var_min, var_max = bayes(
    *(np.float64(a) for a in (x, z_t, logsnr_s, logsnr_t))
  )
  # exp(logsnr_t - logsnr_s) of a difference near 40 loses one digit.
  np.testing.assert_allclose(q.mean, mean, rtol=1e-5, atol=ATOL)
  np.testing.assert_allclose(q.logvar_min, np.log(var_min), atol=1e-5)
  np.testing.assert_allclose(q.logvar_max, np.log(var_max), atol=1e-5)


def test_posterior_keeps_the_marginal():
  # z_t ~ q(z_t | x), then z_s ~ q(z_s | z_t, x), must be z_s ~ q(z_s | x).
  logsnr_s, logsnr_t = pairs()
  zeros, ones = np.zeros_like(logsnr_s), np.ones_like(logsnr_s)
  per_z = diffusion.posterior(zeros, ones, logsnr_s, logsnr_t).mean
  q = diffusion.posterior(ones, zeros, logsnr_s, logsnr_t)
  (alpha_s, sigma_s), (alpha_t, sigma_t) = levels(logsnr_s), levels(logsnr_t)
  mean = np.float64(per_z) * alpha_t + q.mean
  var = np.float64(per_z) ** 2 * sigma_t**2 + np.exp(np.float64(q.logvar_min))
  np.testing.assert_allclose(mean, alpha_s, rtol=1e-5)
  np.testing.assert_allclose(var, sigma_s**2, rtol=2e-5)


@pytest.mark.parametrize("logsnr_t", [-19.0, 0.0, 10.0])
@pytest.mark.parametrize("step", [1e-1, 1e-3, 1e-5])
def test_small_steps(logsnr_t, step):
  # As s -> t both variances are step * sigma^2 and the mean is z_t. The step
  # that survives the addition in float32 is what counts.
  logsnr_t = np.float32(logsnr_t)
  logsnr_s = np.nextafter(np.float32(logsnr_t + step), np.float32(np.inf))
  x, z_t = jnp.ones((1,)), jnp.full((1,), 2.0)
  q = diffusion.posterior(x, z_t, logsnr_s, logsnr_t)
  step = np.float64(logsnr_s) - np.float64(logsnr_t)
  for logsnr, logvar in zip((logsnr_s, logsnr_t), q[1:], strict=True):
    exact = np.log(-np.expm1(-step)) + 2 * np.log(levels(logsnr)[1])
    np.testing.assert_allclose(logvar, exact, atol=1e-5)
  np.testing.assert_allclose(q.mean, z_t, atol=2 * step + ATOL)


def test_posterior_is_finite_with_gradients_at_the_extremes():
  x, z_t = jnp.ones((1,)), jnp.full((1,), 2.0)

  def total(x, z_t, logsnr_s, logsnr_t):
    return sum(y.sum() for y in diffusion.posterior(x, z_t, logsnr_s, logsnr_t))

  value_and_grad = jax.value_and_grad(total, argnums=(0, 1, 2, 3))
  for pair in ((20.0, -20.545), (20.0, 15.0), (-15.0, -20.545)):
    value, gradients = value_and_grad(x, z_t, *pair)
    for array in (value, *gradients):
      assert np.all(np.isfinite(array))


def test_scalar_equals_batch_of_log_snrs():
  images, z = images_of([1.5] * 3)
  x, eps, batch = images["x"], images["eps"], jnp.full((3,), 1.5)
  for one, each in (
    (diffusion.diffuse(x, eps, 1.5), diffusion.diffuse(x, eps, batch)),
    (diffusion.x_from_v(eps, z, 1.5), diffusion.x_from_v(eps, z, batch)),
    (
      diffusion.posterior(x, z, 1.5, 0.5).mean,
      diffusion.posterior(x, z, batch, batch - 1).mean,
    ),
  ):
    np.testing.assert_allclose(one, each, atol=1e-6)


def test_jit_equals_no_jit():
  logsnr = np.linspace(-8, 8, 5)
  images, z = images_of(logsnr)
  logsnr = logsnr

  def everything(x, z, logsnr):
    hat = diffusion.predictions(x, z, logsnr, prediction="x")
    return hat, diffusion.posterior(x, z, logsnr, logsnr - 1)

  eager = everything(images["x"], z, logsnr)
  jitted = jax.jit(everything)(images["x"], z, logsnr)
  for a, b in zip(jax.tree.leaves(eager), jax.tree.leaves(jitted), strict=True):
    # A fused multiply-add rounds once less, magnified by 1/sigma(8) = 55.
    np.testing.assert_allclose(a, b, atol=1e-4)


def test_each_log_snr_meets_its_own_image():
  x = jnp.ones((2, 2, 2, 2))  # Were it broadcast, any axis would take it.
  z_t = diffusion.diffuse(x, 0 * x, jnp.array([30.0, -30.0]))
  np.testing.assert_allclose(z_t.mean(axis=(1, 2, 3)), [1, 0], atol=1e-6)


def test_mistakes():
  x = jnp.ones((2, 4, 4, 1))
  with pytest.raises(ValueError, match="prediction='noise'; .* v, eps, x"):
    diffusion.predictions(x, x, 0.0, prediction="noise")
  with pytest.raises(AssertionError):
    diffusion.predictions(x[:, :2], x, 0.0, prediction="v")
  with pytest.raises(AssertionError):
    diffusion.diffuse(x, x, jnp.zeros((3,)))
  with pytest.raises(AssertionError):
    diffusion.diffuse(x, x, jnp.zeros((2, 1, 1, 1)))
