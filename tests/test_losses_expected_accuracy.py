# SPDX-License-Identifier: Apache-2.0
"""EXACT for Gaussian noise: the quadrature and its derivatives.

Expected values are float64: scipy's adaptive quadrature of (3) and (4) in the
docstring of `expected_accuracy`, and closed forms.
"""

import jax
from jax import test_util
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate
from scipy import special
from scipy import stats

import losses


def accuracy(delta):
  """P of (3) in float64."""

  def integrand(e):
    return np.exp(special.log_ndtr(delta + e).sum()) * stats.norm.pdf(e)

  p, _ = integrate.quad(integrand, -12, 12, epsabs=0, epsrel=1e-10, limit=500)
  return p


def slope(delta, i):
  """dP/dDelta_i of (4) in float64."""
  others = np.delete(delta, i)

  def integrand(e):
    product = np.exp(special.log_ndtr(others + e).sum())
    return product * stats.norm.pdf(delta[i] + e) * stats.norm.pdf(e)

  return integrate.quad(integrand, -12, 12, epsabs=0, epsrel=1e-9, limit=500)[0]


def scores(delta):
  """Logits of which class 0 leads by delta."""
  return np.concatenate([[0.0], -np.asarray(delta, np.float64)])


def deltas(num_classes):
  """Hard and easy leads: those of the table in `expected_accuracy_loss`."""
  random = np.random.default_rng(0).normal(size=num_classes - 1)
  constant = [np.full(num_classes - 1, d) for d in (-2.0, 0.0, 2.0, 4.0)]
  return [*constant, random, random + 2]


loss_only = jax.jit(losses.expected_accuracy_loss, static_argnames="num_nodes")


@jax.jit
def loss_and_grad(logits, labels):
  def total(logits):
    loss = losses.expected_accuracy_loss(logits, labels)
    return loss.sum(), loss

  grad, loss = jax.grad(total, has_aux=True)(logits)
  return loss, grad


# Computed in float64 and checked by simulation; P and dP/dDelta.
@pytest.mark.parametrize(
  "delta, p, dp",
  [
    ([1.0], 0.760250, [0.219696]),  # Phi and phi of 1 / sqrt 2.
    ([1.0, 2.0, -0.5], 0.326188, [0.043735, 0.008298, 0.218874]),
  ],
)
def test_golden(delta, p, dp):
  logits = jnp.float32(scores(delta))
  loss, grad = loss_and_grad(logits, jnp.int32(0))
  np.testing.assert_allclose(1 - loss, p, atol=1e-6)
  np.testing.assert_allclose(grad, [-np.sum(dp), *dp], atol=1.2e-6)


def test_two_classes_are_phi_to_the_last_errors():
  delta = np.linspace(-4, 8, 25)  # 1 - P down to 8e-9.
  logits = np.stack([delta, 0 * delta], axis=-1)
  loss, grad = loss_and_grad(jnp.float32(logits), jnp.zeros(25, jnp.int32))
  expected = stats.norm.cdf(-delta / np.sqrt(2))
  np.testing.assert_allclose(loss, expected, rtol=2e-5)
  pdf = stats.norm.pdf(delta / np.sqrt(2)) / np.sqrt(2)
  np.testing.assert_allclose(grad, np.stack([-pdf, pdf], -1), rtol=2e-5)


@pytest.mark.parametrize("num_classes", [10, 1000])
def test_agrees_with_adaptive_quadrature(num_classes):
  delta = np.stack(deltas(num_classes))
  logits = jnp.float32([scores(d) for d in delta])
  loss, grad = loss_and_grad(logits, jnp.zeros(len(delta), jnp.int32))
  p = np.array([accuracy(d) for d in delta])
  # 1e-3 is promised for 1000 classes; it is this good.
  np.testing.assert_allclose(1 - loss, p, atol=5e-6)
  some = p > 1e-3
  np.testing.assert_allclose(1 - loss[some], p[some], rtol=1e-3)
  for d, gradient in zip(delta, grad, strict=True):
    for i in (0, num_classes - 2):
      np.testing.assert_allclose(gradient[1 + i], slope(d, i), 2e-3, 1e-9)
  np.testing.assert_allclose(grad.sum(-1), 0, atol=1e-6)


# In float64: the worst error over deltas, and that at Delta = 0.
ERRORS = {
  (10, 32): (1.7e-5, None),
  (10, 64): (3e-9, None),
  (10, 128): (1e-13, None),
  (100, 32): (1.2e-2, 2e-3),
  (100, 64): (3.2e-4, 5.5e-5),
  (100, 128): (1e-6, None),
  (1000, 32): (1e-1, 2e-2),
  (1000, 64): (5.3e-3, 1.3e-3),
  (1000, 128): (2.2e-4, 5e-5),
}


@pytest.mark.parametrize("num_classes", [10, 100, 1000])
def test_quadrature_error_is_that_of_the_table(num_classes):
  delta = deltas(num_classes)[:5]
  p = np.array([accuracy(d) for d in delta])
  for num_nodes in (32, 64, 128):
    worst, of_equal = ERRORS[num_classes, num_nodes]
    with jax.enable_x64(True):
      logits = jnp.array([scores(d) for d in delta])
      labels = jnp.zeros(5, jnp.int32)
      loss = loss_only(logits, labels, num_nodes=num_nodes)
      error = np.abs((1 - np.asarray(loss)) / p - 1)
    # The last of 10 classes is at the rounding of the oracle.
    assert 0.1 * worst < error.max() + 1e-13, num_nodes
    assert error.max() < 1.1 * worst + 1e-12, num_nodes
    if of_equal is not None:
      np.testing.assert_allclose(error[1], of_equal, rtol=0.15)


@pytest.mark.parametrize(
  "num_nodes, num_classes, equal, normal",  # Worst errors, in float64.
  [(64, 3, 1e-13, 1e-13), (64, 10, 4e-10, 3e-11), (64, 100, 6e-5, 1e-6)]
  + [(128, 100, 4e-8, 3e-10)],
)
def test_probabilities_of_all_labels_sum_to_one(
  num_nodes, num_classes, equal, normal
):
  labels = np.tile(np.arange(num_classes, dtype=np.int32), (2, 1))
  z = np.random.default_rng(3).normal(size=num_classes) * [[0.0], [1.0]]
  logits = np.repeat(z[:, None], num_classes, axis=1)  # [2, label, class]
  with jax.enable_x64(True):
    loss = loss_only(jnp.array(logits), jnp.array(labels), num_nodes=num_nodes)
    error = np.abs((1 - np.asarray(loss)).sum(-1) - 1)
  # Equal scores are the harder case: all P are 1 / num_classes.
  assert error[0] < equal
  assert error[1] < normal


def test_derivatives_in_logits_and_sigma_to_second_order():
  rng = np.random.default_rng(1)
  with jax.enable_x64(True):
    logits, labels = jnp.array(rng.normal(size=(2, 4))), jnp.array([2, 0])
    sigma = jnp.array([0.7, 1.6])

    @jax.jit
    def loss(logits, sigma):
      return losses.expected_accuracy_loss(
        logits, labels, sigma=sigma, margin=0.9, num_nodes=64
      )

    test_util.check_grads(loss, (logits, sigma), order=2, modes=["rev"])
    # Only mu / sigma and margin / sigma matter.
    np.testing.assert_allclose(
      loss(logits, sigma)[:1],
      losses.expected_accuracy_loss(
        logits[:1] / 0.7, labels[:1], margin=0.9 / 0.7, num_nodes=64
      ),
      rtol=1e-12,
    )


def test_margin_stops_what_leads_by_more():
  logits, labels = jnp.array([2.0, 1.5, -1.0]), jnp.int32(0)

  @jax.jit
  @jax.value_and_grad
  def loss(logits, margin):
    return losses.expected_accuracy_loss(
      logits, labels, margin=margin, sigma=0.5
    )

  # Leads of 0.5 and 3, of which the margin makes 0.5 and 1.
  for margin, delta in ((1.0, [1.0, 2.0]), (1e3, [1.0, 6.0])):
    delta = np.array(delta)
    value, grad = loss(logits, margin)
    np.testing.assert_allclose(value, 1 - accuracy(delta), rtol=1e-5)
    expected = np.array([slope(delta, 0), slope(delta, 1)]) / 0.5
    expected[1] *= margin > 3
    np.testing.assert_allclose(
      grad, [-expected.sum(), *expected], rtol=1e-5, atol=1e-9
    )


def test_noise_without_end_is_chance_and_none_is_the_error():
  logits = jnp.array([[0.3, 0.1, 0.2], [0.1, 0.3, 0.2]])
  labels = jnp.int32([0, 0])
  for sigma, expected in ((1e5, [2 / 3, 2 / 3]), (1e-3, [0, 1])):
    loss = losses.expected_accuracy_loss(logits, labels, sigma=sigma)
    np.testing.assert_allclose(loss, expected, atol=1e-5)


def test_memory_does_not_grow_with_the_nodes():
  logits = jax.ShapeDtypeStruct((8, 1000), jnp.float32)
  labels = jax.ShapeDtypeStruct((8,), jnp.int32)
  program = loss_and_grad.lower(logits, labels).compile()
  arrays = program.memory_analysis().temp_size_in_bytes / (4 * 8 * 1000)
  assert arrays < 8  # Nodes kept by autodiff would be more than 58.


def test_forward_mode_and_vmap():
  rng = np.random.default_rng(2)
  logits, labels = jnp.float32(rng.normal(size=(3, 5))), jnp.array([4, 0, 2])
  direction = jnp.float32(rng.normal(size=(3, 5)))
  loss, grad = loss_and_grad(logits, labels)
  _, tangent = jax.jvp(
    lambda z: losses.expected_accuracy_loss(z, labels), (logits,), (direction,)
  )
  np.testing.assert_allclose(tangent, (grad * direction).sum(-1), atol=1e-6)
  mapped = jax.vmap(losses.expected_accuracy_loss)(logits, labels)
  np.testing.assert_allclose(mapped, loss, rtol=1e-6)
