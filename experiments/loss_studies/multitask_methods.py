# SPDX-License-Identifier: Apache-2.0
"""How two losses share a step: the rules that are compared.

A rule is a function of a `Step` and a point, the hyper-parameters, that gives
the weights [2] of the gradients on the parameters that both tasks share; the
first task is the primary one. PCGrad is not here: of two gradients it is UPGrad
(its sum, twice the mean). Nor is min-norm of unit gradients, which is their
mean.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from experiments.loss_studies import toy_task_directions
import losses


class Step(NamedTuple):
  """What a rule may look at."""

  losses: jax.Array  # [2]
  initial: jax.Array  # [2] the losses of the first step
  gram: jax.Array  # [2, 2] of the gradients


class Method(NamedTuple):
  title: str
  weights: Callable[[Step, dict], jax.Array]


def primary_alone(step, point):
  del step, point
  return jnp.array([1.0, 0.0])


def secondary_alone(step, point):
  del step, point
  return jnp.array([0.0, 1.0])


def weighted(step, point):
  """The primary loss and a tuned multiple of the other."""
  del step
  return jnp.stack([jnp.ones(()), point["weight"]])


def initial_loss(step, point):
  """Each loss over what it was at the first step (kexue.fm 8870)."""
  del point
  return losses.inverse_loss_weights(step.initial)


def real_time(step, point):
  """Each loss over what it is: the gradient of sum log L (kexue.fm 8870)."""
  del point
  return jax.grad(losses.real_time_weighting)(step.losses)


def of_gradients(rule: str) -> Callable:
  """One of the rules that see the gradients alone, as of the toy."""

  def weights(step, point):
    del point
    # The key is for PCGrad's order, and so is not used.
    return toy_task_directions.RULES[rule](step.gram, None)

  return weights


METHODS = {
  "primary_alone": Method("primary alone", primary_alone),
  "secondary_alone": Method("secondary alone", secondary_alone),
  "weighted": Method("sum, tuned weight", weighted),
  "equal": Method("mean", of_gradients("equal")),
  "initial_loss": Method("losses over their first values", initial_loss),
  "real_time": Method("losses over their values of now", real_time),
  "normalized": Method("unit gradients", of_gradients("normalized")),
  "min_norm": Method("min-norm", of_gradients("min_norm")),
  "upgrad": Method("UPGrad = PCGrad", of_gradients("upgrad")),
  "primary_secondary": Method(
    "primary / secondary", of_gradients("primary_secondary")
  ),
}
