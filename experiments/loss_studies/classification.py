# SPDX-License-Identifier: Apache-2.0
"""One trial of classification: trains a network, measures its predictions."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.loss_studies import methods
from experiments.loss_studies import splits
from experiments.loss_studies import training
import losses

METHODS = methods.METHODS

# Bins of the calibration error and of reliability diagrams.
NUM_BINS = 15


def prepare(data: splits.Data, seeds, train: dict) -> dict[str, np.ndarray]:
  """The arrays of each seed, [S, ...].

  Labels of training and validation are noisy if the config says so; those of
  the test examples never are.
  """
  found = []
  for seed in seeds:
    arrays = splits.of_seed(data, seed, **train)
    y = splits.noisy(
      data.y,
      seed,
      num_classes=data.num_outputs,
      noise=train.get("label_noise", 0.0),
    )
    y[arrays["test"]] = data.y[arrays["test"]]
    found.append(arrays | {"y": y})
  return splits.stacked(found)


def make_trial(network, method: methods.Method):
  """trial(point, seed, shared) -> measures; shared has x, all features."""

  def trial(point, seed, shared):
    def logits_of(params, indices):
      x = shared["x"][indices]
      x = (x - seed["mean"][None]) / seed["deviation"][None]
      return network.apply({"params": params}, x)

    def loss_fn(params, indices, progress):
      logits = logits_of(params, indices)
      loss = method.loss(logits, seed["y"][indices], point, progress)
      return jnp.mean(loss)

    rng = jax.random.key(seed["seed"])
    params = network.init(rng, jnp.zeros_like(shared["x"][:1]))["params"]
    params = training.fit(
      loss_fn,
      params,
      seed["batches"],
      transform=method.transform(point),
      lr=point["lr"],
    )
    return {
      part: measures(logits_of(params, seed[part]), seed["y"][seed[part]])
      for part in ("validation", "test")
    }

  return trial


def measures(logits, labels) -> dict[str, jax.Array]:
  """Accuracy, and how far softmax probabilities are from it.

  Args:
    logits: [N, C].
    labels: [N].

  Returns:
    accuracy, ece (expected calibration error), overconfidence: []; reliability
    [3, NUM_BINS]: count, sum of confidences and correct ones of each bin.
  """
  correct = jnp.argmax(logits, axis=-1) == labels
  confidence = jnp.max(jax.nn.softmax(logits), axis=-1)
  bins = losses.reliability_bins(confidence, correct, num_bins=NUM_BINS)
  return {
    "accuracy": jnp.mean(correct),
    "ece": losses.expected_calibration_error(bins),
    "overconfidence": losses.overconfidence(bins),
    "reliability": jnp.stack(bins),
  }
