# SPDX-License-Identifier: Apache-2.0
"""One trial with few labels: the other training examples only have to agree.

Each step takes a batch of the labelled examples, for the cross-entropy, and one
of all training examples, whose predictions should not change when their pixels
are moved by a step of norm epsilon: the step that changes them most (VAT), or
one in a random direction (Gaussian noise).
"""

from collections.abc import Callable
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.loss_studies import methods
from experiments.loss_studies import splits
from experiments.loss_studies import training
import losses

# The step at which VAT takes its gradient: small, for pixels in [0, 1].
XI = 0.01


class Method(NamedTuple):
  title: str
  # (apply_fn, x, rng, epsilon=) -> [B]; None: labelled examples alone.
  consistency: Callable | None = None


_random_step = functools.partial(
  losses.virtual_adversarial_loss, num_iterations=0
)

METHODS = {
  "supervised": Method("labels alone"),
  "noise": Method("random step (Gaussian)", _random_step),
  "noise_large": Method("the same, larger norms", _random_step),
  "vat": Method(
    "VAT", functools.partial(losses.virtual_adversarial_loss, xi=XI)
  ),
}


def labelled(y: np.ndarray, train: np.ndarray, seed: int, *, num_each: int):
  """Indices of num_each training examples of each class.

  Raises:
    ValueError: if a class has fewer.
  """
  order = np.random.default_rng([seed, 3]).permutation(train)
  found = []
  for c in np.unique(y):
    of_class = order[y[order] == c]
    if len(of_class) < num_each:
      raise ValueError(
        f"labels_each={num_each}: class {c} has {len(of_class)} training "
        "examples; ask for fewer, or raise data.max_examples"
      )
    found.append(of_class[:num_each])
  return np.concatenate(found)


def prepare(data: splits.Data, seeds, train: dict) -> dict[str, np.ndarray]:
  """The arrays of each seed, [S, ...]; `batches` are of all examples."""
  found = []
  for seed in seeds:
    arrays = splits.of_seed(data, seed, **train)
    chosen = labelled(
      data.y, arrays["train"], seed, num_each=train["labels_each"]
    )
    order = splits.batches(
      chosen,
      seed,
      num_steps=train["num_steps"],
      batch_size=train["labelled_batch_size"],
    )
    found.append(arrays | {"labelled_batches": order})
  return splits.stacked(found)


def make_trial(network, method: Method):
  """trial(point, seed, shared) -> measures; shared has x and y, all of them.

  A point's `epsilon` is the norm of the step over the pixels of an example.
  """

  def trial(point, seed, shared):
    def logits_of(params, x):
      return network.apply({"params": params}, x)

    def loss_fn(params, inputs, progress):
      del progress
      some, every, rng = inputs
      nll = optax.softmax_cross_entropy_with_integer_labels(
        logits_of(params, shared["x"][some]), shared["y"][some]
      )
      if method.consistency is None:
        return jnp.mean(nll)
      divergence = method.consistency(
        functools.partial(logits_of, params),
        shared["x"][every],
        rng,
        epsilon=point["epsilon"],
      )
      return jnp.mean(nll) + jnp.mean(divergence)

    rng_init, rng_steps = jax.random.split(jax.random.key(seed["seed"]))
    params = network.init(rng_init, jnp.zeros_like(shared["x"][:1]))["params"]
    rngs = jax.random.split(rng_steps, len(seed["batches"]))
    params = training.fit(
      loss_fn,
      params,
      (seed["labelled_batches"], seed["batches"], rngs),
      transform=methods.adam(point),
      lr=point["lr"],
    )

    def accuracy(indices):
      guesses = jnp.argmax(logits_of(params, shared["x"][indices]), axis=-1)
      return {"accuracy": jnp.mean(guesses == shared["y"][indices])}

    return {part: accuracy(seed[part]) for part in ("validation", "test")}

  return trial
