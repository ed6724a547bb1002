# SPDX-License-Identifier: Apache-2.0
"""A whole training as one compiled loop, and many of them at once."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax


def fit(
  loss_fn: Callable,
  params,
  inputs,
  *,
  transform: optax.GradientTransformation,
  lr,
):
  """The parameters after one step for each of the inputs.

  The learning rate falls to 0 as a half cosine.

  Args:
    loss_fn: loss_fn(params, input, progress) -> [], progress in [0, 1).
    params: parameters at the start.
    inputs: a pytree whose arrays have the steps as first axis.
    transform: of gradients to steps, before the learning rate.
    lr: learning rate at the start; may be traced.
  """
  num_steps = len(jax.tree.leaves(inputs)[0])

  def step(carry, at_step):
    params, state = carry
    each, progress = at_step
    grads = jax.grad(loss_fn)(params, each, progress)
    updates, state = transform.update(grads, state, params)
    rate = lr * (1 + jnp.cos(jnp.pi * progress)) / 2
    params = jax.tree.map(lambda p, u: p - rate * u, params, updates)
    return (params, state), None

  progress = jnp.arange(num_steps) / num_steps
  start = (params, transform.init(params))
  return jax.lax.scan(step, start, (inputs, progress))[0][0]


def every(trial: Callable, *, at_once: bool) -> Callable:
  """run(points, seeds, shared): trial for each point of each seed, compiled.

  Args:
    trial: trial(point, seed, shared) -> {name: array}, where a point is a dict
      of scalars and a seed a dict of that seed's arrays.
    at_once: whether all are trained side by side, which is fast for what is
      small (small products of matrices become one large one), or one after the
      other, which is fast for convolutions and saves memory.

  Returns:
    A function of points, {name: [P]}, seeds, {name: [S, ...]}, and shared
    arrays, whose arrays have [P, S] before those of the trial.
  """

  def over(fn, xs):
    return jax.vmap(fn)(xs) if at_once else jax.lax.map(fn, xs)

  @jax.jit
  def run(points, seeds, shared):
    by_seed = over(
      lambda seed: over(lambda point: trial(point, seed, shared), points),
      seeds,
    )
    return jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), by_seed)

  def run_points(points, seeds, shared):
    stacked = {
      name: np.float32([point[name] for point in points]) for name in points[0]
    }
    return jax.device_get(run(stacked, seeds, shared))

  return run_points
