# SPDX-License-Identifier: Apache-2.0
"""Weighting of losses, against scipy.stats in float64 and closed forms."""

import functools

import chex
import jax
from jax import test_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

import losses

THREE = np.float32([2.0, 0.5, 8.0])
# On both sides of where the series takes over, at |gamma| log(16) = 1e-2.
GAMMAS = (-50.0, -3.0, -1.0, -0.1, -0.0037, -0.0035, -1e-6, 0.0)
GAMMAS += tuple(-g for g in GAMMAS)


def mean_of(gamma, **kwargs):
  return lambda x: losses.generalized_mean(x, gamma=gamma, **kwargs)


def test_golden_means():
  """Derived by hand for 2, 1/2, 8."""
  golden = {1.0: 3.5, 0.0: 2.0, -1.0: 8 / 7, 2.0: 4.769696}
  golden |= {np.inf: 8.0, -np.inf: 0.5}
  for gamma, expected in golden.items():
    np.testing.assert_allclose(mean_of(gamma)(THREE), expected, rtol=1e-6)


def test_mean_and_gradient_against_scipy():
  """Traced gamma; each row has its own weights, one of them 0."""
  rng = np.random.default_rng(0)
  x = np.float32(rng.uniform(0.1, 5, (4, 3)))
  gradient_of = jax.jit(
    jax.value_and_grad(
      lambda x, gamma, w: losses.generalized_mean(
        x, gamma=gamma, weights=w
      ).sum()
    )
  )
  for w in ([1.0, 1.0, 1.0], [2.0, 0.5, 0.0], [1e-9, 1.0, 1.0]):
    w = np.float32(w)
    for gamma in GAMMAS:
      value, gradient = gradient_of(x, gamma, w)
      mean = stats.pmean(np.float64(x), gamma, axis=1, weights=np.float64(w))
      np.testing.assert_allclose(value, mean.sum(), rtol=1e-5)
      # Equation 3.
      expected = w / w.sum() * (x / mean[:, None]) ** (gamma - 1)
      np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-6)


def test_infinite_gamma_is_the_hardest_or_the_easiest_task():
  gradient_of = jax.jit(jax.grad(lambda x, gamma: mean_of(gamma)(x)))
  np.testing.assert_allclose(gradient_of(THREE, np.inf), [0, 0, 1])
  np.testing.assert_allclose(gradient_of(THREE, -np.inf), [0, 1, 0])
  np.testing.assert_allclose(
    gradient_of(THREE, 1e3), [0, 0, 3**-1e-3], rtol=1e-4
  )
  # A task of weight 0 does not count.
  largest = losses.generalized_mean(
    THREE, gamma=np.inf, weights=[1.0, 1.0, 0.0]
  )
  assert largest == 2
  # Equal losses: their mean, whatever gamma.
  equal = np.full(3, 0.7, np.float32)
  for gamma in (-np.inf, -2.0, 0.0, 5.0, np.inf):
    np.testing.assert_allclose(mean_of(gamma)(equal), 0.7, rtol=1e-6)
    assert np.isfinite(gradient_of(equal, gamma)).all()


def test_derivatives_in_gamma_and_losses():
  with jax.enable_x64(True):
    gammas = jnp.array([-1.5, -0.0036, 0.0, 1e-5, 0.0036, 0.7])
    each = jax.jit(
      jax.vmap(lambda x, gamma: losses.generalized_mean(x, gamma=gamma))
    )
    x = jnp.tile(jnp.array([2.0, 0.5, 8.0]), (6, 1))
    test_util.check_grads(
      each, (x, gammas), order=2, modes=["rev"], rtol=1e-4, eps=1e-4
    )
  # At 0: M times half the variance of the logarithms.
  slope = jax.jit(jax.grad(lambda gamma: mean_of(gamma)(THREE)))(0.0)
  np.testing.assert_allclose(slope, np.log(THREE).var(), rtol=1e-5)


def test_mean_increases_with_gamma_and_has_the_unit_of_the_losses():

  @jax.jit
  @functools.partial(jax.vmap, in_axes=(0, None))
  def means_of_scaled(gamma, scale):
    return losses.generalized_mean(scale * THREE, gamma=gamma, floor=1e-30)

  gammas = jnp.linspace(-4, 4, 81)
  means = means_of_scaled(gammas, 1.0)
  assert (jnp.diff(means) > 0).all()
  for scale in (1e-6, 1e30):  # sums of powers would overflow
    scaled = means_of_scaled(gammas, scale)
    np.testing.assert_allclose(scaled, scale * means, rtol=2e-5)


def test_losses_near_zero_keep_a_bounded_weight():
  x = np.float32([1e-20, 1.0])

  @jax.jit
  def log_mean(x):
    return jnp.log(losses.generalized_mean(x, gamma=0.0))

  # Half of 1 / floor and of 1 / L.
  np.testing.assert_allclose(jax.grad(log_mean)(x), [5e7, 0.5], rtol=1e-5)
  gradient = jax.grad(losses.real_time_weighting)(x)
  np.testing.assert_allclose(gradient, [1e8, 1.0], rtol=1e-5)
  # log L goes on in a straight line from the floor on, with the same slope.
  below, at = (float(log_mean(np.float32([v, 1.0]))) for v in (5e-9, 1e-8))
  np.testing.assert_allclose(2 * (at - below), 0.5, rtol=1e-4)
  jitted = jax.jit(jax.value_and_grad(log_mean))
  chex.assert_tree_all_finite(jitted(np.float32([0.0, 1.0])))


def test_real_time_weighting_goes_the_way_of_the_geometric_mean():
  x = np.float32([[2.0, 0.5, 8.0], [1.0, 3.0, 1e-3]])
  np.testing.assert_allclose(losses.real_time_weighting(x), [3, 3], rtol=1e-6)
  gradient = jax.grad(lambda x: losses.real_time_weighting(x).sum())(x)
  np.testing.assert_allclose(gradient, 1 / x, rtol=1e-6)
  log_mean = jax.jit(jax.grad(lambda x: jnp.log(mean_of(0.0)(x)).sum()))(x)
  np.testing.assert_allclose(gradient, 3 * log_mean, rtol=1e-5)


def test_initial_losses_are_those_of_an_untrained_model():
  labels = jnp.array([0, 3, 3, 1])
  nll = optax.softmax_cross_entropy_with_integer_labels(
    jnp.zeros((4, 5)), labels
  )
  np.testing.assert_allclose(losses.initial_cross_entropy(5), nll[0])
  targets = np.random.default_rng(0).standard_normal((7, 2, 3)) + 2
  expected = (targets**2).sum((1, 2)).mean()
  loss = losses.initial_squared_error(np.float32(targets))
  np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_prior_losses_are_those_of_the_best_constant():
  counts = np.float32([[7, 2, 1, 0], [1, 1, 1, 1], [5, 0, 0, 0]])
  loss = losses.prior_cross_entropy(counts)
  np.testing.assert_allclose(loss, stats.entropy(counts, axis=1), atol=1e-7)
  gradient = jax.grad(lambda c: losses.prior_cross_entropy(c).sum())(counts)
  assert jnp.isfinite(gradient).all()

  targets = np.random.default_rng(1).standard_normal((9, 3)) * [1, 2, 3] + 5
  loss = losses.prior_squared_error(np.float32(targets))
  np.testing.assert_allclose(loss, targets.var(0).sum(), rtol=1e-5)
  centred = np.float32(targets - targets.mean(0))  # no constant is better
  np.testing.assert_allclose(
    losses.initial_squared_error(centred), loss, rtol=1e-5
  )
  one = losses.prior_squared_error(np.float32([2.0, 4.0]))
  np.testing.assert_allclose(one, 1.0)


def test_weights_cancel_units():
  reference = np.float32([0.2, 30.0])
  weights = losses.inverse_loss_weights(reference)
  np.testing.assert_allclose(weights * reference, [1, 1], rtol=1e-6)
  unit = np.float32([1e3, 1e-3])
  scaled = losses.inverse_loss_weights(reference * unit)
  np.testing.assert_allclose(scaled * unit, weights, rtol=1e-6)


@pytest.mark.parametrize(
  "function",
  [losses.inverse_loss_weights, losses.real_time_weighting, mean_of(0.5)],
)
def test_losses_that_are_no_losses_are_refused(function):
  with pytest.raises(ValueError, match="losses has -0.5, which is n"):
    function(jnp.array([1.0, -0.5]))
  with pytest.raises(ValueError, match="losses must be floating point"):
    function(jnp.ones(2, int))
  with pytest.raises(
    ValueError, match=r"losses has shape \(\), not \[..., n\]"
  ):
    function(jnp.float32(1.0))


@pytest.mark.parametrize(
  "function", [losses.real_time_weighting, mean_of(0.0), mean_of(1.0)]
)
def test_negative_losses_show_under_jit_and_zero_is_a_loss(function):
  assert np.isnan(jax.jit(function)(jnp.array([-1.0, 2.0])))
  zero = jnp.array([0.0, 2.0])
  value, gradient = jax.value_and_grad(function)(zero)
  assert np.isfinite(value) and np.isfinite(gradient).all()
  np.testing.assert_allclose(jax.jit(function)(zero), value, rtol=1e-6)


def test_reference_losses_are_above_zero():
  with pytest.raises(ValueError, match="reference_losses has 0.0.*above 0"):
    losses.inverse_loss_weights(jnp.array([1.0, 0.0]))


def test_mistakes():
  with pytest.raises(ValueError, match=r"weights has shape \(2,\), not \[3\]"):
    mean_of(1.0, weights=jnp.ones(2))(THREE)
  with pytest.raises(ValueError, match="weights has -1.0, which is outside"):
    mean_of(1.0, weights=-jnp.ones(3))(THREE)
  with pytest.raises(ValueError, match="floor has 0.0, which is not above 0"):
    mean_of(1.0, floor=0.0)(THREE)
  with pytest.raises(ValueError, match="sum of weights has 0.0"):
    mean_of(1.0, weights=jnp.zeros(3))(THREE)
  with pytest.raises(ValueError, match=r"gamma has shape \(2,\), not a scalar"):
    mean_of(jnp.ones(2))(THREE)
  with pytest.raises(ValueError, match="num_classes has 1, which is outside"):
    losses.initial_cross_entropy(1)
  with pytest.raises(
    ValueError, match="frequencies has -1.0, which is outside"
  ):
    losses.prior_cross_entropy(jnp.array([1.0, -1.0]))
  with pytest.raises(ValueError, match="targets must be floating point"):
    losses.prior_squared_error(jnp.ones(3, int))
