# SPDX-License-Identifier: Apache-2.0
"""Gradients of several losses, as pytrees: their Gram matrix and their sum.

Notation: task gradients g, a pytree with leaves [n, ...], one slice for each of
n tasks; parameters have leaves [...]. A weights function maps the Gram matrix
[n, n] to coefficients a [n], such as `primary_secondary_weights`; then

  u = sum_i a_i g_i                                                       (1)

is a direction to give an optimizer in place of a gradient.

  G_ij = sum over leaves of <g_i, g_j>, float32, in the leaf's own layout: no
  reshape, no gather; under jit, parameters sharded over a mesh cost one
  all-reduce of n^2 numbers. Inside shard_map or pmap with leaves that are
  shards of parameters, give `axis_name`.

Memory: n times the gradients. With one trunk under all tasks,
`shared_value_and_direction` needs n times the trunk's output only.

With data parallelism inside shard_map, the directions of the batch's parts do
not average to that of the batch: average the gradients of
`value_and_task_grads` over the devices, then call `direction_and_info`. Under
jit alone nothing is needed.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from losses import checks
from losses import task_directions


class DirectionInfo(NamedTuple):
  """What to log of a direction."""

  weights: chex.Array  # [n] a
  norms: chex.Array  # [n] |g_i|
  cosines: chex.Array  # [n, n] of the gradients; 0 for a zero gradient
  num_conflicts: chex.Array  # [] pairs of tasks with a negative cosine
  direction_norm: chex.Array  # [] |u|; 0 where nothing moves


def gram_matrix(
  task_grads: chex.ArrayTree, *, axis_name: str | tuple[str, ...] | None = None
) -> jax.Array:
  """G_ij = <g_i, g_j> over all leaves, in float32 (float64 for float64).

  Args:
    task_grads: leaves [n, ...].
    axis_name: of mapped axes over which every leaf is split into shards; leaves
      that are whole on every device would be counted once for each.

  Returns:
    [n, n] symmetric, positive semi-definite up to rounding.

  Raises:
    ValueError: if there is no leaf, a leaf is not floating point, or they
      differ in n.

  >>> task_grads = {"w": jnp.array([[1.0, 2.0], [3.0, 4.0]])}
  >>> print(losses.gram_matrix(task_grads))
  [[ 5. 11.]
   [11. 25.]]
  """
  leaves = task_leaves(task_grads)

  def inner_products(leaf):
    axes = tuple(range(1, leaf.ndim))
    return jnp.tensordot(
      leaf,
      leaf,
      (axes, axes),
      precision=jax.lax.Precision.HIGHEST,
      preferred_element_type=jnp.promote_types(leaf.dtype, jnp.float32),
    )

  gram = sum(inner_products(leaf) for leaf in leaves)
  # Before any solve: a minimum of a sum is not the sum of minima.
  return gram if axis_name is None else jax.lax.psum(gram, axis_name)


def combine(task_grads: chex.ArrayTree, weights: chex.Array) -> chex.ArrayTree:
  """u = sum_i a_i g_i, equation 1, summed in float32.

  Args:
    task_grads: leaves [n, ...].
    weights: [n] a.

  Returns:
    Leaves [...] of the leaves' types.

  Raises:
    ValueError: if there is no leaf, a leaf is not floating point, or `weights`
      is not [n].

  >>> task_grads = {"w": jnp.array([[1.0, 2.0], [3.0, 4.0]])}
  >>> print(losses.combine(task_grads, jnp.array([1.0, 0.5]))["w"])
  [2.5 4. ]
  """
  n = len(task_leaves(task_grads)[0])
  weights = checks.as_float("weights", weights)
  checks.shape("weights", weights, (n,), f"[{n}], one for each task")

  def weighted_sum(leaf):
    wide = jnp.promote_types(leaf.dtype, jnp.float32)
    u = jnp.tensordot(
      weights.astype(wide),
      leaf.astype(wide),
      1,
      precision=jax.lax.Precision.HIGHEST,
    )
    return u.astype(leaf.dtype)

  return jax.tree.map(weighted_sum, task_grads)


def value_and_task_grads(losses_fn: Callable) -> Callable:
  """The losses and the gradient of each, from one forward pass.

  n backward passes at once, by vmap over the vjp.

  Args:
    losses_fn: (params, *args) -> losses [n].

  Returns:
    (params, *args) -> (losses [n], task gradients with leaves [n, ...]).

  Raises:
    ValueError: if the losses are not floating point or not [n].

  >>> losses_fn = lambda w: jnp.stack([w[0] ** 2, w[0] * w[1]])
  >>> _, task_grads = losses.value_and_task_grads(losses_fn)(jnp.ones(2))
  >>> print(task_grads)
  [[2. 0.]
   [1. 1.]]
  """

  def fn(params, *args):
    losses, pull_back = jax.vjp(lambda p: losses_fn(p, *args), params)
    if not isinstance(losses, jax.Array):
      raise ValueError(
        f"losses_fn returns a {type(losses).__name__}, not one array [n]; use "
        "jnp.stack"
      )
    checks.floating("losses", losses)
    checks.shape("losses", losses, (None,), "[n], one for each task")
    one_hot = jnp.eye(losses.size, dtype=losses.dtype)
    (task_grads,) = jax.vmap(pull_back)(one_hot)
    return losses, task_grads

  return fn


def value_and_direction(
  losses_fn: Callable, weights_fn: Callable[[jax.Array], jax.Array]
) -> Callable:
  """The losses and one direction for all, in place of a gradient.

  Args:
    losses_fn: (params, *args) -> losses [n].
    weights_fn: Gram matrix [n, n] -> weights [n]. `pcgrad_weights` needs a new
      key at each step: see `combine_task_gradients`.

  Returns:
    (params, *args) -> (losses [n], direction with the leaves of params,
    DirectionInfo).

  Raises:
    ValueError: if the losses are not floating point or not [n], or the weights
      are not [n].

  >>> losses_fn = lambda w: jnp.stack([w[0], w[1] - w[0]])
  >>> step_fn = losses.value_and_direction(
  ...     losses_fn, losses.primary_secondary_weights)
  >>> _, direction, info = step_fn(jnp.ones(2))
  >>> print(direction, info.weights)
  [0.5 0.5] [1.  0.5]
  """
  task_grads_fn = value_and_task_grads(losses_fn)

  def fn(params, *args):
    losses, task_grads = task_grads_fn(params, *args)
    direction, info = direction_and_info(task_grads, weights_fn)
    return losses, direction, info

  return fn


def direction_and_info(
  task_grads: chex.ArrayTree,
  weights_fn: Callable[[jax.Array], jax.Array],
  *,
  axis_name: str | tuple[str, ...] | None = None,
) -> tuple[chex.ArrayTree, DirectionInfo]:
  """u of equation 1 with weights from the Gram matrix, and what to log.

  Args:
    task_grads: leaves [n, ...].
    weights_fn: Gram matrix [n, n] -> weights [n].
    axis_name: as in `gram_matrix`.

  Returns:
    Leaves [...], DirectionInfo.

  Raises:
    ValueError: as `gram_matrix` and `combine`.

  >>> task_grads = jnp.array([[1.0, 0.0], [-1.0, 1.0]])
  >>> u, _ = losses.direction_and_info(task_grads, losses.min_norm_weights)
  >>> print(u)
  [0.2 0.4]
  """
  gram = gram_matrix(task_grads, axis_name=axis_name)
  weights = weights_fn(gram)
  direction = combine(task_grads, weights)
  # Of u itself: a'Ga rounds to 1e-7 max |a_i g_i|^2 where u is 0.
  alone = jax.tree.map(lambda leaf: leaf[None], direction)
  square = gram_matrix(alone, axis_name=axis_name)[0, 0]
  return direction, info_of(gram, weights, square)


def info_of(gram, weights, direction_square) -> DirectionInfo:
  """DirectionInfo from the Gram matrix, the weights and |u|^2."""
  cosines = task_directions.gradient_cosines(gram)
  return DirectionInfo(
    weights=weights,
    norms=jnp.sqrt(jnp.diagonal(gram)),
    cosines=cosines,
    num_conflicts=jnp.sum(jnp.triu(cosines < 0, 1), dtype=jnp.int32),
    direction_norm=jnp.sqrt(direction_square),
  )


def task_leaves(task_grads):
  """The leaves; ValueError unless all are floating and [n, ...] of one n."""
  leaves = []
  for path, leaf in jax.tree.leaves_with_path(task_grads):
    name = "task_grads" + jax.tree_util.keystr(path)
    if getattr(leaf, "dtype", None) == jax.dtypes.float0:
      raise ValueError(
        f"{name} is of an integer; leave it out of the parameters"
      )
    leaf = checks.floating(name, leaf)
    checks.rank_at_least(name, leaf, 1, "[n, ...]")
    n = leaves[0].shape[0] if leaves else leaf.shape[0]
    checks.shape(name, leaf, (n, ...), f"[{n}, ...] as the first leaf")
    leaves.append(leaf)
  if not leaves:
    raise ValueError("task_grads has no array")
  return leaves
