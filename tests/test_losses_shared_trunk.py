# SPDX-License-Identifier: Apache-2.0
"""Directions at the shared activations: the formula, and what they cost."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import losses

# A residual perceptron as the trunk, a linear classifier as each head.
DEPTH, BATCH, WIDTH, HIDDEN, CLASSES, TASKS = 12, 512, 128, 512, 10, 4


def trunk_fn(params, x, labels):
  del labels
  for w_in, w_out in params:
    x = x + jnp.tanh(x @ w_in) @ w_out
  return x


def head_fn(task):
  def loss(params, h, x, labels):
    del x
    nll = optax.softmax_cross_entropy_with_integer_labels
    return nll(h @ params, labels[task]).mean()

  return loss


HEADS = [head_fn(i) for i in range(TASKS)]


def all_losses(params, x, labels):
  h = trunk_fn(params[0], x, labels)
  return jnp.stack(
    [f(own, h, x, labels) for f, own in zip(HEADS, params[1], strict=True)]
  )


def make(depth, batch, width, hidden):
  """Parameters of trunk and heads, inputs, labels [TASKS, batch]."""
  rng = np.random.default_rng(0)

  def normal(*shape):
    return np.float32(rng.standard_normal(shape) / shape[0] ** 0.5)

  trunk = [(normal(width, hidden), normal(hidden, width)) for _ in range(depth)]
  heads = [normal(width, CLASSES) for _ in range(TASKS)]
  labels = rng.integers(0, CLASSES, (TASKS, batch))
  return trunk, heads, normal(batch, width), labels


def test_direction_is_pulled_back_once():
  """Against the formula, its parts by one jax.grad for each loss."""
  trunk, heads, x, labels = make(2, 6, 5, 7)
  step_fn = losses.shared_value_and_direction(
    trunk_fn, HEADS, losses.primary_secondary_weights
  )
  values, (u, head_grads), info = jax.jit(step_fn)(trunk, heads, x, labels)
  expected = all_losses((trunk, heads), x, labels)
  np.testing.assert_allclose(values, expected, rtol=1e-6)
  # Heads: their own loss, also where its weight on the trunk is 0.
  grad = jax.grad(lambda p: all_losses(p, x, labels).sum())((trunk, heads))
  chex.assert_trees_all_close(head_grads, grad[1], rtol=1e-4, atol=1e-6)

  h = trunk_fn(trunk, x, labels)
  g = np.float64(
    [
      jax.grad(f, argnums=1)(own, h, x, labels)
      for f, own in zip(HEADS, heads, strict=True)
    ]
  ).reshape(TASKS, -1)
  gram = np.float32(g @ g.T)
  weights = losses.primary_secondary_weights(gram)
  assert (weights == 0).any() and (weights[1:] > 0).any()
  np.testing.assert_allclose(info.weights, weights, rtol=1e-3)
  np.testing.assert_allclose(info.norms, np.linalg.norm(g, axis=1), rtol=1e-5)
  length = np.linalg.norm(weights @ g)
  np.testing.assert_allclose(info.direction_norm, length, rtol=1e-4)
  weighted = jax.grad(lambda t: weights @ all_losses((t, heads), x, labels))(
    trunk
  )
  chex.assert_trees_all_close(u, weighted, rtol=1e-3, atol=1e-5)


def test_exact_where_the_trunk_is_the_parameters():
  """J = 1: the direction of the full gradients; h is a tree, in bfloat16."""
  rng = np.random.default_rng(2)
  params = {k: np.float32(rng.uniform(-0.5, 0.5, 4)) for k in "ab"}
  params["b"] = jnp.bfloat16(params["b"])
  signs = np.float32([[1, 1, 1, 1], [-1, -1, -1, 1], [1, -1, -1, -1]])

  def loss(sign, params):
    difference = params["a"] - sign
    return jnp.sum(difference**2) + jnp.sum(params["b"] * sign[0])

  heads = [lambda v, h, s=s: v * loss(s, h) for s in signs]
  shared = losses.shared_value_and_direction(
    lambda p: p, heads, losses.upgrad_weights
  )
  values, (u, _), info = shared(params, (1.0, 1.0, 1.0))
  full = losses.value_and_direction(
    lambda p: jnp.stack([loss(s, p) for s in signs]), losses.upgrad_weights
  )
  chex.assert_trees_all_close((values, u, info), full(params), rtol=1e-5)
  assert u["b"].dtype == jnp.bfloat16
  assert info.num_conflicts > 0


def test_costs_no_more_memory_and_one_backward_pass():
  """4 tasks on 12 layers: at most 15 % more memory than summed losses.

  As compiled for this machine: temporary buffers (activations and gradients),
  floating-point operations. The n gradients at h are gone before the backward
  pass needs its own temporaries. Stacked gradients would cost 8 h instead, and
  gradients on the parameters 3 times the operations.
  """
  args = jax.eval_shape(lambda: make(DEPTH, BATCH, WIDTH, HIDDEN))
  trunk, heads, *data = args

  def summed(trunk, heads, *data):
    values = all_losses((trunk, heads), *data)
    return values.sum(), values

  fns = {
    "summed": jax.value_and_grad(summed, argnums=(0, 1), has_aux=True),
    "shared": losses.shared_value_and_direction(
      trunk_fn, HEADS, losses.primary_secondary_weights
    ),
  }
  memory, flops = {}, {}
  for name, fn in fns.items():
    compiled = jax.jit(fn).lower(trunk, heads, *data).compile()
    memory[name] = compiled.memory_analysis().temp_size_in_bytes
    flops[name] = compiled.cost_analysis()["flops"]
  # More than the inputs and hidden units of all layers, in float32.
  assert memory["summed"] > 4 * DEPTH * BATCH * HIDDEN
  # 3 products of matrices for each of the trunk's, but the input's gradient.
  product = 2 * BATCH * WIDTH * HIDDEN
  assert flops["summed"] > (3 * 2 * DEPTH - 1) * product
  assert memory["shared"] <= 1.15 * memory["summed"]
  assert flops["shared"] <= 1.2 * flops["summed"]


def test_mistakes():
  heads = [lambda v, h: v * h.sum()] * 2
  ones = losses.shared_value_and_direction(
    lambda p: p, heads, lambda gram: jnp.ones(3)
  )
  with pytest.raises(ValueError, match="head_params has 1 entries for 2 heads"):
    ones(jnp.ones(2), [1.0])
  with pytest.raises(ValueError, match=r"weights has shape \(3,\), not \[n\]"):
    ones(jnp.ones(2), [1.0, 1.0])


@pytest.mark.parametrize(
  "weights_fn",
  [
    losses.primary_secondary_weights,
    pytest.param(losses.inverse_norm_weights, marks=pytest.mark.slow),
  ],
)
def test_parts_of_a_batch_find_the_direction_of_the_batch(weights_fn):
  trunk, heads, x, labels = make(2, 6, 5, 7)
  step = functools.partial(
    losses.shared_value_and_direction, trunk_fn, HEADS, weights_fn
  )
  whole = jax.jit(step())(trunk, heads, x, labels)
  parts = jax.vmap(
    lambda x, y: step(axis_name="data")(trunk, heads, x, y), axis_name="data"
  )(x.reshape(2, 3, 5), labels.reshape(TASKS, 2, 3).swapaxes(0, 1))
  for part in range(2):  # What is logged is the same everywhere.
    chex.assert_trees_all_close(
      jax.tree.map(lambda a, i=part: a[i], parts[2]), whole[2], atol=1e-5
    )
  average = jax.tree.map(lambda a: a.mean(0), parts[:2])
  chex.assert_trees_all_close(average, whole[:2], atol=1e-5)


@pytest.mark.parametrize(
  "heads, message",
  [({"a": 1.0}, "head_params is a dict"), ([1.0], "1 entries for 4 heads")],
)
def test_wrong_heads_are_named(heads, message):
  step = losses.shared_value_and_direction(
    trunk_fn, HEADS, losses.min_norm_weights
  )
  with pytest.raises(ValueError, match=message):
    step([], heads, np.ones((2, 3), np.float32), None)


def test_a_loss_for_each_example_is_refused():
  step = losses.shared_value_and_direction(
    lambda w, x: w * x, [lambda v, h, x: v * h], losses.min_norm_weights
  )
  with pytest.raises(ValueError, match=r"losses\[0\] has shape \(2,\)"):
    step(1.0, [1.0], jnp.ones(2))
