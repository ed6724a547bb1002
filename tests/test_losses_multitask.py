# SPDX-License-Identifier: Apache-2.0
"""Task gradients as pytrees, against one jax.grad for each loss and NumPy."""

import functools
import json
import os
import pathlib
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import losses

N = 3
X = np.float32(np.random.default_rng(0).standard_normal((16, 8)))


def make_params():
  rng = np.random.default_rng(1)
  shapes = {"w": (8, 4), "b": (4,), "scale": ()}
  return {k: np.float32(rng.standard_normal(s)) for k, s in shapes.items()}


def task_losses(params, x):
  """Three losses that conflict, of very different sizes."""
  h = params["scale"] * jnp.tanh(x @ params["w"] + params["b"][None])
  return jnp.stack(
    [
      jnp.mean((h - 1) ** 2),
      1e-2 * jnp.mean((h + 1) ** 2),
      30 * jnp.mean(jnp.sin(3 * h)),
    ]
  )


@functools.cache
def task_grads():
  """Leaves [3, ...], by three backward passes."""
  grads = [
    jax.grad(lambda p, i=i: task_losses(p, X)[i])(make_params())
    for i in range(N)
  ]
  return jax.tree.map(lambda *leaves: np.stack(leaves), *grads)


def flat(tree, n=N):
  """[n, all entries] in float64."""
  leaves = [np.float64(leaf).reshape(n, -1) for leaf in jax.tree.leaves(tree)]
  return np.concatenate(leaves, axis=1)


def test_losses_and_gradient_of_each():
  fn = jax.jit(losses.value_and_task_grads(task_losses))
  values, grads = fn(make_params(), X)
  chex.assert_trees_all_close(values, task_losses(make_params(), X), rtol=1e-6)
  chex.assert_trees_all_close(grads, task_grads(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gram_matrix_and_sum(dtype):
  """Types may differ by leaf; inner products are of what the leaves hold."""
  grads = task_grads() | {"w": jnp.asarray(task_grads()["w"], dtype)}
  g = flat(grads)
  gram = losses.gram_matrix(grads)
  assert gram.dtype == jnp.float32
  size = np.linalg.norm(g, axis=1)
  np.testing.assert_allclose(
    gram / np.outer(size, size), g @ g.T / np.outer(size, size), atol=1e-6
  )
  weights = np.float32([1.0, 0.3, 2.0])
  u = losses.combine(grads, weights)
  chex.assert_trees_all_equal_shapes_and_dtypes(
    u, jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), grads)
  )
  expected = weights @ g
  rounding = 1e-6 if dtype == "float32" else 2**-8
  np.testing.assert_allclose(flat(u, 1)[0], expected, rtol=rounding, atol=1e-5)


def test_direction_opposes_no_task():
  fn = losses.value_and_direction(task_losses, losses.primary_secondary_weights)
  params = make_params()
  values, u, info = jax.jit(fn)(params, X)
  chex.assert_trees_all_equal_shapes(u, params)
  g, a = flat(task_grads()), np.float64(info.weights)
  assert a[0] == 1 and a[1:].any()
  np.testing.assert_allclose(flat(u, 1)[0], a @ g, rtol=1e-3, atol=1e-5)
  size = np.linalg.norm(g, axis=1)
  assert (g @ flat(u, 1)[0] >= -1e-5 * size * size[0]).all()
  # What is logged.
  np.testing.assert_allclose(info.norms, size, rtol=1e-5)
  cosines = g @ g.T / np.outer(size, size)
  np.testing.assert_allclose(info.cosines, cosines, atol=1e-5)
  assert info.num_conflicts == (np.triu(cosines) < 0).sum() > 0
  length = np.linalg.norm(flat(u, 1))
  np.testing.assert_allclose(info.direction_norm, length, rtol=1e-5)
  # Weights of 1 are the gradient of the sum.
  _, u, _ = losses.value_and_direction(
    task_losses, lambda gram: jnp.ones(len(gram))
  )(params, X)
  expected = jax.grad(lambda p: task_losses(p, X).sum())(params)
  chex.assert_trees_all_close(u, expected, rtol=1e-4, atol=1e-5)


def test_two_opposed_tasks_do_not_move():
  grads = {"w": np.float32([[1.0, -2.0], [-3.0, 6.0]])}
  u, info = losses.direction_and_info(grads, losses.primary_secondary_weights)
  np.testing.assert_allclose(u["w"], [0, 0], atol=1e-6)
  assert info.direction_norm < 1e-6
  assert info.num_conflicts == 1


def test_transformation_before_adam():
  """Init of parameters, updates of stacks; the state is what to log."""
  params, grads = make_params(), task_grads()
  optimizer = optax.chain(
    losses.combine_task_gradients(losses.min_norm_weights, N), optax.adam(0.1)
  )
  state = optimizer.init(params)
  plain = optax.adam(0.1)
  plain_state = plain.init(params)
  update = jax.jit(optimizer.update)
  u, expected_info = losses.direction_and_info(grads, losses.min_norm_weights)
  for step in range(2):
    updates, state = update(grads, state, params)
    expected, plain_state = plain.update(u, plain_state, params)
    chex.assert_trees_all_close(updates, expected, rtol=1e-3)
    chex.assert_trees_all_close(state[0].info, expected_info, rtol=1e-4)
    assert state[0].count == step + 1
  chex.assert_trees_all_equal_shapes_and_dtypes(
    jax.tree.map(jnp.asarray, state), optimizer.init(params)
  )


def test_transformation_with_keys():
  """Each update of PCGrad has its own key, and the first is not the seed."""
  rng = jax.random.key(3)
  transform = losses.combine_task_gradients(losses.pcgrad_weights, N, rng=rng)
  state, update = transform.init(make_params()), jax.jit(transform.update)
  # In the plane, where the order matters.
  g = np.random.default_rng(6).standard_normal((3, 2)).astype(np.float32)
  seen = []
  for step in range(8):
    _, state = update(g, state)
    key = jax.random.fold_in(rng, step)
    expected = losses.pcgrad_weights(g @ g.T, key)
    chex.assert_trees_all_close(state.info.weights, expected, rtol=1e-5)
    seen.append(tuple(np.float32(state.info.weights).round(3)))
  assert len(set(seen)) > 1


def run_sharded():
  """With parameters over 4 devices: by the compiler, and in shard_map."""
  mesh = jax.make_mesh((4,), ("fsdp",), (jax.sharding.AxisType.Auto,))
  spec = jax.sharding.PartitionSpec
  split = {"w": spec("fsdp"), "b": spec("fsdp"), "scale": spec()}

  def place(tree, specs):
    return jax.tree.map(
      lambda leaf, s: jax.device_put(leaf, jax.NamedSharding(mesh, s)),
      tree,
      specs,
    )

  step_fn = jax.jit(
    losses.value_and_direction(task_losses, losses.primary_secondary_weights)
  )
  values, u, info = step_fn(place(make_params(), split), X)

  # In shard_map: all leaves split, [n, 8 / 4, 4] of w on each device.
  grads = {"w": task_grads()["w"], "b": task_grads()["b"]}
  by_row = {"w": spec(None, "fsdp"), "b": spec(None, "fsdp")}

  def combined(grads):
    transform = losses.combine_task_gradients(
      losses.primary_secondary_weights, N, axis_name="fsdp"
    )
    u, state = transform.update(grads, transform.init(grads))
    return losses.gram_matrix(grads, axis_name="fsdp"), u, state.info

  in_map = jax.jit(
    jax.shard_map(
      combined,
      mesh=mesh,
      in_specs=(by_row,),
      out_specs=(spec(), {"w": spec("fsdp"), "b": spec("fsdp")}, spec()),
    )
  )(place(grads, by_row))
  results = {"jit": (values, u, info), "shard_map": in_map}
  leaves, _ = jax.tree.flatten(results)
  return {
    "devices": jax.device_count(),
    "sharded": not u["w"].sharding.is_fully_replicated,
    "leaves": [np.asarray(leaf).tolist() for leaf in leaves],
  }


def test_sharded_parameters_give_the_same_direction():
  program = (
    "import json, test_losses_multitask as test;"
    "print(json.dumps(test.run_sharded()))"
  )
  here = pathlib.Path(__file__).parent
  flags = os.environ["XLA_FLAGS"]
  flags += " --xla_force_host_platform_device_count=4"
  with subprocess.Popen(
    [sys.executable, "-c", program],
    stdout=subprocess.PIPE,
    text=True,
    env=os.environ
    | {"XLA_FLAGS": flags, "PYTHONPATH": f"{here}:{here.parent}"},
  ) as child:
    step_fn = jax.jit(
      losses.value_and_direction(task_losses, losses.primary_secondary_weights)
    )
    one = step_fn(make_params(), X)
    grads = {"w": task_grads()["w"], "b": task_grads()["b"]}
    gram = losses.gram_matrix(grads)
    u, info = losses.direction_and_info(grads, losses.primary_secondary_weights)
    expected = {"jit": one, "shard_map": (gram, u, info)}
    four = json.loads(child.communicate(timeout=120)[0])
  assert four["devices"] == 4 and four["sharded"]
  for a, b in zip(four["leaves"], jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_mistakes():
  with pytest.raises(ValueError, match="task_grads has no array"):
    losses.gram_matrix({})
  with pytest.raises(
    ValueError, match=r"shape \(2, 3\), not \[3, ...\] as the"
  ):
    losses.gram_matrix([jnp.ones((3, 1)), jnp.ones((2, 3))])
  with pytest.raises(ValueError, match="task_grads must be floating point"):
    losses.gram_matrix(jnp.ones((3, 1), int))
  with pytest.raises(ValueError, match=r"weights has shape \(2,\), not \[3\]"):
    losses.combine(jnp.ones((3, 1)), jnp.ones(2))
  with pytest.raises(ValueError, match=r"losses has shape \(\), not \[n\]"):
    losses.value_and_task_grads(jnp.sum)(jnp.ones(2))
  transform = losses.combine_task_gradients(losses.min_norm_weights, 4)
  with pytest.raises(
    ValueError, match=r"gradients has shape \(3, 1\), not \[4"
  ):
    transform.update(jnp.ones((3, 1)), transform.init(jnp.ones(1)))


def test_a_tuple_of_losses_and_gradients_of_one_task_are_refused():
  step = losses.value_and_direction(
    lambda w: (w[0], w[1]), losses.min_norm_weights
  )
  with pytest.raises(ValueError, match="returns a tuple, not one array"):
    step(jnp.ones(2))
  with pytest.raises(ValueError, match="task_grads.*b.*must be floating"):
    losses.gram_matrix({"a": jnp.ones((2, 3)), "b": jnp.ones((2, 3), int)})
  optimizer = losses.combine_task_gradients(losses.min_norm_weights, 2)
  params = jnp.ones((2, 3))
  with pytest.raises(ValueError, match=r"gradients has shape \(2, 3\).*stack"):
    optimizer.update(params, optimizer.init(params), params)
