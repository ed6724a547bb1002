# SPDX-License-Identifier: Apache-2.0
"""One trial of two tasks, whatever they are: trains, measures."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from experiments.loss_studies import methods
from experiments.loss_studies import multitask_methods
from experiments.loss_studies import multitask_training

# What a curve of the training is made of.
NUM_WINDOWS = 20


class Setting(NamedTuple):
  """Which two tasks.

  losses(logits_of, params, inputs, seed) -> [2], the primary one first, where
  logits_of(params, indices) are the network's. measures(logits, indices, seed)
  -> {name: []} of some examples; "log_likelihood" is of the primary task.
  """

  losses: Callable
  measures: Callable
  transform: Callable[[dict], optax.GradientTransformation] = methods.adam
  has_heads: bool = False  # the columns of the last layer are of either task


def make_trial(setting: Setting, network, method: multitask_methods.Method):
  """trial(point, seed, shared) -> measures; shared has x, all features."""

  def trial(point, seed, shared):
    def logits_of(params, indices):
      x = shared["x"][indices]
      x = (x - seed["mean"][None]) / seed["deviation"][None]
      return network.apply({"params": params}, x)

    def measures(params, part):
      logits = logits_of(params, seed[part])
      return setting.measures(logits, seed[part], seed)

    rng = jax.random.key(seed["seed"])
    params = network.init(rng, jnp.zeros_like(shared["x"][:1]))["params"]
    params, history, test_loss = multitask_training.fit(
      lambda params, inputs: setting.losses(logits_of, params, inputs, seed),
      params,
      seed["batches"],
      head=last_layer(params) if setting.has_heads else None,
      weights_fn=lambda step: method.weights(step, point),
      transform=setting.transform(point),
      lr=point["lr"],
      num_windows=NUM_WINDOWS,
      evaluate=lambda params: -measures(params, "test")["log_likelihood"],
    )
    opposed = jnp.mean(history.opposed, axis=0)
    return {
      "validation": measures(params, "validation"),
      "test": measures(params, "test"),
      "training": {
        "primary_loss": history.losses[:, 0],
        "secondary_loss": history.losses[:, 1],
        "test_loss": test_loss,
        "conflict": history.conflict,
        "conflict_rate": jnp.mean(history.conflict),
        "opposed_primary": opposed[0],
        "opposed_secondary": opposed[1],
      },
    }

  return trial


def last_layer(params: dict) -> str:
  """The dense layer with the highest number, as flax names them."""
  dense = [name for name in params if name.startswith("Dense_")]
  return max(dense, key=lambda name: int(name.removeprefix("Dense_")))


def scores(logits, labels) -> tuple[jax.Array, jax.Array]:
  """Accuracy and mean log-likelihood of logits [N, K], labels [N]."""
  nll = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
  correct = jnp.argmax(logits, axis=-1) == labels
  return jnp.mean(correct), -multitask_training.finite(jnp.mean(nll))
