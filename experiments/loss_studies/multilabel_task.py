# SPDX-License-Identifier: Apache-2.0
"""One trial of multi-label classification: trains, measures sets of labels."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.loss_studies import methods
from experiments.loss_studies import multilabel_methods
from experiments.loss_studies import splits
from experiments.loss_studies import training

METHODS = multilabel_methods.METHODS


def prepare(data: splits.Data, seeds, train: dict) -> dict[str, np.ndarray]:
  """The arrays of each seed, [S, ...]."""
  found = []
  for seed in seeds:
    arrays = splits.of_seed(data, seed, **train)
    # Within [1/N, 1 - 1/N], so that ratios of it are finite.
    least = 1 / len(arrays["train"])
    frequency = data.y[arrays["train"]].mean(0)
    frequency = np.clip(frequency, least, 1 - least)
    found.append(arrays | {"frequency": frequency})
  return splits.stacked(found)


def make_trial(network, method: multilabel_methods.Method):
  """trial(point, seed, shared) -> measures; shared has x and y, all of them.

  A point's `smoothing` moves labels towards 1/2 by that share. Its `mixup` is
  the a of Beta(a, a), from which each step draws the weight of a batch and of
  the same batch in another order, of features and labels.
  """

  def trial(point, seed, shared):
    def features(indices):
      x = shared["x"][indices]
      return (x - seed["mean"][None]) / seed["deviation"][None]

    def scores_of(params, x):
      return network.apply({"params": params}, x)

    def loss_fn(params, inputs, progress):
      del progress
      indices, weight = inputs
      x, y = features(indices), shared["y"][indices]
      if "mixup" in point:
        # Batches are in random order, so their reverse is as good as another.
        x = weight * x + (1 - weight) * x[::-1]
        y = weight * y + (1 - weight) * y[::-1]
      if "smoothing" in point:
        y = (1 - point["smoothing"]) * y + point["smoothing"] / 2
      scores = scores_of(params, x)
      return jnp.mean(method.loss(scores, y, point, seed["frequency"]))

    rng_init, rng_mixup = jax.random.split(jax.random.key(seed["seed"]))
    num_steps = len(seed["batches"])
    weights = jnp.ones(num_steps)
    if "mixup" in point:
      a = point["mixup"]
      weights = jax.random.beta(rng_mixup, a, a, (num_steps,))
    params = network.init(rng_init, jnp.zeros_like(shared["x"][:1]))["params"]
    params = training.fit(
      loss_fn,
      params,
      (seed["batches"], weights),
      transform=methods.adam(point),
      lr=point["lr"],
    )
    scores, labels = (
      {part: fn(seed[part]) for part in ("validation", "test")}
      for fn in (
        lambda indices: scores_of(params, features(indices)),
        lambda indices: shared["y"][indices] > 0.5,
      )
    )
    threshold = best_threshold(scores["validation"], labels["validation"])
    return {
      part: measures(scores[part], labels[part], threshold) for part in scores
    }

  return trial


def measures(scores, labels, threshold) -> dict[str, jax.Array]:
  """F1 of the labels predicted, and average precision.

  Args:
    scores: [N, C].
    labels: boolean [N, C].
    threshold: [] for the last of these.

  Returns:
    micro_f1 of all decisions that a score is above 0; macro_f1 and
    average_precision, means over the labels that are set at all; and
    micro_f1_at_best_threshold, where best is by the validation examples.
  """
  is_set = labels.any(0)
  tp, wrong = _counts(scores > 0, labels)
  f1 = 2 * tp / jnp.maximum(2 * tp + wrong, 1)
  precision = jax.vmap(average_precision, in_axes=1)(scores, labels)
  return {
    "micro_f1": micro_f1(scores > 0, labels),
    "macro_f1": jnp.mean(f1, where=is_set),
    "average_precision": jnp.mean(precision, where=is_set),
    "micro_f1_at_best_threshold": micro_f1(scores >= threshold, labels),
  }


def _counts(predicted, labels):
  """True positives of each label, and what was wrong."""
  return (predicted & labels).sum(0), (predicted ^ labels).sum(0)


def micro_f1(predicted, labels):
  """F1 of all decisions, boolean [N, C]; 0 if nothing is set or predicted."""
  tp, wrong = (counts.sum() for counts in _counts(predicted, labels))
  return 2 * tp / jnp.maximum(2 * tp + wrong, 1)


def average_precision(scores, labels):
  """The mean over what is set of the precision down to its score, [N].

  What has the same score counts as predicted together.
  """
  positive = jnp.sort(jnp.where(labels, scores, -jnp.inf))
  everything = jnp.sort(scores)
  n = len(scores)
  true = n - jnp.searchsorted(positive, scores, side="left")
  predicted = n - jnp.searchsorted(everything, scores, side="left")
  return jnp.sum(jnp.where(labels, true / predicted, 0)) / jnp.maximum(
    labels.sum(), 1
  )


def best_threshold(scores, labels):
  """The score at and above which predictions have the best micro F1."""
  flat, is_set = scores.ravel(), labels.ravel()
  order = jnp.argsort(-flat)
  tp = jnp.cumsum(is_set[order])
  predicted = 1 + jnp.arange(flat.size)
  f1 = 2 * tp / (predicted + is_set.sum())
  return flat[order][jnp.argmax(f1)]
