# SPDX-License-Identifier: Apache-2.0
"""EXACT under Gumbel noise, on the authors' toy, and given wrong arguments."""

import functools

import jax
from jax import test_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special
from scipy import stats

import losses


def test_gumbel_noise_is_softmax():
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(4, 6)) * 2
  logits[0, 2] += 60  # 1 - p and p_y of about 1e-17, which would be rounded.
  logits[1, 3] += 60
  labels, tau = np.array([2, 0, 5, 1]), 1.5
  p = special.softmax(logits / tau, axis=-1)
  expected = np.where(np.eye(6)[labels], 0, p).sum(-1)
  loss, vjp = jax.vjp(
    lambda z: losses.gumbel_expected_accuracy_loss(
      z, jnp.array(labels), tau=tau
    ),
    jnp.float32(logits),
  )
  np.testing.assert_allclose(loss, expected, rtol=2e-5)
  # p_y times the gradient of cross-entropy, over tau.
  p_y = np.take_along_axis(p, labels[:, None], -1)
  is_label = np.eye(6, dtype=bool)[labels]
  grad = p_y * np.where(is_label, -expected[:, None], p) / tau
  np.testing.assert_allclose(vjp(jnp.ones(4))[0], grad, rtol=1e-4)
  nll = optax.softmax_cross_entropy_with_integer_labels(
    jnp.float32(logits / tau), jnp.array(labels)
  )
  np.testing.assert_allclose(losses.smooth_accuracy_loss(nll), loss, atol=1e-6)


def test_factors_of_the_gradient_on_the_logit_of_the_label():
  # 1 - p of cross-entropy, p (1 - p) of the smooth accuracy (post 7708).
  z, p = np.zeros((2, 3)), np.array([0.2, 0.9])
  z[:, 1] = np.log(2 * p / (1 - p))
  labels = jnp.array([1, 1])
  for loss, factor in (
    (optax.softmax_cross_entropy_with_integer_labels, 1 - p),
    (losses.gumbel_expected_accuracy_loss, p * (1 - p)),
  ):
    grad = jax.grad(lambda z, f=loss: f(z, labels).sum())(jnp.float32(z))
    np.testing.assert_allclose(grad[:, 1], -factor, rtol=1e-5)


def test_gumbel_derivatives():
  with jax.enable_x64(True):
    logits, labels = jnp.array([[0.3, -1.0, 0.8]]), jnp.array([0])

    @jax.jit
    def loss(logits, tau):
      return losses.gumbel_expected_accuracy_loss(logits, labels, tau=tau)

    test_util.check_grads(loss, (logits, 0.7), order=2, modes=["rev"])


# The toy of arXiv 2205.09615: f = x - b on three points, of which b in
# (0, 0.25) gets all right. The error of a point is Phi(-l f / (sigma sqrt 2)).
X = np.array([-0.25, 0.0, 0.25])
Y = np.array([0, 0, 1], np.int32)


def accuracy(b):
  return np.mean((X - b > 0) == Y)


def toy(loss, b):
  """Mean loss of class logits [0, x - b]."""
  f = jnp.asarray(X, b.dtype) - b
  return loss(jnp.stack([jnp.zeros_like(f), f], axis=-1), jnp.array(Y)).mean()


def assert_minimisers(loss, scales, minimisers, widths):
  """The slope in b changes sign within the widths of the minimisers."""
  with jax.enable_x64(True):
    slope = jax.grad(lambda b, scale: toy(functools.partial(loss, scale), b))
    slope = jax.jit(jax.vmap(slope))
    scales, b, widths = (jnp.array(a) for a in (scales, minimisers, widths))
    assert (slope(b - widths, scales) < 0).all()
    assert (slope(b + widths, scales) > 0).all()


def k_times(loss):
  """A loss of class logits k (x - b) in place of x - b, of k."""
  return lambda k, logits, labels: loss(k * logits, labels)


def test_toy_minimisers_of_cross_entropy_need_a_temperature():
  loss = optax.softmax_cross_entropy_with_integer_labels  # Here, sigmoid.
  k = [1.0, 2.0, 3.0, 3.02523, 4.0, 5.0, 10.0, 100.0]
  b = [0.700088, 0.3604, 0.2518, 0.25, 0.2007, 0.1726, 0.1312, 0.1250]
  assert_minimisers(
    k_times(loss), k, b, [1e-6] + [1e-4] * 2 + [1e-6] + [1e-4] * 4
  )
  np.testing.assert_allclose(toy(loss, jnp.float32(b[0])), 0.557797, atol=1e-6)
  # All right from k = 3.02523 on.
  assert [accuracy(x) for x in b[:3]] == [2 / 3] * 3
  assert [accuracy(x) for x in b[4:]] == [1] * 4


def test_toy_minimisers_of_the_hinge_need_a_temperature():
  def hinge(logits, labels):
    return optax.hinge_loss(logits[:, 1] - logits[:, 0], 2.0 * labels - 1)

  for k, low, high, least, right in (
    (1.0, 0.75, 1.0, 0.583333, 2 / 3),
    (2.0, 0.25, 0.5, 0.5, 2 / 3),
    (4.0, 0.0, 0.25, 1 / 3, 1),
    (8.0, 0.125, 0.125, 0.0, 1),
  ):
    b = jnp.array([low, (low + high) / 2, high, low - 0.01, high + 0.01])
    value = jax.vmap(
      lambda b, k=k: toy(functools.partial(k_times(hinge), k), b)
    )(b)
    np.testing.assert_allclose(value[:3], least, atol=1e-6)
    assert (value[3:] > least + 1e-3).all()
    assert accuracy(b[1]) == right


# Minimisers by one-dimensional search in float64 of the closed form; half a
# unit of the last digit printed is tried, and a little more.
def test_toy_minimisers_at_fixed_sigma():
  assert_minimisers(
    lambda sigma, *args: losses.expected_accuracy_loss(*args, sigma=sigma),
    [1.0, 0.5, 0.3, 0.2, 0.15, 0.1, 0.05],
    [3.906, 1.0197, 0.4063, 0.2190, 0.1588, 0.1283, 0.1250],
    [1e-3] + [1e-4] * 6,
  )
  assert [accuracy(b) for b in (3.906, 1.0197, 0.4063)] == [2 / 3] * 3
  assert [accuracy(b) for b in (0.2190, 0.1588, 0.1283, 0.1250)] == [1] * 4
  loss = functools.partial(losses.expected_accuracy_loss, sigma=0.3)
  closed_form = stats.norm.cdf(
    -np.array([-1, -1, 1]) * (X - 0.4) / (0.3 * np.sqrt(2))
  )
  np.testing.assert_allclose(
    toy(loss, jnp.float32(0.4)), closed_form.mean(), rtol=1e-5
  )


def test_toy_minimisers_of_gumbel_noise():
  assert_minimisers(
    lambda k, *args: losses.gumbel_expected_accuracy_loss(*args, tau=1 / k),
    [2.0, 4.0, 8.0, 10.0, 20.0],
    [2.05, 0.3385, 0.1510, 0.1356, 0.1252],
    [1e-2] + [1e-4] * 4,
  )


def test_toy_learns_b_and_sigma():
  # SGD, learning rate 0.01, from b = log sigma = 0.
  def total(params):
    loss = functools.partial(
      losses.expected_accuracy_loss, sigma=jnp.exp(params[1]), num_nodes=64
    )
    return toy(loss, params[0])

  @functools.partial(jax.jit, static_argnums=1)
  def train(params, num_steps):
    return jax.lax.fori_loop(
      0, num_steps, lambda _, p: p - 0.01 * jax.grad(total)(p), params
    )

  params = jnp.zeros(2)
  for num_steps, b, sigma in (
    (1000, 0.738, 0.438),
    (1000, 0.446, 0.275),
    (1000, 0.1251, 0.0688),
    (2000, 0.1250, 0.0296),
  ):
    params = train(params, num_steps)
    np.testing.assert_allclose(params[0], b, atol=6e-4)
    np.testing.assert_allclose(jnp.exp(params[1]), sigma, atol=6e-4)
  np.testing.assert_allclose(total(params), 0.0009, atol=5e-5)


Z, LABELS = jnp.zeros((2, 3)), jnp.array([0, 2])


@pytest.mark.parametrize(
  "call, message",
  [
    (lambda f: f(jnp.zeros((2, 3), int), LABELS), "logits must be floating"),
    (lambda f: f(jnp.float32(1), LABELS), r"logits has shape \(\)"),
    (lambda f: f(Z, jnp.zeros(2)), "labels must be integers"),
    (lambda f: f(Z, jnp.zeros((2, 3), int)), r"labels has shape \(2, 3\)"),
    (lambda f: f(Z, jnp.array([0, 3])), "labels has 3, which is not one of"),
    (lambda f: f(Z, LABELS, where=jnp.ones(3)), "where must be boolean"),
    (
      lambda f: f(Z, LABELS, where=jnp.array([True, True, False])),
      r"class at \(1, 2\)",
    ),
  ],
)
def test_mistakes_in_both_losses(call, message):
  for f in (
    losses.expected_accuracy_loss,
    losses.gumbel_expected_accuracy_loss,
  ):
    with pytest.raises(ValueError, match=message):
      call(f)


@pytest.mark.parametrize(
  "settings, message",
  [
    ({"sigma": 0.0}, "sigma has 0.0, which is not above 0"),
    ({"sigma": jnp.ones(3)}, r"sigma has shape \(3,\)"),
    ({"margin": -1.0}, "margin has -1.0"),
    ({"margin": jnp.ones(3)}, r"margin has shape \(3,\)"),
    ({"num_nodes": 400}, "num_nodes has 400"),
    ({"num_nodes": 64.0}, "num_nodes=64.0 must be an integer"),
  ],
)
def test_mistakes_in_settings(settings, message):
  with pytest.raises(ValueError, match=message):
    losses.expected_accuracy_loss(Z, LABELS, **settings)
  with pytest.raises(ValueError, match="tau has 0.0"):
    losses.gumbel_expected_accuracy_loss(Z, LABELS, tau=0.0)
