# SPDX-License-Identifier: Apache-2.0
"""Two heads on one trunk: is a digit odd, and which one is it?

The digit decides its parity, so the tasks agree where both are learned; what
they share and where they are in each other's way is up to the network.
"""

import functools

import jax.numpy as jnp
import numpy as np
import optax

from experiments.loss_studies import images
from experiments.loss_studies import multitask_methods
from experiments.loss_studies import multitask_trial
from experiments.loss_studies import splits

METHODS = multitask_methods.METHODS

TASKS = ("parity", "digit")


def load(name: str, data_dir: str | None = None) -> splits.Data:
  """Images of digits; two outputs for the parity, then one for each digit."""
  data = images.load(name, data_dir)
  return data._replace(num_outputs=2 + data.num_outputs)


def prepare(data: splits.Data, seeds, train: dict) -> dict[str, np.ndarray]:
  """The arrays of each seed, [S, ...].

  Raises:
    ValueError: if train["primary"] is none of TASKS.
  """
  if train["primary"] not in TASKS:
    raise ValueError(
      f"train.primary={train['primary']!r} is none of {', '.join(TASKS)}"
    )
  first = TASKS.index(train["primary"])
  found = [
    splits.of_seed(data, seed, **train)
    | {"y": data.y, "order": np.int32([first, 1 - first])}
    for seed in seeds
  ]
  return splits.stacked(found)


def of_tasks(logits, labels):
  """(logits, labels) of each of TASKS."""
  return (logits[:, :2], labels % 2), (logits[:, 2:], labels)


def losses(logits_of, params, indices, seed):
  """Both cross-entropies of the same examples."""
  both = of_tasks(logits_of(params, indices), seed["y"][indices])
  cross_entropy = optax.softmax_cross_entropy_with_integer_labels
  values = jnp.stack([jnp.mean(cross_entropy(*task)) for task in both])
  return values[seed["order"]]


def measures(logits, indices, seed):
  """Of the primary task, and with secondary_ before it of the other."""
  both = of_tasks(logits, seed["y"][indices])
  found = jnp.stack([jnp.stack(multitask_trial.scores(*t)) for t in both])
  found = found[seed["order"]]
  names = ("accuracy", "log_likelihood")
  return {
    prefix + name: found[i, j]
    for i, prefix in enumerate(("", "secondary_"))
    for j, name in enumerate(names)
  }


make_trial = functools.partial(
  multitask_trial.make_trial,
  multitask_trial.Setting(losses, measures, has_heads=True),
)
