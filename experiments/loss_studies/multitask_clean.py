# SPDX-License-Identifier: Apache-2.0
"""Many labels of which a share is wrong, and a few that are known to be right.

The primary loss is that of the noisy labels, the secondary one that of all the
clean examples at every step: a constraint on the direction (kexue.fm 8907). The
labels of validation are noisy as well; those of the test examples are right.
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

load = images.load


def prepare(data: splits.Data, seeds, train: dict) -> dict[str, np.ndarray]:
  """The arrays of each seed, [S, ...].

  The first train["num_clean"] of the training examples are the clean ones.

  Raises:
    ValueError: if all training examples would be clean.
  """
  found = []
  for seed in seeds:
    arrays = splits.of_seed(data, seed, **train)
    clean = arrays["train"][: train["num_clean"]]
    noisy = arrays["train"][train["num_clean"] :]
    if not len(noisy):
      raise ValueError(
        f"train.num_clean={train['num_clean']} leaves none of the "
        f"{len(arrays['train'])} training examples to be noisy; lower it"
      )
    y = splits.noisy(
      data.y, seed, num_classes=data.num_outputs, noise=train["label_noise"]
    )
    right = np.concatenate([arrays["test"], clean])
    y[right] = data.y[right]
    batches = splits.batches(
      noisy,
      seed,
      num_steps=train["num_steps"],
      batch_size=train["batch_size"],
    )
    found.append(arrays | {"y": y, "clean": clean, "batches": batches})
  return splits.stacked(found)


def losses(logits_of, params, indices, seed):
  """Cross-entropy of a noisy batch, and of all clean examples."""
  indices_of_both = jnp.concatenate([indices, seed["clean"]])
  nll = optax.softmax_cross_entropy_with_integer_labels(
    logits_of(params, indices_of_both), seed["y"][indices_of_both]
  )
  split = len(indices)
  return jnp.stack([jnp.mean(nll[:split]), jnp.mean(nll[split:])])


def measures(logits, indices, seed):
  accuracy, log_likelihood = multitask_trial.scores(logits, seed["y"][indices])
  return {"accuracy": accuracy, "log_likelihood": log_likelihood}


make_trial = functools.partial(
  multitask_trial.make_trial, multitask_trial.Setting(losses, measures)
)
