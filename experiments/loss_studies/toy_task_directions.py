# SPDX-License-Identifier: Apache-2.0
"""Directions for several tasks: what a step does to each loss, to first order.

A step of eta along -u changes loss i by -eta <u, g_i>. In a plane: g_1 = (1, 0)
and g_2 of another length at an angle, and for each rule u and both <u, g_i>. In
more dimensions: normal gradients, some of them ten times longer, and how often
a rule opposes a task; the share of pairs with a negative cosine is the
conflicts that it had to solve.
"""

from collections.abc import Callable
import functools

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from experiments.loss_studies import selection
import losses

# Below this share of |u| |g_i|, <u, g_i> is 0 but for rounding.
TOLERANCE = 1e-4


def equal(gram, rng):
  del rng
  return jnp.full(len(gram), 1 / len(gram), gram.dtype)


def normalized(gram, rng):
  del rng
  return losses.inverse_norm_weights(gram) / len(gram)


def min_norm(gram, rng):
  del rng
  return losses.min_norm_weights(gram)


def primary_secondary(gram, rng):
  """Task 1 is the primary one."""
  del rng
  return losses.primary_secondary_weights(gram)


def pcgrad(gram, rng):
  """Its sum as a mean, to compare lengths."""
  return losses.pcgrad_weights(gram, rng) / len(gram)


def upgrad(gram, rng):
  del rng
  return losses.upgrad_weights(gram)


# Weights [n] of a Gram matrix [n, n] and a key.
RULES: dict[str, Callable] = {
  "equal": equal,
  "normalized": normalized,
  "min_norm": min_norm,
  "primary_secondary": primary_secondary,
  "pcgrad": pcgrad,
  "upgrad": upgrad,
}


def pair(angle: float, length: float) -> np.ndarray:
  """g_1 = (1, 0) and g_2 at an angle in degrees, [2, 2]."""
  radians = np.deg2rad(angle)
  second = length * np.array([np.cos(radians), np.sin(radians)])
  return np.stack([[1.0, 0.0], second])


def in_the_plane(angle: float, length: float, rule: str) -> dict:
  """u, and its inner products with both gradients, in float64."""
  g = pair(angle, length)
  with jax.enable_x64(True):
    weights = np.asarray(RULES[rule](jnp.asarray(g @ g.T), jax.random.key(0)))
  u = weights @ g
  return {"u": u.tolist(), "progress": (g @ u).tolist()}


def random_gradients(rng, num_tasks: int, dimensions: int):
  """[n, D]: normal, each ten times longer with probability a half."""
  rng_g, rng_length = jax.random.split(rng)
  g = jax.random.normal(rng_g, (num_tasks, dimensions))
  is_long = jax.random.bernoulli(rng_length, 0.5, (num_tasks, 1))
  return jnp.where(is_long, 10 * g, g)


def opposed(u, g):
  """Whether a step along -u makes a task of gradients g [n, D] worse."""
  size = jnp.linalg.norm(u) * jnp.linalg.norm(g, axis=-1)
  return jnp.any(g @ u < -TOLERANCE * size)


def draw(rng, *, num_tasks: int, config) -> dict:
  """For one set of gradients: conflicts, and who opposes a task."""
  rng_g, rng_rule = jax.random.split(rng)
  g = random_gradients(rng_g, num_tasks, config.dimensions)
  gram = losses.gram_matrix(g)
  upper = np.triu_indices(num_tasks, 1)
  found = {"conflicts": jnp.mean(losses.gradient_cosines(gram)[upper] < 0)}
  for name in config.rules:
    weights = RULES[name](gram, rng_rule)
    found[name] = opposed(losses.combine(g, weights), g)
  return found


def measure(config) -> dict:
  """What each rule does.

  Args:
    config: of configs/loss_toys.py:task_directions.

  Returns:
    plane: rows of rule, angle, u, progress (both <u, g_i>); random: rows of
    num_tasks, conflicts (share of pairs) and for each rule the share of draws
    in which it opposes a task, each [mean, standard error] over seeds.
  """
  plane = [
    {"rule": rule, "angle": angle} | in_the_plane(angle, config.length, rule)
    for angle in config.angles
    for rule in config.rules
  ]
  random = []
  for num_tasks in tqdm.tqdm(config.num_tasks, unit="set"):

    @jax.jit
    def shares(seed, num_tasks=num_tasks):
      keys = jax.random.split(jax.random.key(seed), config.num_draws)
      one = functools.partial(draw, num_tasks=num_tasks, config=config)
      found = jax.vmap(one)(keys)
      return jax.tree.map(jnp.mean, found)

    by_seed = [shares(seed) for seed in config.seeds]
    row = {"num_tasks": num_tasks}
    for name in by_seed[0]:
      values = [float(one[name]) for one in by_seed]
      row[name] = [selection.mean(values), selection.standard_error(values)]
    random.append(row)
  return {"plane": plane, "random": random}
