# SPDX-License-Identifier: Apache-2.0
"""Measures the training step of a config against plain code, and its data.

  python -m scripts.benchmark --config=configs/digits.py

* step_ratio: time of the training step over that of `PlainUViT` below, the
  same network and objective written in the plainest way. Below 1 is faster.
* data_wait: share of the step that the device waits for data, from runs on the
  real stream and on one batch that never leaves the device.

The two sides alternate in one process and their medians are compared, because
absolute times on a shared machine mean little.
"""

import json
import math
import pathlib
import time

from absl import flags
from flax import linen as nn
import jax
import jax.numpy as jnp
from ml_collections import config_flags
import numpy as np
import optax

from experiments import cli
from experiments import records
from experiments import workdir
from simple_diffusion import build
from simple_diffusion import data
from simple_diffusion import layers
from simple_diffusion import patching
from simple_diffusion import sizes

_CONFIG = config_flags.DEFINE_config_file("config", "configs/digits.py")
_ROUNDS = flags.DEFINE_integer("rounds", 40, "Alternations.")
_STEPS = flags.DEFINE_integer("steps", 5, "Training steps a round.")
_RESULTS = flags.DEFINE_string(
  "results", "experiments/results/benchmark.jsonl", "File to append to."
)


class PlainUViT(nn.Module):
  """The U-ViT as one would type it: a loop over blocks, attention by einsum."""

  model: dict

  @nn.compact
  def __call__(self, z, logsnr, labels, train):
    m = self.model
    emb = layers.logsnr_features(
      logsnr, m["base_channels"], m["logsnr_input_type"]
    )
    emb = nn.swish(nn.Dense(m["emb_channels"])(emb))
    emb = nn.Dense(m["emb_channels"])(emb)
    emb += nn.Embed(m["num_classes"] + 1, m["emb_channels"])(labels)
    emb = nn.swish(emb)

    def norm(h):
      return nn.GroupNorm(math.gcd(32, h.shape[-1]))(h)

    def film(h, emb):
      scale, shift = jnp.split(nn.Dense(2 * h.shape[-1])(emb), 2, axis=-1)
      shape = (len(h),) + (1,) * (h.ndim - 2) + (-1,)
      return h * (1 + scale.reshape(shape)) + shift.reshape(shape)

    def res_block(h, channels):
      y = nn.Conv(channels, (3, 3))(nn.swish(norm(h)))
      y = nn.swish(film(norm(y), emb))
      y = nn.Conv(channels, (3, 3), kernel_init=nn.initializers.zeros)(y)
      return y + (h if h.shape == y.shape else nn.Dense(channels)(h))

    def transformer_block(h):
      b, n, d = h.shape
      heads = m["num_heads"]
      qkv = nn.Dense(3 * d)(nn.LayerNorm()(h)).reshape(b, n, 3, heads, -1)
      q, k, v = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
      logits = jnp.einsum("bqhc,bkhc->bhqk", q, k) / np.sqrt(d / heads)
      y = jnp.einsum("bhqk,bkhc->bqhc", nn.softmax(logits), v)
      zeros = nn.initializers.zeros
      h = h + nn.Dense(d, kernel_init=zeros)(y.reshape(b, n, d))
      y = nn.LayerNorm(use_scale=False, use_bias=False)(h)
      y = nn.gelu(nn.Dense(4 * d)(film(y, emb)))
      y = nn.Dropout(m["transformer_dropout"], deterministic=not train)(y)
      return h + nn.Dense(d, kernel_init=zeros)(y)

    *channels, width = [m["base_channels"] * c for c in m["channel_multiplier"]]
    h = nn.Conv(channels[0], (3, 3))(patching.patch(z, m["patching"]))
    skips = []
    for c, n in zip(channels, m["num_res_blocks"], strict=True):
      for _ in range(n):
        h = res_block(h, c)
        skips.append(h)
      h = nn.avg_pool(h, (2, 2), (2, 2))
    b, height, w, _ = h.shape
    h = nn.Dense(width)(h).reshape(b, -1, width)
    h += self.param("position", nn.initializers.normal(0.02), h[:1].shape)
    for _ in range(m["num_transformer_blocks"]):
      h = transformer_block(h)
    h = h.reshape(b, height, w, width)
    for c, n in reversed(list(zip(channels, m["num_res_blocks"], strict=True))):
      h = nn.Dense(c)(h).repeat(2, axis=1).repeat(2, axis=2)
      for _ in range(n):
        h = res_block(jnp.concatenate([h, skips.pop()], axis=-1), c)
    num_out = z.size // (h.shape[0] * h.shape[1] * h.shape[2])
    h = nn.swish(norm(h))
    h = nn.Conv(num_out, (3, 3), kernel_init=nn.initializers.zeros)(h)
    return patching.unpatch(h, m["patching"])


def plain_step(config, network, schedule, optimizer):
  """A v-MSE step typed out, with the same randomness, optimizer and EMA."""
  t = config.train

  def loss_fn(params, x, labels, rng):
    rng_t, rng_eps, rng_drop = jax.random.split(rng, 3)
    offset = jax.random.uniform(rng_t)
    time_ = (offset + jnp.arange(len(x)) / len(x)) % 1
    logsnr = schedule.logsnr(time_)
    level = logsnr[:, None, None, None]
    alpha, sigma = (jnp.sqrt(nn.sigmoid(s * level)) for s in (1, -1))
    eps = jax.random.normal(rng_eps, x.shape)
    v_hat = network.apply(
      {"params": params},
      alpha * x + sigma * eps,
      logsnr,
      labels,
      True,
      rngs={"dropout": rng_drop},
    )
    return jnp.mean((alpha * eps - sigma * x - v_hat) ** 2)

  def step(state, batch):
    step_, params, ema, opt_state = state
    rng, rng_label = jax.random.split(
      jax.random.fold_in(jax.random.key(t.seed), step_)
    )
    labels = batch["label"]
    hide = jax.random.bernoulli(rng_label, t.label_dropout, labels.shape)
    labels = jnp.where(hide, config.model.num_classes, labels)
    loss, grads = jax.value_and_grad(loss_fn)(
      params, batch["image"], labels, rng
    )
    updates, opt_state = optimizer.update(grads, opt_state, params)
    params = optax.apply_updates(params, updates)
    ema = jax.tree.map(
      lambda e, p: t.ema_decay * e + (1 - t.ema_decay) * p, ema, params
    )
    return (step_ + 1, params, ema, opt_state), loss

  return jax.jit(step, donate_argnums=0)


def timed(step, state, next_batch, num_steps):
  """(seconds per step, state) of num_steps steps, waited for at the end."""
  began = time.perf_counter()
  for _ in range(num_steps):
    state, _ = step(state, next_batch())
  jax.block_until_ready(state)
  return (time.perf_counter() - began) / num_steps, state


def count_parameters(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def check(config):
  """Raises ValueError if `PlainUViT` is not the config's network."""
  m = config.model
  if m.name != "uvit" or m.num_classes is None:
    raise ValueError(
      f"model.name={m.name}, model.num_classes={m.num_classes}: plain code is "
      "here for a U-ViT with a known number of classes; python -m "
      "scripts.bench_step measures every config"
    )


def main(_):
  config = _CONFIG.value
  with cli.user_errors():
    check(config)
  shape = build.image_shape(config)
  network = build.make_network(config.model)
  schedule = build.make_schedule(config)
  optimizer = optax.chain(
    optax.clip_by_global_norm(config.optim.max_grad_norm),
    build.make_optimizer(config.optim),
  )
  step = jax.jit(build.make_train_step(config, network), donate_argnums=0)

  def new_state():
    return build.init_state(config, network, seed=0)

  plain_network = PlainUViT(config.model.to_dict())
  example = (jnp.zeros((1, *shape)), jnp.zeros(1), jnp.zeros(1, jnp.int32))
  plain_params = plain_network.init(jax.random.key(0), *example, False)
  plain_params = plain_params["params"]
  params = new_state().params
  num_parameters = count_parameters(params)
  macs = sizes.macs_by_scope(
    lambda *args: network.apply({"params": params}, *args), *example
  )
  plain_macs = sizes.macs_by_scope(
    lambda *args: plain_network.apply({"params": plain_params}, *args, False),
    *example,
  )
  macs, plain_macs = sum(macs.values()), sum(plain_macs.values())
  if (macs, num_parameters) != (plain_macs, count_parameters(plain_params)):
    raise AssertionError("the two networks are not the same size")

  source = data.make_source(
    name=config.data.name,
    split=config.data.split,
    data_dir=config.data.data_dir,
  )
  stream = build.make_stream(config, source)
  batches = data.iterate(stream, num_threads=config.data.num_threads)
  fixed = jax.device_put(stream[0])
  plain_state = (
    jnp.int32(0),
    plain_params,
    jax.tree.map(jnp.copy, plain_params),
    optimizer.init(plain_params),
  )
  sides = {
    "ours": [step, new_state(), lambda: fixed],
    "plain": [
      plain_step(config, plain_network, schedule, optimizer),
      plain_state,
      lambda: fixed,
    ],
    "ours_with_data": [step, new_state(), lambda: next(batches)],
  }
  seconds = {name: [] for name in sides}
  for round_ in range(_ROUNDS.value + 1):
    for name, side in sides.items():
      taken, side[1] = timed(*side, _STEPS.value)
      if round_:  # The first round compiles.
        seconds[name].append(taken)
  # Ratios of neighbours in time: what slows the machine slows both.
  ours, plain, fed = (np.array(seconds[name]) for name in sides)
  record = {
    "benchmark": "train_step",
    "config": config.data.name,
    "parameters": num_parameters,
    "macs_per_image": macs,
    "rounds": _ROUNDS.value,
    "steps_per_round": _STEPS.value,
    "step_ratio": float(np.median(ours / plain)),
    "data_wait": float(np.median(1 - ours / fed)),
    "median_ms": {
      name: 1e3 * float(np.median(values)) for name, values in seconds.items()
    },
    "environment": workdir.environment(),
  }
  print(json.dumps({k: v for k, v in record.items() if k != "environment"}))
  records.append_result(pathlib.Path(_RESULTS.value), record)


if __name__ == "__main__":
  cli.run(main)
