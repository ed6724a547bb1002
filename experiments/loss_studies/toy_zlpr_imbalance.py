# SPDX-License-Identifier: Apache-2.0
"""ZLPR's imbalance: three labels of a thousand, found by a linear model.

Scores s = x W + b of random W and b, with a little noise; the labels of x are
the classes of the greatest scores. A linear model is trained by each loss and
predicts the classes with a score above 0. F1 (micro) is taken there, and at the
threshold that is best on the validation examples, which tells a loss that ranks
badly from one whose scores are off by a constant.
"""

from collections.abc import Callable
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tqdm

from experiments.loss_studies import multilabel_methods
from experiments.loss_studies import multilabel_task
from experiments.loss_studies import selection


def make_data(rng, config):
  """x [N, D] and labels [N, C] of train, validation and test."""
  rng_w, rng_b, rng_x, rng_noise = jax.random.split(rng, 4)
  sizes = config.num_train, config.num_valid, config.num_test
  w = jax.random.normal(rng_w, (config.width, config.num_classes))
  b = config.popularity * jax.random.normal(rng_b, (config.num_classes,))
  x = jax.random.normal(rng_x, (sum(sizes), config.width))
  scores = x @ w / np.sqrt(config.width) + b[None]
  scores += config.noise * jax.random.normal(rng_noise, scores.shape)
  _, largest = jax.lax.top_k(scores, config.num_labels)
  labels = jax.nn.one_hot(largest, config.num_classes).sum(-2)
  ends = np.cumsum(sizes)[:-1]
  return list(zip(jnp.split(x, ends), jnp.split(labels, ends), strict=True))


def f1(scores, labels, threshold):
  """Micro F1 of what is above a threshold; labels are 0 or 1."""
  return multilabel_task.micro_f1(scores > threshold, labels > 0.5)


def trial(rng, point: dict, *, loss: Callable, config) -> dict:
  """One training at a point, from one bias of all classes: F1 of the others."""
  rng_data, rng_batch = jax.random.split(rng)
  (x, labels), valid, test = make_data(rng_data, config)
  # Within [1/N, 1 - 1/N], so that ratios of it are finite.
  frequency = jnp.clip(labels.mean(0), 1 / len(x), 1 - 1 / len(x))
  schedule = optax.cosine_decay_schedule(point["lr"], config.num_steps)
  optimizer = optax.adam(schedule)

  def scores_of(params, x):
    return x @ params["w"] + params["b"][None]

  def step(carry, n):
    params, state = carry
    batch = jax.random.randint(
      jax.random.fold_in(rng_batch, n), (config.batch_size,), 0, len(x)
    )

    def loss_fn(params):
      scores = scores_of(params, x[batch])
      return loss(scores, labels[batch], point, frequency).mean()

    updates, state = optimizer.update(jax.grad(loss_fn)(params), state)
    return (optax.apply_updates(params, updates), state), None

  params = {
    "w": jnp.zeros((config.width, config.num_classes)),
    "b": jnp.full(config.num_classes, point["bias"]),
  }
  carry = params, optimizer.init(params)
  carry, _ = jax.lax.scan(step, carry, jnp.arange(config.num_steps))
  valid_scores, test_scores = (scores_of(carry[0], x) for x, _ in (valid, test))
  thresholds = jnp.asarray(config.thresholds)
  tuned = jax.lax.map(lambda t: f1(valid_scores, valid[1], t), thresholds)
  best = thresholds[jnp.argmax(tuned)]
  return {
    "valid": f1(valid_scores, valid[1], 0.0),
    "at_0": f1(test_scores, test[1], 0.0),
    "at_best": f1(test_scores, test[1], best),
    "best_threshold": best,
    "num_predicted": jnp.sum(test_scores > 0, axis=-1).mean(),
  }


def points_of(grid) -> list[dict]:
  """Every combination of {name: values}."""
  combinations = itertools.product(*grid.values())
  return [dict(zip(grid, values, strict=True)) for values in combinations]


def measure(config) -> dict:
  """F1 of each loss, at its point that is best on validation examples.

  Every loss has as many points: of the learning rate, the first bias of all
  classes and, if it has one, its own number. A bias of log(k / C) is how often
  a class is true, from which cross-entropy is known to learn better than from
  0.

  Args:
    config: of configs/loss_toys.py:zlpr_imbalance.

  Returns:
    num_points; rows of method, point, and {measure of `trial`: [mean, standard
    error]}; for each points, and valid_by_point, what it was chosen from.
  """
  points = {method: points_of(grid) for method, grid in config.methods.items()}
  budget = {len(of_method) for of_method in points.values()}
  if len(budget) > 1:
    raise ValueError(
      f"the methods have {sorted(budget)} points; give each as many"
    )
  keys = jax.vmap(jax.random.key)(jnp.asarray(config.seeds))
  rows = []
  for method, of_method in tqdm.tqdm(points.items(), unit="method"):

    def one(key, point, loss=multilabel_methods.METHODS[method].loss):
      return trial(key, point, loss=loss, config=config)

    # Seed by seed, so that the data of one are made once, for all points.
    def all_points(key, stacked, one=one):
      return jax.vmap(one, in_axes=(None, 0))(key, stacked)

    stacked = jax.tree.map(lambda *values: np.float32(values), *of_method)
    found = jax.jit(
      lambda keys, stacked, fn=all_points: jax.lax.map(
        lambda key: fn(key, stacked), keys
      )
    )(keys, stacked)
    valid = np.asarray(found["valid"], np.float64).mean(axis=0)
    best = int(valid.argmax())
    row = {"method": method, "point": of_method[best]}
    for name, values in found.items():
      values = [float(value) for value in values[:, best]]
      row[name] = [selection.mean(values), selection.standard_error(values)]
    row["points"] = of_method
    row["valid_by_point"] = [round(float(v), 4) for v in valid]
    rows.append(row)
  return {"num_points": budget.pop(), "rows": rows}
