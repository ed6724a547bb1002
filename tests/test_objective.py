# SPDX-License-Identifier: Apache-2.0
"""Losses: identities between spaces, weightings, scales, times.

Expected values are float64 NumPy of the closed forms in the docstring of
`objective`, written from the weight on the x-MSE only.
"""

import functools
import itertools

import chex
import jax
from jax import test_util
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special
from scipy import stats

from simple_diffusion import diffusion
from simple_diffusion import objective
from simple_diffusion import schedules

SCHEDULE = schedules.shifted_cosine(image_size=128, ref=64)
SPACES = ("eps", "v", "x")
TIMES = np.float32([0.03, 0.3, 0.6, 0.9])


def weight_on_x(t, weighting, *, bias=0.0, gamma=5.0):
  """The weight on the x-MSE in float64, and the SNR."""
  t = np.asarray(t, np.float64)
  t_min, t_max = np.arctan(np.exp([-7.5, 7.5]))
  u = t_min + t * (t_max - t_min)
  snr = (64 / 128) ** 2 / np.tan(u) ** 2
  slope = 4 * (t_max - t_min) / np.sin(2 * u)
  weight = {
    "elbo": slope * snr,
    "snr": snr,
    "min_snr": np.minimum(snr, gamma),
    "sigmoid": slope * np.exp(bias) * special.expit(np.log(snr) - bias),
  }[weighting]
  return weight, snr


def mse_per_x_mse(snr):
  """How much larger each space's MSE is than the x-MSE (exact identities)."""
  return {"eps": snr, "v": 1 + snr, "x": np.ones_like(snr)}


@functools.cache
def data(batch=4, side=8):
  rng = np.random.default_rng(0)
  shape = (batch, side, side, 3)
  x = rng.uniform(-1, 1, shape)
  x_hat = x + 0.3 * rng.standard_normal(shape)
  return tuple(np.float32(a) for a in (x, rng.standard_normal(shape), x_hat))


def output_for(prediction, x_hat, z, logsnr):
  """What a network would say if its x_hat were this."""
  return getattr(
    diffusion.predictions(x_hat, z, logsnr, prediction="x"), prediction
  )


@functools.partial(jax.jit, static_argnames="prediction")
def every_loss(t, x_hat, *, prediction):
  """{(weighting, loss space): losses [B], their gradient in x_hat, metrics}."""
  x, eps, _ = data()

  def total(x_hat, weighting, loss_space):
    losses, metrics = objective.diffusion_loss(
      x,
      eps,
      t,
      None,
      predict_fn=lambda z, logsnr, _: output_for(prediction, x_hat, z, logsnr),
      schedule=SCHEDULE,
      prediction=prediction,
      loss_space=loss_space,
      weighting=weighting,
      bias=-1.0,
      gamma=2.0,
    )
    return losses.sum(), (losses, metrics)

  results = {}
  for key in itertools.product(objective.WEIGHTINGS, SPACES):
    gradient, aux = jax.grad(total, has_aux=True)(x_hat, *key)
    results[key] = gradient, *aux
  return results


@pytest.mark.parametrize("prediction", SPACES)
def test_same_loss_and_gradient_in_every_space(prediction):
  x, _, x_hat = data()
  residual = np.float64(x_hat) - x
  x_mse = (residual**2).mean(axis=(1, 2, 3))
  results = every_loss(TIMES, x_hat, prediction=prediction)
  for (weighting, loss_space), result in results.items():
    gradient, losses, metrics = result
    if weighting == "constant":  # One in the loss space, whichever it is.
      _, snr = weight_on_x(TIMES, "snr")
      weight = mse_per_x_mse(snr)[loss_space]
    else:
      weight, snr = weight_on_x(TIMES, weighting, bias=-1.0, gamma=2.0)
    # Conversions divide by alpha or sigma, here above 0.05: two digits.
    case = f"{weighting} on {loss_space}"
    np.testing.assert_allclose(losses, weight * x_mse, rtol=2e-5, err_msg=case)
    exact = 2 * weight[:, None, None, None] * residual / residual[0].size
    for a, b in zip(gradient, exact, strict=True):
      atol = 1e-4 * np.abs(b).max()
      np.testing.assert_allclose(a, b, atol=atol, err_msg=case)
    # eps-MSE = SNR x-MSE and v-MSE = (1 + SNR) x-MSE, whatever is minimised.
    np.testing.assert_allclose(metrics["eps_mse"], snr * x_mse, rtol=2e-5)
    np.testing.assert_allclose(metrics["v_mse"], (1 + snr) * x_mse, rtol=2e-5)


@pytest.mark.parametrize("prediction", SPACES)
def test_finite_at_both_ends(prediction):
  ends = np.float32([0, 1, 0, 1])
  results = every_loss(ends, data()[2], prediction=prediction)
  chex.assert_tree_all_finite(results)


def log_weight(t, **options):
  return objective.log_weight(t, schedule=SCHEDULE, **options)


@pytest.mark.parametrize("loss_space", SPACES)
@pytest.mark.parametrize("weighting", ["elbo", "snr", "min_snr", "sigmoid"])
def test_log_weight_is_the_closed_form(weighting, loss_space):
  t = np.linspace(0, 1, 41)
  weight, snr = weight_on_x(t, weighting, bias=-3.0, gamma=5.0)
  actual = log_weight(
    t, weighting=weighting, loss_space=loss_space, bias=-3.0, gamma=5.0
  )
  assert actual.dtype == jnp.float32
  expected = np.log(weight / mse_per_x_mse(snr)[loss_space])
  np.testing.assert_allclose(actual, expected, atol=2e-5)


@pytest.mark.parametrize("bias", [-3.0, 0.0, 2.0])
def test_sigmoid_identity(bias):
  # e^b sigmoid(l - b) on x equals sigmoid(b - l) on eps, that is
  # e^l sigmoid(b - l) on x (arXiv 2410.19324, eq. 4, on eps).
  t = np.linspace(0, 1, 41)
  logsnr = np.float64(SCHEDULE.logsnr(t))
  on_eps = log_weight(t, weighting="sigmoid", loss_space="eps", bias=bias)
  on_x = log_weight(t, weighting="sigmoid", loss_space="x", bias=bias)
  slope = np.log(SCHEDULE.neg_slope(t))
  expected = slope + np.log(special.expit(bias - logsnr))
  np.testing.assert_allclose(on_eps, expected, atol=1e-5)
  np.testing.assert_allclose(on_x, logsnr + expected, atol=1e-5)


@pytest.mark.parametrize("loss_space", SPACES)
def test_elbo_is_the_limit_of_sigmoid(loss_space):
  t = np.linspace(0, 1, 41)
  limit = log_weight(t, weighting="sigmoid", loss_space=loss_space, bias=40.0)
  elbo = log_weight(t, weighting="elbo", loss_space=loss_space)
  np.testing.assert_allclose(limit, elbo, atol=1e-5)


def linear_loss(scale, **options):
  """The loss of a network that scales z and adds its condition."""
  x, eps, _ = data(2, 4)

  def predict_fn(z, logsnr, cond):
    return scale * z + diffusion.broadcast_to_images(cond["bias"], z)

  return objective.diffusion_loss(
    x,
    eps,
    TIMES[:2],
    {"bias": jnp.ones((2,))},
    predict_fn=predict_fn,
    schedule=SCHEDULE,
    **{"prediction": "v", "loss_space": "eps", "weighting": "sigmoid"}
    | options,
  )


def test_jit_and_gradients_against_finite_differences():
  jitted = jax.jit(linear_loss)
  chex.assert_trees_all_close(linear_loss(0.7), jitted(0.7), rtol=1e-5)

  def total(scale):
    return jitted(scale)[0].sum()

  test_util.check_grads(total, (0.7,), order=1, rtol=1e-2, atol=1e-3)


def test_network_sees_the_noisy_images_log_snrs_and_condition():
  x, eps, _ = data()
  cond = {"labels": jnp.arange(4)}
  seen = []

  def predict_fn(*args):
    seen.append(args)
    return jnp.float32(alpha * eps - sigma * x)  # The right answer.

  _, snr = weight_on_x(TIMES, "snr")
  alpha = np.sqrt(snr / (1 + snr)).reshape(-1, 1, 1, 1)
  sigma = np.sqrt(1 / (1 + snr)).reshape(-1, 1, 1, 1)
  losses, metrics = objective.diffusion_loss(
    x,
    eps,
    TIMES,
    cond,
    predict_fn=predict_fn,
    schedule=SCHEDULE,
    prediction="v",
    loss_space="eps",
    weighting="constant",
  )
  ((z, logsnr, passed),) = seen
  assert passed is cond
  np.testing.assert_allclose(z, alpha * x + sigma * eps, atol=1e-6)
  np.testing.assert_allclose(logsnr, np.log(snr), atol=1e-5)
  np.testing.assert_allclose([losses, metrics["v_mse"]], 0, atol=1e-11)


def test_multiscale_base_reaches_the_loss():
  # 4x4 images: one scale of 4 pixels is the mean / 4; 2 pixels add to it.
  (plain, _), (one, metrics), (two, _) = (
    linear_loss(0.7, multiscale_base=base) for base in (None, 4, 2)
  )
  np.testing.assert_allclose(one, plain / 4, rtol=1e-5)
  assert np.all(two > one)
  np.testing.assert_allclose(metrics["eps_mse"], linear_loss(0.7)[1]["eps_mse"])


@pytest.mark.parametrize(
  "change",
  [
    {"x": np.zeros((4, 8, 8))},
    {"eps": np.zeros((4, 8, 8, 1))},
    {"t": np.zeros(3)},
    {"t": np.zeros(())},
  ],
)
def test_wrong_shapes(change):
  x, eps, _ = data()
  with pytest.raises(AssertionError):
    objective.diffusion_loss(
      **{"x": x, "eps": eps, "t": TIMES, "cond": None} | change,
      predict_fn=lambda z, logsnr, cond: z,
      schedule=SCHEDULE,
      prediction="v",
      loss_space="v",
      weighting="constant",
    )


@pytest.mark.parametrize(
  "change, message",
  [
    ({"weighting": "p2"}, "weighting='p2'; the options are constant, elbo"),
    ({"loss_space": "score"}, "loss_space='score'; the options are eps, v, x"),
    ({"prediction": "noise"}, "prediction='noise'; the options are v, eps, x"),
    ({"multiscale_base": 3}, "multiscale_base=3 .* 4x4 by doubling"),
  ],
)
def test_unknown_options(change, message):
  with pytest.raises(ValueError, match=message):
    linear_loss(0.7, **change)


multiscale = jax.jit(objective.multiscale_mean_square, static_argnames="base")


@pytest.mark.parametrize(
  "d, low, white, ratio",
  # Sum of 1/s and of (1/s)(s/d)^2 over s = 32, 64, ..., d, worked by hand.
  [
    (128, 0.05469, 0.013672, 4),
    (256, 0.05859, 0.007324, 8),
    (512, 0.06055, 0.003784, 16),
    (1024, 0.06152, 0.001923, 32),
  ],
)
def test_multiscale_effective_weights(d, low, white, ratio):
  flat = multiscale(jnp.ones((1, d, d, 1)), base=32)
  # An impulse has a white spectrum: with a mean square of 1, its s x s means
  # have a mean square of (s/d)^2, as white noise has in expectation.
  impulse = multiscale(jnp.zeros((1, d, d, 1)).at[0, 5, 9, 0].set(d), base=32)
  np.testing.assert_allclose(flat, [low], atol=6e-6)
  np.testing.assert_allclose(impulse, [white], atol=6e-7)
  np.testing.assert_allclose(flat / impulse, [ratio], rtol=1e-5)


def brute_force(residual, base):
  """Equation (8) by loops, s being the shorter side after pooling."""
  b, h, w, c = residual.shape
  d = min(h, w)
  losses = np.zeros(b)
  s = base
  while s <= d:
    k = d // s
    squares = [
      residual[:, i : i + k, j : j + k].mean(axis=(1, 2)) ** 2
      for i in range(0, h, k)
      for j in range(0, w, k)
    ]
    losses += np.mean(squares, axis=(0, 2)) / s
    s *= 2
  return losses


@pytest.mark.parametrize("shape", [(2, 16, 16, 3), (2, 8, 24, 1)])
@pytest.mark.parametrize("base", [1, 2, 8])
def test_multiscale_by_brute_force(shape, base):
  residual = np.random.default_rng(0).standard_normal(shape)
  losses = multiscale(jnp.float32(residual), base=base)
  np.testing.assert_allclose(losses, brute_force(residual, base), rtol=1e-5)


@pytest.mark.parametrize(
  "shape, base", [((96, 96), 32), ((16, 16), 12), ((16, 16), 32), ((8, 12), 1)]
)
def test_multiscale_needs_doubling(shape, base):
  message = f"multiscale_base={base} .* {shape[0]}x{shape[1]} .*power of two"
  with pytest.raises(ValueError, match=message):
    objective.multiscale_mean_square(jnp.zeros((1, *shape, 3)), base=base)


def draws(times_fn, batch_size=8, count=4000):
  keys = jax.random.split(jax.random.key(0), count)
  return np.asarray(jax.vmap(lambda key: times_fn(key, batch_size))(keys))


def test_stratified_times():
  t = draws(objective.stratified_times)
  assert np.all((t >= 0) & (t < 1))
  # One in each eighth.
  np.testing.assert_array_equal(
    np.sort(np.floor(8 * t), axis=1), np.tile(np.arange(8), (4000, 1))
  )
  # Each position is uniform, not only their union.
  for position in (0, 3, 7):
    assert stats.kstest(t[:, position], "uniform").pvalue > 1e-3


def test_uniform_times_are_independent():
  t = draws(objective.uniform_times)
  assert stats.kstest(t.ravel(), "uniform").pvalue > 1e-3
  correlation = np.corrcoef(t.T) - np.eye(8)
  # 28 coefficients of standard error 4000^-1/2 = .016.
  np.testing.assert_allclose(correlation, 0, atol=0.07)


def test_stratified_times_lower_the_variance():
  # Of the batch's mean of t^2: by rule of thumb (1/B)^2 against 1/B.
  stratified = (draws(objective.stratified_times) ** 2).mean(axis=1)
  uniform = (draws(objective.uniform_times) ** 2).mean(axis=1)
  np.testing.assert_allclose(stratified.mean(), 1 / 3, atol=3e-3)
  assert stratified.var() < uniform.var() / 5
