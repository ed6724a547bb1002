# SPDX-License-Identifier: Apache-2.0
"""One trial of finding names: trains an encoder and a head, counts names.

A method is a head of `encoder.WordNetwork` and, for R-Drop, how far the scores
of two passes with two dropout masks are apart. Heads of tags are trained by the
sum of the cross-entropies of the tokens and predict the likeliest tags;
pointers are trained by ZLPR and predict every span that scores above 0,
overlapping ones too.
"""

from collections.abc import Callable
import functools
from typing import NamedTuple

from flax import linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.loss_studies import encoder
from experiments.loss_studies import methods
from experiments.loss_studies import spans
from experiments.loss_studies import splits
from experiments.loss_studies import training
import losses


class Method(NamedTuple):
  title: str
  head: Callable[[int], nn.Module]
  divergence: Callable | None = None  # (scores, scores, where) -> [B]


def no_divergence(scores1, scores2, where):
  """Two passes that need not agree, which cost what R-Drop costs."""
  del scores2, where
  return jnp.zeros(scores1.shape[0])


def multilabel_divergence(scores1, scores2, where):
  """Symmetric KL of each span as a decision of its own, the mean over spans."""
  return losses.mean_multilabel_symmetric_kl(
    scores1, scores2, where=where, axis=(-3, -2, -1)
  )


def softmax_divergence(scores1, scores2, where):
  """Symmetric KL of one softmax over all spans of all kinds."""
  where = jnp.broadcast_to(where, scores1.shape)
  return losses.symmetric_kl(
    *(a.reshape(len(a), -1) for a in (scores1, scores2)),
    where=where.reshape(len(where), -1),
  )


METHODS = {
  "token_ce": Method("BIO tags, cross-entropy", encoder.Tags),
  "gp": Method("GlobalPointer", encoder.Pointer),
  "gp_no_rope": Method(
    "GlobalPointer, no RoPE", functools.partial(encoder.Pointer, rope_base=None)
  ),
  "egp": Method("Efficient GlobalPointer", encoder.EfficientPointer),
  "egp_no_rope": Method(
    "Efficient GlobalPointer, no RoPE",
    functools.partial(encoder.EfficientPointer, rope_base=None),
  ),
  "gp_two_passes": Method("two passes", encoder.Pointer, no_divergence),
  "gp_r_drop": Method(
    "R-Drop, multi-label KL", encoder.Pointer, multilabel_divergence
  ),
  "gp_r_drop_softmax": Method(
    "R-Drop, softmax KL", encoder.Pointer, softmax_divergence
  ),
}


def prepare(data: splits.Data, seeds, train: dict) -> dict[str, np.ndarray]:
  """The arrays of each seed, [S, ...]."""
  return splits.stacked([splits.of_seed(data, s, **train) for s in seeds])


def loss_of(outputs, tags):
  """[B]: cross-entropies of logits [B, n, 1 + 2 K], or ZLPR of [B, K, n, n]."""
  is_token = tags >= 0
  if outputs.ndim == 3:
    nll = optax.softmax_cross_entropy_with_integer_labels(
      outputs, jnp.maximum(tags, 0)
    )
    return jnp.sum(nll, axis=-1, where=is_token)
  names = spans.spans_of_tags(tags, outputs.shape[1])
  return losses.zlpr(
    outputs,
    names.astype(jnp.float32),
    where=losses.span_mask(is_token),
    axis=(-2, -1),
  ).sum(-1)


def predicted(outputs, is_token):
  """boolean [B, K, n, n], the names in logits or scores: see `loss_of`."""
  if outputs.ndim == 3:
    tags = jnp.where(is_token, jnp.argmax(outputs, axis=-1), 0)
    return spans.spans_of_tags(tags, outputs.shape[-1] // 2)
  return (outputs > 0) & losses.span_mask(is_token)


def training_loss(method: Method, point: dict, outputs_of, tags, rng):
  """[B]: of one pass, or of two and what they differ by.

  Args:
    method: of METHODS.
    point: its `alpha` is that of `losses.r_drop`.
    outputs_of: key of dropout -> outputs of the network.
    tags: int32 [B, n].
    rng: key.
  """
  if method.divergence is None:
    return loss_of(outputs_of(rng), tags)
  first, second = map(outputs_of, jax.random.split(rng))
  divergence = method.divergence(first, second, losses.span_mask(tags >= 0))
  return losses.r_drop(
    loss_of(first, tags),
    loss_of(second, tags),
    divergence,
    alpha=point.get("alpha", 0.0),
  )


def make_trial(network, method: Method):
  """trial(point, seed, shared) -> measures; shared has x and y, all of them."""
  network = network.clone(head=method.head)

  def trial(point, seed, shared):
    def loss_fn(params, inputs, progress):
      del progress
      indices, rng = inputs
      x, y = shared["x"][indices], shared["y"][indices]

      def outputs_of(rng):
        return network.apply({"params": params}, x, rngs={"dropout": rng})

      return jnp.mean(training_loss(method, point, outputs_of, y, rng))

    rng_init, rng_dropout = jax.random.split(jax.random.key(seed["seed"]))
    params = network.init(rng_init, shared["x"][:1])["params"]
    rngs = jax.random.split(rng_dropout, len(seed["batches"]))
    params = training.fit(
      loss_fn,
      params,
      (seed["batches"], rngs),
      transform=methods.adam(point),
      lr=point["lr"],
    )

    def counts_of(index):  # one by one: n^2 scores each
      x, y = shared["x"][index][None], shared["y"][index][None]
      names = spans.spans_of_tags(y, network.num_outputs)
      found = predicted(network.apply({"params": params}, x), y >= 0)
      return jnp.stack([(names & found).sum(), found.sum(), names.sum()])

    return {
      part: measures(jax.lax.map(counts_of, seed[part], batch_size=64).sum(0))
      for part in ("validation", "test")
    }

  return trial


def measures(counts) -> dict[str, jax.Array]:
  """Of counts [3] of names: right ones, predicted ones, those that exist.

  Returns:
    f1, precision and recall of names: kind, first and last token are right.
  """
  right, found, exist = counts
  return {
    "f1": 2 * right / jnp.maximum(found + exist, 1),
    "precision": right / jnp.maximum(found, 1),
    "recall": right / jnp.maximum(exist, 1),
  }
