# SPDX-License-Identifier: Apache-2.0
"""ZLPR's imbalance: three labels of a thousand, found by a linear model.

Scores s = x W + b of random W and b, with a little noise; the labels of x are
the classes of the greatest scores. A linear model is trained by each loss and
predicts the classes with a score above 0. F1 (micro) is taken there, and at the
threshold that is best on the validation examples, which tells a loss that ranks
badly from one whose scores are off by a constant.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tqdm

import losses


def binary_cross_entropy(logits, labels):
  return optax.sigmoid_binary_cross_entropy(logits, labels).sum(-1)


def focal(logits, labels):
  """Sigmoid focal loss with the constants of arXiv 1708.02002."""
  return optax.sigmoid_focal_loss(logits, labels, alpha=0.25, gamma=2.0).sum(-1)


def asymmetric(logits, labels):
  """ASL (arXiv 2009.14119) with the authors' constants (Alibaba-MIIL/ASL).

  -t (1 - p) log p - (1 - t) q^4 log(1 - q),  q = max(p - 0.05, 0)
  """
  p = jax.nn.sigmoid(logits)
  q = jnp.maximum(p - 0.05, 0)
  positive = labels * (1 - p) * jax.nn.log_sigmoid(logits)
  return -(positive + (1 - labels) * q**4 * jnp.log1p(-q)).sum(-1)


# Losses [B] of logits [B, C] and labels [B, C].
METHODS: dict[str, Callable] = {
  "zlpr": losses.zlpr,
  "binary_cross_entropy": binary_cross_entropy,
  "focal": focal,
  "asymmetric": asymmetric,
}


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
  """2 tp / (predicted + true), over all examples and classes."""
  predicted = scores > threshold
  total = jnp.sum(predicted) + jnp.sum(labels)
  return 2 * jnp.sum(predicted * labels) / total


def trial(rng, lr, bias, *, loss: Callable, config) -> dict:
  """One training from one bias of all classes: F1 of the other examples."""
  rng_data, rng_batch = jax.random.split(rng)
  (x, labels), valid, test = make_data(rng_data, config)
  schedule = optax.cosine_decay_schedule(lr, config.num_steps)
  optimizer = optax.adam(schedule)

  def scores_of(params, x):
    return x @ params["w"] + params["b"][None]

  def step(carry, n):
    params, state = carry
    batch = jax.random.randint(
      jax.random.fold_in(rng_batch, n), (config.batch_size,), 0, len(x)
    )
    grads = jax.grad(
      lambda p: loss(scores_of(p, x[batch]), labels[batch]).mean()
    )(params)
    updates, state = optimizer.update(grads, state)
    return (optax.apply_updates(params, updates), state), None

  params = {
    "w": jnp.zeros((config.width, config.num_classes)),
    "b": jnp.full(config.num_classes, bias),
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


def measure(config) -> dict:
  """F1 of each loss, at the point (lr, bias) best on validation examples.

  Every loss has the same points. A bias of log(k / C) is how often a class is
  true, from which cross-entropy is known to learn better than from 0.

  Args:
    config: of configs/loss_toys.py:zlpr_imbalance.

  Returns:
    rows of method, lr, bias, and {measure of `trial`: [mean, standard error]};
    for each valid_by_point, what it was chosen from.
  """
  keys = jax.vmap(jax.random.key)(jnp.asarray(config.seeds))
  points = [(lr, bias) for bias in config.biases for lr in config.lrs]
  lrs, biases = jnp.asarray(points).T
  rows = []
  for method in tqdm.tqdm(config.methods, unit="method"):

    def one(key, lr, bias, loss=METHODS[method]):
      return trial(key, lr, bias, loss=loss, config=config)

    # Seed by seed, so that the data of one are made once, for all points.
    def all_points(key, one=one):
      return jax.vmap(one, in_axes=(None, 0, 0))(key, lrs, biases)

    found = jax.jit(lambda keys, fn=all_points: jax.lax.map(fn, keys))(keys)
    valid = np.asarray(found["valid"], np.float64).mean(axis=0)
    best = int(valid.argmax())
    row = {"method": method, "lr": points[best][0], "bias": points[best][1]}
    for name, values in found.items():
      values = np.asarray(values[:, best], np.float64)
      error = values.std(ddof=1) / np.sqrt(len(values))
      row[name] = [float(values.mean()), float(error)]
    rows.append(row | {"valid_by_point": [round(float(v), 4) for v in valid]})
  return {"points": [list(point) for point in points], "rows": rows}
