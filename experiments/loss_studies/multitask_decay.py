# SPDX-License-Identifier: Apache-2.0
"""Weight decay as a task: |W|^2 / 2 beside the cross-entropy (kexue.fm 8907).

Some labels of training and validation are wrong, so that decay is needed.
As the secondary task of a primary one it needs no coefficient: weights that
multiply features, W, never grow, to first order; a step at a right angle to
them makes them longer all the same. Trained without momentum or Adam, so that
the steps are the directions.
"""

import functools

import jax
import jax.numpy as jnp
import optax

from experiments.loss_studies import classification
from experiments.loss_studies import images
from experiments.loss_studies import multitask_clean
from experiments.loss_studies import multitask_methods
from experiments.loss_studies import multitask_trial

METHODS = multitask_methods.METHODS

load = images.load

prepare = classification.prepare

measures = multitask_clean.measures


def losses(logits_of, params, indices, seed):
  """Cross-entropy, and half the squared norm of the weights without biases."""
  nll = optax.softmax_cross_entropy_with_integer_labels(
    logits_of(params, indices), seed["y"][indices]
  )
  squares = [jnp.sum(p**2) for p in jax.tree.leaves(params) if p.ndim > 1]
  return jnp.stack([jnp.mean(nll), sum(squares) / 2])


def gradient_descent(point: dict) -> optax.GradientTransformation:
  del point
  return optax.identity()


make_trial = functools.partial(
  multitask_trial.make_trial,
  multitask_trial.Setting(losses, measures, transform=gradient_descent),
)
