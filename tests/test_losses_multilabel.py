# SPDX-License-Identifier: Apache-2.0
"""ZLPR against its formula in float64."""

import chex
import jax
from jax import test_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special

import losses

zlpr = jax.jit(losses.zlpr, static_argnames="axis")


@jax.jit
def loss_and_grads(logits, labels, threshold=0.0, where=None):
  """Losses and the gradients of their sum on the logits and the threshold."""

  def total(logits, threshold):
    loss = losses.zlpr(logits, labels, threshold=threshold, where=where)
    return loss.sum(), loss

  grads, loss = jax.grad(total, argnums=(0, 1), has_aux=True)(logits, threshold)
  return loss, *grads


def direct(s, t, where=True):
  """The formula in float64, and its gradient."""
  s, t = np.float64(s), np.float64(t)
  positive = np.where(where, t * np.exp(-s), 0)
  negative = np.where(where, (1 - t) * np.exp(s), 0)
  loss = np.log1p(positive.sum(-1)) + np.log1p(negative.sum(-1))
  grad = negative / (1 + negative.sum(-1, keepdims=True))
  grad -= positive / (1 + positive.sum(-1, keepdims=True))
  return loss, grad


def random_case(shape=(4, 6), seed=0):
  rng = np.random.default_rng(seed)
  labels = rng.uniform(size=shape)
  labels[..., :2] = labels[..., :2].round()  # Some hard ones.
  return np.float32(rng.normal(size=shape) * 3), np.float32(labels)


# The formula in float64, by hand.
@pytest.mark.parametrize(
  "labels, threshold, expected",
  [
    ([1, 0, 0], 0.0, 1.337171),
    ([0, 0, 0], 0.0, 1.705173),
    ([1, 1, 1], 0.0, 2.236816),
    ([0.9, 0.05, 0.5], 0.0, 1.494698),
    ([1, 0, 0], 0.3, 1.245469),
  ],
)
def test_golden(labels, threshold, expected):
  logits, labels = jnp.float32([1, -2, 0.5]), jnp.float32(labels)
  loss = zlpr(logits, labels, threshold=threshold)
  np.testing.assert_allclose(loss, expected, atol=1e-6)


def test_binary_cross_entropy_is_another_loss():
  # 1.414267 in float64, where ZLPR is 1.337171.
  bce = optax.sigmoid_binary_cross_entropy(
    jnp.float32([1, -2, 0.5]), jnp.float32([1, 0, 0])
  )
  np.testing.assert_allclose(bce.sum(), 1.414267, atol=1e-6)


def test_a_single_class():
  # log(1 + t e^-s) + log(1 + (1 - t) e^s), by hand.
  logits = np.float32([[2.0], [2.0], [2.0], [-60.0]])
  labels = np.float32([[1.0], [0.0], [0.3], [0.0]])
  loss, grad, _ = loss_and_grads(logits, labels)
  x = np.exp(2.0)
  soft = np.log1p(0.3 / x) + np.log1p(0.7 * x)
  expected = [np.log1p(1 / x), np.log1p(x), soft, np.exp(-60.0)]
  np.testing.assert_allclose(loss, expected, rtol=1e-6)
  soft = -0.3 / (x + 0.3) + 0.7 * x / (1 + 0.7 * x)
  expected = [-1 / (1 + x), x / (1 + x), soft, np.exp(-60.0)]
  np.testing.assert_allclose(grad[:, 0], expected, rtol=2e-6)


def test_nan_labels_are_seen_but_where_they_are_left_out():
  logits = jnp.float32([[1, -2, 0.5]])
  for i in range(3):
    labels = jnp.float32([[1, 0, 0.5]]).at[0, i].set(jnp.nan)
    assert jnp.isnan(zlpr(logits, labels)).all()
    where = jnp.arange(3) != i
    loss, vjp = jax.vjp(lambda *a, w=where: zlpr(*a, where=w), logits, labels)
    chex.assert_tree_all_finite((loss, vjp(jnp.ones(1))))


def test_golden_minimum():
  labels = jnp.float32([0.9, 0.05, 0.5])
  np.testing.assert_allclose(losses.zlpr_minimum(labels), 1.404159, atol=1e-6)
  excess = losses.zlpr_excess(jnp.float32([1, -2, 0.5]), labels)
  np.testing.assert_allclose(excess, 1.494698 - 1.404159, atol=2e-6)


def test_agrees_with_the_formula_and_its_gradient():
  logits, labels = random_case()
  loss, grad, _ = loss_and_grads(logits, labels)
  expected, expected_grad = direct(logits, labels)
  np.testing.assert_allclose(loss, expected, rtol=1e-6)
  np.testing.assert_allclose(grad, expected_grad, atol=1e-6)


def test_symmetries_and_convexity():
  logits, labels = random_case()
  loss = zlpr(logits, labels)
  order = np.random.default_rng(1).permutation(6)
  same = zlpr(logits[:, order], labels[:, order])
  np.testing.assert_allclose(same, loss, rtol=1e-6)
  np.testing.assert_allclose(zlpr(-logits, 1 - labels), loss, rtol=1e-6)
  other, _ = random_case(seed=2)
  middle = zlpr((logits + other) / 2, labels)
  assert (middle < (loss + zlpr(other, labels)) / 2).all()


def test_least_where_labels_are_sigmoid_of_twice_the_scores():
  labels = np.float32(np.random.default_rng(3).uniform(0.01, 0.99, (5, 4)))
  threshold = 0.7
  best = threshold + special.logit(labels) / 2
  loss, grad, _ = loss_and_grads(best, labels, threshold)
  np.testing.assert_allclose(grad, 0, atol=2e-7)
  np.testing.assert_allclose(loss, losses.zlpr_minimum(labels), rtol=1e-6)
  p = losses.zlpr_probabilities(jnp.float32(best), threshold=threshold)
  np.testing.assert_allclose(p, labels, rtol=1e-5)
  excess = losses.zlpr_excess(best, labels, threshold=threshold)
  np.testing.assert_allclose(excess, 0, atol=1e-6)
  excess = losses.zlpr_excess(best + 0.5, labels, threshold=threshold)
  assert (excess > 1e-3).all()
  # Hard labels allow a loss of 0, without infinite gradients of the root.
  hard_minimum, grad = jax.value_and_grad(losses.zlpr_minimum)(
    jnp.array([0.0, 1.0])
  )
  assert hard_minimum == 0
  np.testing.assert_array_equal(grad, 0)


def test_threshold_is_subtracted_and_learned():
  logits, labels = random_case()
  threshold = np.float32([[0.3], [-1.0], [0.0], [2.0]])  # One an example.
  loss, grad, grad_threshold = loss_and_grads(logits, labels, threshold)
  np.testing.assert_allclose(loss, direct(logits - threshold, labels)[0], 1e-6)
  expected = -np.asarray(grad).sum(-1, keepdims=True)
  np.testing.assert_allclose(grad_threshold, expected, atol=1e-6)


def test_derivatives():
  with jax.enable_x64(True):
    rng = np.random.default_rng(4)
    logits, labels = rng.normal(size=(2, 3)), rng.uniform(0.1, 0.9, (2, 3))
    arguments = (jnp.array(logits), jnp.array(labels), jnp.array(0.4))
    f = jax.jit(lambda s, t, s_0: losses.zlpr_excess(s, t, threshold=s_0))
    test_util.check_grads(f, arguments, order=2, modes=["rev"])


def test_no_labels_of_a_kind_or_no_classes():
  logits = np.float32([[3.0, -1.0, 60.0]])
  none, every = np.zeros((1, 3), np.float32), np.ones((1, 3), np.float32)
  np.testing.assert_allclose(
    zlpr(logits, none), special.logsumexp([0, 3, -1, 60]), rtol=1e-6
  )
  np.testing.assert_allclose(
    zlpr(-logits, every), special.logsumexp([0, 3, -1, 60]), rtol=1e-6
  )
  # The absent term is 0 exactly, and leaves the digits of a small one.
  confident = np.full((1, 3), -60, np.float32)
  for loss in (zlpr(confident, none), zlpr(-confident, every)):
    np.testing.assert_allclose(loss, 3 * np.exp(-60.0), rtol=1e-5)
  assert zlpr(jnp.zeros((2, 0)), jnp.zeros((2, 0))).tolist() == [0, 0]


def test_absent_classes():
  logits, labels = random_case()
  where = np.array([True, True, False, True, False, True])
  loss, grad, _ = loss_and_grads(logits[:, where], labels[:, where])
  # -1e7 with a label of 0 is how others mask; clipped labels would let it in.
  for fill, mask in (
    (-np.inf, None),
    (1e4, where),
    (-1e4, where),
    (-1e7, None),
  ):
    masked = np.where(where, logits, np.float32(fill))
    kept = np.where(where, labels, 0 if mask is None else labels)
    value, slope, _ = loss_and_grads(masked, kept, 0.0, mask)
    np.testing.assert_allclose(value, loss, rtol=1e-6)
    np.testing.assert_allclose(slope[:, where], grad, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(slope[:, ~where], 0)
  value, *slopes = loss_and_grads(logits, labels, 0.0, np.zeros(6, bool))
  for zero in (value, *slopes):
    np.testing.assert_array_equal(zero, 0)
  infinite = np.full_like(logits, -np.inf)
  excess = losses.zlpr_excess(infinite, 0 * labels)
  np.testing.assert_array_equal(excess, 0)


def test_edges_have_finite_gradients_on_logits_and_labels():
  logits = jnp.array([1e4, -1e4, 1e4, -1e4, 0.0, 0.0])
  labels = jnp.array([0.0, 0.0, 1.0, 1.0, 1.0, 0.0])
  loss, grads = jax.jit(jax.value_and_grad(losses.zlpr, argnums=(0, 1)))(
    logits, labels
  )
  np.testing.assert_allclose(loss, 2e4, rtol=1e-6)
  np.testing.assert_allclose(grads[0], [1, 0, 0, -1, 0, 0], atol=1e-7)
  assert jnp.isfinite(grads[1]).all()


def test_several_axes_are_one():
  rng = np.random.default_rng(5)
  scores = np.float32(rng.normal(size=(2, 3, 4, 4)))  # [batch, heads, n, n]
  spans = np.float32(rng.uniform(size=(2, 3, 4, 4)) < 0.2)
  valid = np.triu(np.ones((4, 4), bool))
  spans *= valid
  loss = zlpr(scores, spans, where=valid, axis=(-2, -1))
  flat = zlpr(scores[..., valid], spans[..., valid])
  np.testing.assert_allclose(loss, flat, rtol=1e-6)
  assert loss.shape == (2, 3)


Z, T = jnp.zeros((2, 3)), jnp.ones((2, 3))


@pytest.mark.parametrize(
  "call, message",
  [
    (lambda: losses.zlpr(Z.astype(int), T), "logits must be floating"),
    (lambda: losses.zlpr(Z, T.astype(int)), "labels must be floating"),
    (lambda: losses.zlpr(Z, T[0]), r"labels has shape \(3,\)"),
    (lambda: losses.zlpr(Z, 2 * T), "labels has 2.0, which is outside"),
    (lambda: losses.zlpr(Z, T, where=T), "where must be boolean"),
    (lambda: losses.zlpr(Z, T, threshold=jnp.ones(2)), "threshold has shape"),
    (
      lambda: losses.zlpr(Z, T, where=jnp.array([True, True, False])),
      r"class at \(0, 2\)",
    ),
    (lambda: losses.zlpr(Z - jnp.inf, T), r"class at \(0, 0\)"),
    (lambda: losses.zlpr_minimum(-T), "labels has -1.0"),
    (lambda: losses.zlpr_probabilities(T.astype(int)), "logits must be"),
  ],
)
def test_mistakes(call, message):
  with pytest.raises(ValueError, match=message):
    call()
