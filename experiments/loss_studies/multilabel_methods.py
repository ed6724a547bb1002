# SPDX-License-Identifier: Apache-2.0
"""The losses that are compared: of scores and any number of labels.

A loss of (scores [B, C], labels [B, C], point, frequency [C]) -> [B]; frequency
is how often each label is set among the training examples. All predict the
labels whose score is above 0: for the binary losses a probability of 1/2. The
hyper-parameters `smoothing` and `mixup` are of the labels, not the loss: see
`multilabel_task`.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

import losses


class Method(NamedTuple):
  title: str
  loss: Callable


def binary(scores, labels, point, frequency):
  """The sum of the C binary cross-entropies."""
  del point, frequency
  return optax.sigmoid_binary_cross_entropy(scores, labels).sum(-1)


def weighted_binary(scores, labels, point, frequency):
  """Positives weigh ((1 - f) / f)^power; 0 is `binary`, 1 balances."""
  weight = ((1 - frequency) / frequency) ** point["power"]
  terms = optax.sigmoid_binary_cross_entropy(scores, labels)
  return jnp.sum(terms * (1 + (weight - 1)[None] * labels), axis=-1)


def focal(scores, labels, point, frequency):
  """The focal loss of each label (arXiv 1708.02002), without alpha."""
  del frequency
  return optax.sigmoid_focal_loss(scores, labels, gamma=point["gamma"]).sum(-1)


def asymmetric(scores, labels, point, frequency):
  """The asymmetric loss (Alibaba-MIIL/ASL), its gamma+ = 1 and clip 0.05.

  -t (1 - p) log p - (1 - t) q^gamma log(1 - q),  q = max(p - 0.05, 0)
  """
  del frequency
  p = jax.nn.sigmoid(scores)
  q = jax.nn.relu(p - 0.05)
  positive = labels * (1 - p) * jax.nn.log_sigmoid(scores)
  negative = (1 - labels) * q ** point["gamma"] * jnp.log1p(-q)
  return -jnp.sum(positive + negative, axis=-1)


def zlpr(scores, labels, point, frequency):
  del point, frequency
  return losses.zlpr(scores, labels)


METHODS = {
  "binary": Method("binary cross-entropy", binary),
  "binary_smooth": Method("binary, label smoothing", binary),
  "weighted_binary": Method("binary, class weights", weighted_binary),
  "focal": Method("focal", focal),
  "asymmetric": Method("asymmetric", asymmetric),
  "zlpr": Method("ZLPR", zlpr),
  "zlpr_smooth": Method("ZLPR, label smoothing", zlpr),
  "zlpr_mixup": Method("ZLPR, mixup", zlpr),
}
