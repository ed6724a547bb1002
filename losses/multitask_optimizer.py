# SPDX-License-Identifier: Apache-2.0
"""Directions for several tasks as the first link of an optimizer.

Notation as in `multitask`: an update is given the task gradients, with leaves
[n, ...], and returns one direction, with leaves [...], for the links after it.
Parameters, and so the states of all links, are not stacked.
"""

from collections.abc import Callable
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from losses import checks
from losses import multitask


class CombineTaskGradientsState(NamedTuple):
  """The state of `combine_task_gradients`."""

  count: chex.Array  # [] updates so far, int32
  info: multitask.DirectionInfo  # of the newest update, zeros before it


def combine_task_gradients(
  weights_fn: Callable[..., jax.Array],
  num_tasks: int,
  *,
  rng: chex.PRNGKey | None = None,
  axis_name: str | tuple[str, ...] | None = None,
) -> optax.GradientTransformation:
  """Stacked task gradients to one direction, to chain before an optimizer.

  Its state holds the newest DirectionInfo, to log. It comes first in a chain:
  after Adam the directions would promise nothing.

  Args:
    weights_fn: Gram matrix [n, n] -> weights [n]; (Gram matrix, key) -> weights
      if there is `rng`, as `pcgrad_weights`.
    num_tasks: n.
    rng: key; each update has its own, folded with their count.
    axis_name: as in `gram_matrix`.

  Returns:
    A transformation with init of parameters [...] and update of gradients
    [n, ...].

  Raises:
    ValueError: from update, if the gradients are not of `num_tasks` tasks.

  >>> optimizer = optax.chain(
  ...     losses.combine_task_gradients(losses.primary_secondary_weights, 2),
  ...     optax.sgd(1.0))
  >>> state = optimizer.init(jnp.zeros(2))
  >>> task_grads = jnp.array([[1.0, 0.0], [-1.0, 1.0]])
  >>> updates, state = optimizer.update(task_grads, state)
  >>> print(updates, state[0].info.weights)
  [-0.5 -0.5] [1.  0.5]
  """

  def init_fn(params):
    del params
    zeros = jnp.zeros(num_tasks)
    info = multitask.DirectionInfo(
      weights=zeros,
      norms=zeros,
      cosines=jnp.zeros((num_tasks, num_tasks)),
      num_conflicts=jnp.zeros([], jnp.int32),
      direction_norm=jnp.zeros([]),
    )
    return CombineTaskGradientsState(jnp.zeros([], jnp.int32), info)

  def update_fn(updates, state, params=None):
    for leaf in multitask.task_leaves(updates):
      meaning = f"[{num_tasks}, ...] for num_tasks={num_tasks}"
      checks.shape("gradients", leaf, (num_tasks, ...), meaning)
    if params is not None:  # Gradients that are not stacked would broadcast.
      jax.tree.map(
        lambda g, p: checks.shape(
          "gradients",
          g,
          (num_tasks, *jnp.shape(p)),
          f"[{num_tasks}, ...] of a parameter {jnp.shape(p)}; stack the tasks'",
        ),
        updates,
        params,
      )

    def weights_of(gram):
      if rng is None:
        return weights_fn(gram)
      return weights_fn(gram, jax.random.fold_in(rng, state.count))

    direction, info = multitask.direction_and_info(
      updates, weights_of, axis_name=axis_name
    )
    # float64 gradients do not change the types of the state.
    info = jax.tree.map(lambda a, b: a.astype(b.dtype), info, state.info)
    count = optax.safe_increment(state.count)
    return direction, CombineTaskGradientsState(count, info)

  return optax.GradientTransformation(init_fn, update_fn)
