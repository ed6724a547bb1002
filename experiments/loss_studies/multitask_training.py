# SPDX-License-Identifier: Apache-2.0
"""A training on two losses as one compiled loop, and what happened on its way.

The network's last layer may be split into a head for each task. Then a rule
weighs the gradients on the trunk alone, and each head follows its own loss with
weight 1, as in `losses.shared_value_and_direction`: heads oppose no one, and
under the weight of the trunk the head of a task that is not in the way (weight
0) would never learn what its gradient is made of.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from experiments.loss_studies import multitask_methods
from experiments.loss_studies import toy_task_directions
import losses

# Stands for the loss of a training that diverged, which JSON has no number for.
DIVERGED = 1e3


class History(NamedTuple):
  """Means over each window of the training, [num_windows, ...]."""

  losses: jax.Array  # [2] of the batches
  conflict: jax.Array  # [] share of steps whose gradients oppose each other
  # [2] share of steps that make the task worse, to first order.
  opposed: jax.Array


def finite(loss: jax.Array) -> jax.Array:
  """The loss, at most DIVERGED."""
  return jnp.minimum(jnp.nan_to_num(loss, nan=DIVERGED), DIVERGED)


def fit(
  losses_fn: Callable,
  params: dict,
  inputs,
  *,
  head: str | None,
  weights_fn: Callable[[multitask_methods.Step], jax.Array],
  transform: optax.GradientTransformation,
  lr,
  num_windows: int,
  evaluate: Callable,
):
  """The parameters after one step for each of the inputs.

  The learning rate falls to 0 as a half cosine.

  Args:
    losses_fn: losses_fn(params, input) -> [2].
    params: parameters at the start.
    inputs: a pytree whose arrays have the steps as first axis.
    head: the layer of `params` that is split into heads; None if all is shared.
    weights_fn: the rule.
    transform: of directions to steps, before the learning rate.
    lr: learning rate at the start; may be traced.
    num_windows: into so many parts the training is cut, to report of each.
    evaluate: of the parameters at the end of each window, -> [].

  Returns:
    Parameters, History, what was evaluated [num_windows].

  Raises:
    ValueError: if the steps cannot be cut into so many windows.
  """
  num_steps = len(jax.tree.leaves(inputs)[0])
  if num_steps % num_windows:
    raise ValueError(
      f"train.num_steps={num_steps} is not divisible by {num_windows}, the "
      "windows in which a training is reported; make it a multiple, such as "
      f"{-(-num_steps // num_windows) * num_windows}"
    )
  initial = losses_fn(params, jax.tree.map(lambda a: a[0], inputs))
  task_grads_fn = losses.value_and_task_grads(losses_fn)

  def step(carry, at_step):
    params, state = carry
    each, progress = at_step
    values, grads = task_grads_fn(params, each)
    trunk = {name: g for name, g in grads.items() if name != head}
    direction, info = losses.direction_and_info(
      trunk,
      lambda gram: weights_fn(multitask_methods.Step(values, initial, gram)),
    )
    if head is not None:
      direction[head] = losses.combine(grads[head], jnp.ones(2))
    updates, state = transform.update(direction, state, params)
    rate = lr * (1 + jnp.cos(jnp.pi * progress)) / 2
    params = jax.tree.map(lambda p, u: p - rate * u, params, updates)
    # <u, g_i> / |g_i| against |u|.
    along = info.cosines @ (info.weights * info.norms)
    opposed = along < -toy_task_directions.TOLERANCE * info.direction_norm
    conflict = info.num_conflicts > 0
    return (params, state), History(finite(values), conflict, opposed)

  def window(carry, at_steps):
    carry, history = jax.lax.scan(step, carry, at_steps)
    history = jax.tree.map(lambda a: jnp.mean(a, axis=0), history)
    return carry, (history, evaluate(carry[0]))

  progress = jnp.arange(num_steps) / num_steps
  windows = jax.tree.map(
    lambda a: a.reshape(num_windows, -1, *a.shape[1:]), (inputs, progress)
  )
  start = (params, transform.init(params))
  (params, _), (history, evaluated) = jax.lax.scan(window, start, windows)
  return params, history, evaluated
