# SPDX-License-Identifier: Apache-2.0
"""Directions for several tasks: golden values, closed forms, invariances."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import losses

PAIR = np.array([[1.0, 0.0], [-1.0, 1.0]])


def norms(vectors):
  return np.linalg.norm(vectors, axis=1)


def test_golden_values():
  """Section "surgery" of the reading notes: derived by hand."""
  gram = np.float32(PAIR @ PAIR.T)
  a = losses.primary_secondary_weights(gram)
  np.testing.assert_allclose(a @ PAIR, [0.5, 0.5], rtol=1e-6)
  a = losses.min_norm_weights(gram)
  np.testing.assert_allclose(a, [0.6, 0.4], rtol=1e-6)
  np.testing.assert_allclose(a @ PAIR, [0.2, 0.4], rtol=1e-6)
  # Projections (.5, .5) of (1, 0) and (0, 1) of (-1, 1).
  a = losses.upgrad_weights(gram)
  np.testing.assert_allclose(a @ PAIR, [0.25, 0.75], rtol=1e-6)


def test_one_auxiliary_is_a_gem():
  rng = np.random.default_rng(1)
  g = rng.standard_normal((20, 2, 3))
  gram = np.float32(g @ g.swapaxes(1, 2))
  weights = jax.vmap(losses.primary_secondary_weights)(gram)
  x = np.maximum(-gram[:, 0, 1], 0) / gram[:, 1, 1]
  assert (x == 0).any() and (x > 0).any()
  np.testing.assert_allclose(weights[:, 1], x, rtol=1e-6)


def test_min_norm_of_two_in_closed_form():
  rng = np.random.default_rng(2)
  g = rng.standard_normal((30, 2, 2)) * [[[1.0], [3.0]]]
  g1, g2 = g[:, 0], g[:, 1]
  square = ((g1 - g2) ** 2).sum(1)
  alpha = np.clip(((g2 - g1) * g2).sum(1) / square, 0, 1)
  assert (alpha == 1).any() and (alpha < 1).any()
  gram = np.float32(g @ g.swapaxes(1, 2))
  weights = jax.vmap(losses.min_norm_weights)(gram)
  np.testing.assert_allclose(weights[:, 0], alpha, rtol=1e-5)


@pytest.mark.parametrize(
  "function",
  [
    losses.min_norm_weights,
    losses.primary_secondary_weights,
    losses.upgrad_weights,
  ],
)
def test_equivariance_limits_and_no_gradient(function):
  rng = np.random.default_rng(3)
  g = rng.standard_normal((4, 3))
  gram = np.float32(g @ g.T)
  solve = jax.jit(function)
  a = solve(gram)
  for scale in (1e-30, 1e30):  # losses in another unit
    chex.assert_trees_all_close(solve(scale * gram), a, rtol=1e-5)
  # Tasks in another order, the primary one staying where it is.
  order = np.array([0, 3, 1, 2])
  chex.assert_trees_all_close(solve(gram[order][:, order]), a[order], rtol=1e-4)
  assert jnp.isfinite(solve(np.zeros((4, 4), np.float32))).all()
  one = function(jnp.ones((1, 1)))
  np.testing.assert_allclose(one, [1.0])
  assert not jax.grad(lambda gram: function(gram).sum())(gram).any()


def test_each_loss_in_its_own_unit():
  """u does not change with the units of scaled tasks, nor of auxiliaries."""
  rng = np.random.default_rng(4)
  g = rng.standard_normal((4, 6))
  unit = np.array([1.0, 1e-3, 7.0, 1e4])
  for function in (
    lambda v: losses.primary_secondary_weights(v @ v.T),
    lambda v: losses.min_norm_weights(v @ v.T, scales=norms(v)),
    lambda v: losses.inverse_norm_weights(v @ v.T),
  ):
    a = function(np.float32(g))
    b = function(np.float32(g * unit[:, None]))
    chex.assert_trees_all_close(b * unit, a, rtol=1e-5)


def test_tasks_that_agree():
  gram = np.float32(np.eye(4) + 1)
  expected = {
    losses.primary_secondary_weights: [1.0, 0.0, 0.0, 0.0],
    losses.upgrad_weights: np.full(4, 0.25),
    losses.min_norm_weights: np.full(4, 0.25),
  }
  for function, weights in expected.items():
    np.testing.assert_allclose(function(gram), weights, rtol=1e-6)
  a = losses.pcgrad_weights(gram, jax.random.key(0))
  np.testing.assert_allclose(a, np.ones(4))


def pcgrad(vectors, orders):
  """Algorithm 1 of arXiv 2001.06782, on vectors."""
  total = 0
  for i, order in enumerate(orders):
    g = vectors[i].copy()
    for j in order:
      inner = g @ vectors[j]
      if inner < 0:
        g -= inner / (vectors[j] @ vectors[j]) * vectors[j]
    total = total + g
  return total


def test_pcgrad_in_every_order():
  rng = np.random.default_rng(0)
  g = rng.standard_normal((3, 2))
  assert ((g @ g.T < 0).sum(1) == 2).any()
  choices = [
    itertools.permutations([j for j in range(3) if j != i]) for i in range(3)
  ]
  expected = np.array([pcgrad(g, o) for o in itertools.product(*choices)])
  keys = jax.random.split(jax.random.key(0), 100)
  gram = np.float32(g @ g.T)
  a = jax.vmap(losses.pcgrad_weights, in_axes=(None, 0))(gram, keys)
  u = np.asarray(a @ g)
  distance = np.linalg.norm(u[:, None] - expected, axis=-1)
  assert distance.min(1).max() < 1e-5  # each is one of them,
  assert distance.min(0).max() < 1e-5  # and each of them occurs
  assert len(np.unique(expected.round(5), axis=0)) > 1
  agree = jnp.abs(gram).at[0].set(0).at[:, 0].set(0)  # and a zero gradient
  np.testing.assert_allclose(losses.pcgrad_weights(agree, keys[0]), np.ones(3))


def test_broken_gradients_break_all_weights():
  gram = np.eye(3, dtype=np.float32)
  functions = [
    losses.inverse_norm_weights,
    losses.min_norm_weights,
    losses.primary_secondary_weights,
    losses.upgrad_weights,
    lambda gram: losses.pcgrad_weights(gram, jax.random.key(0)),
    losses.gradient_cosines,
  ]
  for broken in (np.nan, np.inf):
    for i in (0, 2):  # one entry is enough, and the solver ends
      gram[i, i] = broken
      for function in functions:
        assert jnp.isnan(function(gram)).all()
      gram[i, i] = 1


def test_cosines_and_norms():
  g = np.array([[3.0, 0.0], [0.0, 0.0], [-1.0, 1.0]])
  gram = np.float32(g @ g.T)
  c = -np.sqrt(0.5)
  expected = [[1, 0, c], [0, 0, 0], [c, 0, 1]]
  np.testing.assert_allclose(losses.gradient_cosines(gram), expected, rtol=1e-6)
  weights = losses.inverse_norm_weights(gram)
  np.testing.assert_allclose(weights, [1 / 3, 0, np.sqrt(0.5)], rtol=1e-6)


def test_mistakes():
  with pytest.raises(
    ValueError, match=r"gram has shape \(2, 3\), not \[n, n\]"
  ):
    losses.upgrad_weights(jnp.ones((2, 3)))
  with pytest.raises(ValueError, match=r"gram has shape \(3,\), not \[n, n\]"):
    losses.primary_secondary_weights(jnp.ones(3))
  with pytest.raises(ValueError, match="gram must be floating point"):
    losses.min_norm_weights(jnp.ones((2, 2), int))
  with pytest.raises(ValueError, match=r"scales has shape \(3,\), not \[2\]"):
    losses.min_norm_weights(jnp.eye(2), scales=jnp.ones(3))
  with pytest.raises(ValueError, match="scales has -1.0, which is outside"):
    losses.min_norm_weights(jnp.eye(2), scales=-jnp.ones(2))


def test_large_gram_matrices_are_no_limit():
  gram = jnp.array([[2.0, -1.0], [-1.0, 2.0]])
  for scale in (1e-30, 1.0, 1e38):
    weights = losses.min_norm_weights(gram * scale)
    np.testing.assert_allclose(weights, [0.5, 0.5], rtol=1e-6)
