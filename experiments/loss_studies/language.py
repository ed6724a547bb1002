# SPDX-License-Identifier: Apache-2.0
"""Language models of the studies: pretrained once, trained by a method.

Token t of a sequence [T] is predicted from those before it in the sequence, so
that the first ones are hard; perplexities are for this context.
"""

from collections.abc import Callable
import functools
import hashlib
import json
import pathlib

from flax import serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import tqdm

from experiments.loss_studies import decoder as decoder_lib
from experiments.loss_studies import language_methods
from experiments.loss_studies import methods
from experiments.loss_studies import text
from experiments.loss_studies import training
import losses


def make_decoder(network: dict, data: dict) -> decoder_lib.Decoder:
  """A decoder for the tokens of a config's data."""
  return decoder_lib.Decoder(
    vocab_size=data["vocab_size"], context=data["context"], **network
  )


def pretrain(decoder, tokens, train: dict):
  """Parameters after the maximum likelihood of a long text [N]; Adam.

  Args:
    decoder: the model.
    tokens: int32 [N].
    train: num_steps, batch_size and lr, which falls as a half cosine.
  """
  train = dict(train)
  lr = train.pop("lr")
  order = text.batches(
    tokens, np.random.default_rng(0), context=decoder.context, **train
  )
  optimizer = optax.adam(optax.cosine_decay_schedule(lr, len(order)))

  @jax.jit
  def step(params, state, batch):
    def loss_fn(params):
      hidden = decoder_lib.hidden(decoder, params, batch)
      head = decoder_lib.head(params)
      return losses.linear_nll(hidden, head, batch, vocab_axis=0).mean()

    loss, grads = jax.value_and_grad(loss_fn)(params)
    updates, state = optimizer.update(grads, state, params)
    return optax.apply_updates(params, updates), state, loss

  params = decoder_lib.init(decoder, jax.random.key(0))
  state = optimizer.init(params)
  bar = tqdm.tqdm(order, desc="pretraining", unit="step")
  for i, batch in enumerate(bar):
    params, state, loss = step(params, state, batch)
    if i % 50 == 0:
      bar.set_postfix(nll=f"{loss:.3f}")
  return params


def kept(folder: pathlib.Path, decoder, tokens, train: dict):
  """The parameters of `pretrain`, from a file of the folder if they are there.

  The file is named by all that they depend on, so that it is never of another
  text, model or training.
  """
  about = json.dumps([repr(decoder), train], sort_keys=True).encode()
  digest = hashlib.sha256(about + np.asarray(tokens).tobytes()).hexdigest()
  path = folder / f"pretrained_{digest[:12]}.msgpack"
  if path.exists():
    template = decoder_lib.init(decoder, jax.random.key(0))
    return serialization.from_bytes(template, path.read_bytes())
  params = pretrain(decoder, tokens, train)
  folder.mkdir(parents=True, exist_ok=True)
  half = path.with_suffix(".tmp")  # A kill leaves no half of a file.
  half.write_bytes(serialization.to_bytes(params))
  half.replace(path)
  return params


def make_trainer(decoder, method: language_methods.Method) -> Callable:
  """train(params, frozen, batches [steps, B, T], point): the parameters.

  Adam with decoupled weight decay; frozen is the head of fixed costs.
  """

  @jax.jit
  def train(params, frozen, batches, point):
    def loss_fn(params, tokens, progress):
      del progress
      hidden = decoder_lib.hidden(decoder, params, tokens)
      head = decoder_lib.head(params)
      return method.loss(hidden, head, frozen, tokens, point).mean()

    return training.fit(
      loss_fn,
      params,
      batches,
      transform=methods.adam(point),
      lr=point["lr"],
    )

  return train


@functools.partial(jax.jit, static_argnames="decoder")
def log_likelihood(decoder, params, tokens, temperature=1.0):
  """Mean log p of tokens [N, T] under softmax(logits / temperature)."""
  hidden = decoder_lib.hidden(decoder, params, tokens) / temperature
  head = decoder_lib.head(params)
  return -losses.linear_nll(hidden, head, tokens, vocab_axis=0).mean()


@functools.partial(jax.jit, static_argnames="decoder")
def earth_mover(decoder, params, tokens, cost_embedding, temperature=1.0):
  """Mean distance of tokens [N, T], by costs of vectors [V, D]."""
  terms = losses.linear_emo_terms(
    decoder_lib.hidden(decoder, params, tokens) / temperature,
    decoder_lib.head(params),
    tokens,
    vocab_axis=0,
    cost_embedding=cost_embedding,
  )
  return terms.emd.mean()


@functools.partial(jax.jit, static_argnames=("first", "second"))
def total_variation(
  first, first_params, second, second_params, tokens, temperature=1.0
):
  """Mean over contexts of tokens [N, T] of sum_v |p_v - q_v| / 2.

  p is of the first model, q of the second with its logits over temperature.
  """

  def of_sequence(each):
    z = decoder_lib.logits(first, first_params, each[None])
    other = decoder_lib.logits(second, second_params, each[None])
    p, q = jax.nn.softmax(z), jax.nn.softmax(other / temperature)
    return jnp.abs(p - q).sum(-1).mean() / 2

  return jax.lax.map(of_sequence, tokens, batch_size=50).mean()
