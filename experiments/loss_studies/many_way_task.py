# SPDX-License-Identifier: Apache-2.0
"""One trial of n m-way classification: losses of all items of an example.

A loss is a function of (logits [B, n, m], labels [B, n], where [B, n], point,
frequency [m]) -> [B]; frequency is the share of each class among the training
items. All predict the class of the highest logit.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.loss_studies import methods
from experiments.loss_studies import splits
from experiments.loss_studies import training
import losses


class Method(NamedTuple):
  title: str
  loss: Callable


def _nll(logits, labels, where):
  nll = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
  return jnp.where(where, nll, 0)


def cross_entropy(logits, labels, where, point, frequency):
  """The sum of the n cross-entropies."""
  del point, frequency
  return _nll(logits, labels, where).sum(-1)


def weighted(logits, labels, where, point, frequency):
  """The same, an item weighs (1 / frequency of its class)^power."""
  weight = (1 / frequency) ** point["power"]
  return jnp.sum(weight[labels] * _nll(logits, labels, where), axis=-1)


def adjusted(logits, labels, where, point, frequency):
  """Cross-entropy of logits + tau log frequency (arXiv 2007.07314)."""
  adjustment = losses.logit_adjustment(frequency, tau=point["tau"])
  return _nll(logits + adjustment[None, None], labels, where).sum(-1)


def loss1(logits, labels, where, point, frequency):
  del point, frequency
  hot = jax.nn.one_hot(labels, logits.shape[-1])
  return losses.many_way_loss1(logits, hot, where=where)


def loss3(logits, labels, where, point, frequency):
  del point, frequency
  hot = jax.nn.one_hot(labels, logits.shape[-1])
  return losses.many_way_loss3(logits, hot, where=where)


METHODS = {
  "cross_entropy": Method("cross-entropy", cross_entropy),
  "weighted": Method("cross-entropy, class weights", weighted),
  "adjusted": Method("cross-entropy, logit adjustment", adjusted),
  "many_way_loss1": Method("n m-way, loss 1", loss1),
  "many_way_loss3": Method("n m-way, loss 3", loss3),
}


def prepare(data: splits.Data, seeds, train: dict) -> dict[str, np.ndarray]:
  """The arrays of each seed, [S, ...]."""
  found = []
  for seed in seeds:
    arrays = splits.of_seed(data, seed, **train)
    y = data.y[arrays["train"]]
    counts = np.bincount(y[y >= 0], minlength=data.num_outputs)
    # As if each had been seen once more, so that none is 0.
    frequency = np.float32((counts + 1) / (counts + 1).sum())
    found.append(arrays | {"frequency": frequency})
  return splits.stacked(found)


def make_trial(network, method: Method):
  """trial(point, seed, shared) -> measures; shared has x and y, all of them."""

  def trial(point, seed, shared):
    def logits_of(params, indices):
      x = shared["x"][indices]  # [B, n, F]
      items = x.reshape(-1, x.shape[-1])
      return network.apply({"params": params}, items).reshape(*x.shape[:-1], -1)

    def labels_of(indices):
      y = shared["y"][indices]
      return jnp.maximum(y, 0), y >= 0

    def loss_fn(params, indices, progress):
      del progress
      labels, where = labels_of(indices)
      logits = logits_of(params, indices)
      return jnp.mean(
        method.loss(logits, labels, where, point, seed["frequency"])
      )

    rng = jax.random.key(seed["seed"])
    params = network.init(rng, shared["x"][0, :1])["params"]
    params = training.fit(
      loss_fn,
      params,
      seed["batches"],
      transform=methods.adam(point),
      lr=point["lr"],
    )
    return {
      part: measures(logits_of(params, seed[part]), *labels_of(seed[part]))
      for part in ("validation", "test")
    }

  return trial


def measures(logits, labels, where) -> dict[str, jax.Array]:
  """How well items are classified, [N, n, m] against [N, n].

  Returns:
    accuracy; macro_f1, the mean over the classes that occur; and rare_f1, the
    micro F1 of all classes but 0.
  """
  num_classes = logits.shape[-1]
  predicted = jax.nn.one_hot(jnp.argmax(logits, axis=-1), num_classes)
  true = jax.nn.one_hot(labels, num_classes)
  predicted, true = (
    jnp.where(where[..., None], a, 0).reshape(-1, num_classes)
    for a in (predicted, true)
  )
  tp = jnp.sum(predicted * true, axis=0)
  total = jnp.sum(predicted, axis=0) + jnp.sum(true, axis=0)
  f1 = 2 * tp / jnp.maximum(total, 1)
  return {
    "accuracy": tp.sum() / jnp.maximum(true.sum(), 1),
    "macro_f1": jnp.mean(f1, where=true.any(0)),
    "rare_f1": 2 * tp[1:].sum() / jnp.maximum(total[1:].sum(), 1),
  }
