# SPDX-License-Identifier: Apache-2.0
"""The training step, with networks small enough to be worked by hand."""

import functools
import json
import os
import pathlib
import subprocess
import sys

import chex
from flax import linen as nn
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import optax
import pytest

from simple_diffusion import build
from simple_diffusion import schedules
from simple_diffusion import sharding
from simple_diffusion import train
from simple_diffusion import uvit

NUM_CLASSES = 3
SHAPE = (4, 4, 1)
SCHEDULE = schedules.cosine(image_size=4)
OBJECTIVE = dict(prediction="v", loss_space="v", weighting="constant")


class Toy(nn.Module):
  """Two dense layers that see noise level and label."""

  @nn.compact
  def __call__(self, z, logsnr, labels, *, train=False):
    h = nn.Dense(32)(z.reshape(z.shape[0], -1))
    h += nn.Embed(NUM_CLASSES + 1, 32)(labels)
    h += nn.Dense(32)(jax.nn.sigmoid(logsnr)[:, None])
    return nn.Dense(z[0].size)(nn.swish(h)).reshape(z.shape)


class Spy:
  """Predicts v = fn(w) everywhere, and keeps what it was called with.

  Steps that are not compiled pass it plain arrays, even under jax.grad.
  """

  def __init__(self, fn=lambda w: w):
    self.fn, self.seen = fn, []

  def apply(self, variables, z, logsnr, labels, *, train, rngs):
    call = dict(z=z, logsnr=logsnr, labels=labels)
    call["dropout_key"] = jax.random.key_data(rngs["dropout"])
    self.seen.append({"train": train, **jax.tree.map(np.asarray, call)})
    return jnp.full_like(z, 1) * self.fn(variables["params"]["w"])


def make_step(network, optimizer, **changes):
  options = dict(
    schedule=SCHEDULE,
    objective_options=OBJECTIVE,
    num_classes=NUM_CLASSES,
    max_grad_norm=np.inf,
    ema_decay=0.28,
    label_dropout=0.1,
    times="stratified",
    accum_steps=1,
  )
  options.update(changes)
  return train.make_train_step(network=network, optimizer=optimizer, **options)


def spy_state(optimizer, w=0.0, step=0, seed=0):
  params = {"w": jnp.float32(w)}
  return train.TrainState(
    seed=jnp.uint32(seed),
    step=jnp.int32(step),
    params=params,
    ema_params=params,
    opt_state=optimizer.init(params),
    halted=jnp.bool_(False),
  )


def toy_state(optimizer):
  return train.init_state(
    1, network=Toy(), optimizer=optimizer, image_shape=SHAPE
  )


@functools.cache
def toy_step(accum_steps=1):
  """A compiled step of Toy with Adam."""
  optimizer = optax.adam(1e-2)
  step = make_step(Toy(), optimizer, accum_steps=accum_steps)
  return optimizer, jax.jit(step)


def make_batch(batch_size=8, seed=0, shape=SHAPE):
  rng = np.random.default_rng(seed)
  image = rng.uniform(-1, 1, (batch_size, *shape)).astype(np.float32)
  label = np.arange(batch_size, dtype=np.int32) % NUM_CLASSES
  return {"image": image, "label": label}


def test_one_step_by_hand():
  spy, optimizer, batch = Spy(), optax.sgd(0.25), make_batch()
  state, metrics = make_step(spy, optimizer)(spy_state(optimizer), batch)
  (seen,) = spy.seen
  alpha2 = 1 / (1 + np.exp(-np.float64(seen["logsnr"])))
  alpha, sigma = (np.sqrt(a)[:, None, None, None] for a in (alpha2, 1 - alpha2))
  x = np.float64(batch["image"])
  eps = (seen["z"] - alpha * x) / sigma
  v = alpha * eps - sigma * x
  # The prediction is w = 0: the loss is mean v^2, its gradient -2 mean v.
  np.testing.assert_allclose(metrics["loss"], (v**2).mean(), rtol=1e-4)
  np.testing.assert_allclose(metrics["v_mse"], (v**2).mean(), rtol=1e-4)
  # And eps_hat = sigma z.
  eps_mse = ((eps - sigma * seen["z"]) ** 2).mean()
  np.testing.assert_allclose(metrics["eps_mse"], eps_mse, rtol=1e-4)
  # Positive and negative v cancel in their mean: one digit less.
  np.testing.assert_allclose(metrics["grad_norm"], abs(2 * v.mean()), rtol=1e-3)
  w = 0.25 * 2 * v.mean()
  np.testing.assert_allclose(state.params["w"], w, rtol=1e-3)
  np.testing.assert_allclose(state.ema_params["w"], 0.9 * w, rtol=1e-3)
  assert int(state.step) == 1 and seen["train"] is True
  chex.assert_shape(jax.tree.leaves(metrics), ())


def test_noise_is_standard_normal_and_times_are_as_asked():
  optimizer, batch = optax.sgd(0.1), make_batch(batch_size=512)
  for times in ("stratified", "uniform"):
    spy = Spy()
    make_step(spy, optimizer, times=times)(spy_state(optimizer), batch)
    logsnr = spy.seen[0]["logsnr"]
    t = np.sort(np.asarray(SCHEDULE.time(logsnr)))
    gaps = np.diff(t)
    if times == "stratified":
      np.testing.assert_allclose(gaps, 1 / 512, atol=1e-5)
    else:
      assert gaps.max() > 3 / 512
      assert np.abs(t - np.arange(512) / 512).max() < 0.1
    alpha2 = (1 / (1 + np.exp(-logsnr)))[:, None, None, None]
    eps = spy.seen[0]["z"] - np.sqrt(alpha2) * batch["image"]
    eps = (eps / np.sqrt(1 - alpha2))[logsnr < 5]  # float32 cancels above
    assert abs(eps.mean()) < 0.05 and abs(eps.std() - 1) < 0.05


def test_randomness_is_a_function_of_seed_and_step():
  optimizer, batch = optax.sgd(0.1), make_batch()

  def seen(step, seed):
    spy = Spy()
    step_fn = make_step(spy, optimizer, label_dropout=0.5)
    step_fn(spy_state(optimizer, step=step, seed=seed), batch)
    return spy.seen[0]

  chex.assert_trees_all_equal(seen(3, 0), seen(3, 0))
  for other in (seen(4, 0), seen(3, 1)):
    for name in ("z", "logsnr", "labels", "dropout_key"):
      assert not np.array_equal(seen(3, 0)[name], other[name]), name


def test_seeds_share_a_compilation_and_last():
  optimizer = optax.adam(1e-2)
  train_step = make_step(Toy(), optimizer)
  traced = []

  @jax.jit
  def init(seed):
    traced.append("init")
    return train.init_state(
      seed, network=Toy(), optimizer=optimizer, image_shape=SHAPE
    )

  @jax.jit
  def step_fn(state, batch):
    traced.append("step")
    return train_step(state, batch)

  ends = []
  for seed in (7, 2**32 - 1):
    state = init(np.uint32(seed))
    for i in range(2):
      state, _ = step_fn(state, make_batch(seed=i))
    assert int(state.seed) == seed
    ends.append(jax.tree.leaves(state.params)[0])
  assert not np.array_equal(*ends)
  assert traced == ["init", "step"]


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_label_dropout(rate):
  optimizer, spy, batch = optax.sgd(0.1), Spy(), make_batch(batch_size=2000)
  make_step(spy, optimizer, label_dropout=rate)(spy_state(optimizer), batch)
  hidden = spy.seen[0]["labels"] == NUM_CLASSES
  np.testing.assert_array_equal(
    spy.seen[0]["labels"][~hidden], batch["label"][~hidden]
  )
  assert abs(hidden.mean() - rate) <= 5 * np.sqrt(rate * (1 - rate) / 2000)


def test_unknown_times():
  with pytest.raises(ValueError, match="'late'.* uniform, stratified"):
    make_step(Toy(), optax.sgd(0.1), times="late")


def test_ema_recursion():
  optimizer, step_fn = toy_step()
  state = toy_state(optimizer)
  ema = jax.tree.map(np.float64, state.params)
  # min(0.28, (1 + i) / (10 + i)); the first three are the young average's.
  for i, decay in enumerate([1 / 10, 2 / 11, 3 / 12, 0.28, 0.28, 0.28]):
    state, _ = step_fn(state, make_batch(seed=i))
    ema = jax.tree.map(
      lambda e, p, d=decay: d * e + (1 - d) * np.float64(p), ema, state.params
    )
    chex.assert_trees_all_close(state.ema_params, ema, rtol=1e-5, atol=1e-6)
  assert int(state.step) == 6


OPTIM = dict(lr=0.1, b1=0.8, b2=0.95, eps=1e-3, weight_decay=0.02)


@pytest.mark.parametrize("warmup_steps", [0, 1, 4])
def test_clipped_adam(warmup_steps):
  optim = ml_collections.ConfigDict(OPTIM | dict(warmup_steps=warmup_steps))
  optimizer = build.make_optimizer(optim)
  update = jax.jit(
    train.make_update(optimizer=optimizer, max_grad_norm=1.0, ema_decay=0.9),
  )
  rng = np.random.default_rng(0)
  p = {"a": rng.normal(size=(3, 2)), "b": rng.normal(size=5)}
  params = jax.tree.map(jnp.float32, p)
  state = train.TrainState(
    seed=jnp.uint32(0),
    step=jnp.int32(0),
    params=params,
    ema_params=params,
    opt_state=optimizer.init(params),
    halted=jnp.bool_(False),
  )
  m = jax.tree.map(np.zeros_like, p)
  v = jax.tree.map(np.zeros_like, p)
  for i in range(8):
    scale = [0.01, 1, 30][i % 3]  # below, above and far above the clipping
    g = {k: scale * rng.normal(size=a.shape) for k, a in p.items()}
    grads = jax.tree.map(jnp.float32, g)
    state, grad_norm = update(state, grads, jnp.float32(0))

    norm = np.sqrt(sum((a**2).sum() for a in g.values()))
    np.testing.assert_allclose(grad_norm, norm, rtol=1e-6)
    lr = 0.1 * (min(1, i / warmup_steps) if warmup_steps else 1)
    for k in p:
      clipped = g[k] / max(1, norm)
      m[k] = 0.8 * m[k] + 0.2 * clipped
      v[k] = 0.95 * v[k] + 0.05 * clipped**2
      m_hat, v_hat = m[k] / (1 - 0.8 ** (i + 1)), v[k] / (1 - 0.95 ** (i + 1))
      p[k] = p[k] - lr * (m_hat / (np.sqrt(v_hat) + 1e-3) + 0.02 * p[k])
    chex.assert_trees_all_close(state.params, p, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("accum_steps", [2, 8])
def test_accumulation_is_one_batch(accum_steps):
  (optimizer, whole), (_, parts) = toy_step(), toy_step(accum_steps)
  state, batch = toy_state(optimizer), make_batch()
  for _ in range(3):
    expected = whole(state, batch)
    # Adam would turn rounding of a zero gradient into a whole step.
    chex.assert_trees_all_close(
      parts(state, batch), expected, rtol=1e-4, atol=1e-5
    )
    state = expected[0]


def test_parts_have_dropout_of_their_own():
  spy, optimizer = Spy(), optax.sgd(0.1)
  step = make_step(spy, optimizer, accum_steps=4)
  keys = []

  def apply(variables, z, logsnr, labels, *, train, rngs):
    jax.debug.callback(
      lambda key: keys.append(tuple(np.ravel(key))),
      jax.random.key_data(rngs["dropout"]),
    )
    return z * variables["params"]["w"]

  spy.apply = apply
  jax.block_until_ready(step(spy_state(optimizer), make_batch()))
  jax.effects_barrier()
  assert len(keys) == len(set(keys)) == 4


def assert_stays(before, after):
  assert bool(after.halted)
  for field in ("step", "params", "ema_params"):
    chex.assert_trees_all_equal(getattr(after, field), getattr(before, field))
  # The optimizer saw zeros: its moments are not poisoned.
  chex.assert_tree_all_finite(after.opt_state)


def test_nan_in_the_batch_halts_for_good():
  optimizer, step_fn = toy_step()
  good, bad = make_batch(), make_batch()
  bad["image"][5, 2, 1] = np.nan
  before, _ = step_fn(toy_state(optimizer), good)
  assert not bool(before.halted)
  halted, metrics = step_fn(before, bad)
  assert not np.isfinite(metrics["loss"])
  assert_stays(before, halted)
  still, metrics = step_fn(halted, good)
  assert np.isfinite(metrics["loss"])
  assert_stays(before, still)


def test_nan_in_the_gradient_alone_halts():
  # The loss is finite at w = 0, where the root has an infinite slope.
  spy, optimizer = Spy(fn=jnp.sqrt), optax.sgd(0.1)
  before = spy_state(optimizer, w=0.0)
  after, metrics = make_step(spy, optimizer)(before, make_batch())
  assert np.isfinite(metrics["loss"]) and not np.isfinite(metrics["grad_norm"])
  assert_stays(before, after)


def test_loss_falls():
  optimizer, step_fn = toy_step()
  state, batch, losses = toy_state(optimizer), make_batch(batch_size=2), []
  batch = jax.tree.map(lambda a: np.tile(a, (4,) + (1,) * (a.ndim - 1)), batch)
  for _ in range(300):
    state, metrics = step_fn(state, batch)
    losses.append(metrics["loss"])
  losses = np.array(losses)
  assert losses[-50:].mean() < 0.5 * losses[:20].mean()


def test_state_is_donated():
  optimizer, _ = toy_step()
  step_fn = jax.jit(make_step(Toy(), optimizer), donate_argnums=0)
  state, batch = toy_state(optimizer), make_batch()
  aliased = step_fn.lower(state, batch).compile().memory_analysis()
  num_bytes = sum(a.nbytes for a in jax.tree.leaves(state))
  assert aliased.alias_size_in_bytes == num_bytes
  step_fn(state, batch)  # An array that is there twice would be refused.
  assert all(a.is_deleted() for a in jax.tree.leaves(state))


class Blocks(nn.Module):
  """A convolution and the U-ViT's transformer, recomputed or not."""

  remat: str

  @nn.compact
  def __call__(self, z, logsnr, labels, *, train=False):
    emb = nn.Embed(NUM_CLASSES + 1, 8)(labels)
    emb += nn.Dense(8)(jax.nn.sigmoid(logsnr)[:, None])
    h = uvit.Transformer(
      width=8,
      num_blocks=2,
      num_heads=2,
      dropout=0.0,
      scan_unroll=1,
      remat=self.remat,
      dtype=jnp.float32,
    )(nn.Conv(8, (3, 3))(z), emb, train)
    return nn.Dense(1)(h)


def run_blocks(*, remat, accum_steps):
  """Three steps on all devices: metrics of each, and the last parameters."""
  # Plain gradient descent: Adam would magnify the rounding of zeros.
  network, optimizer = Blocks(remat=remat), optax.sgd(0.1)
  mesh = sharding.make_mesh(data=-1, fsdp=1)
  replicated, by_example = sharding.whole(mesh), sharding.by_example(mesh)
  step_fn = jax.jit(
    make_step(network, optimizer, accum_steps=accum_steps),
    in_shardings=(replicated, by_example),
    out_shardings=(replicated, replicated),
  )

  inputs = jnp.zeros((1, *SHAPE)), jnp.zeros(1), jnp.zeros(1, jnp.int32)
  shapes = jax.eval_shape(network.init, jax.random.key(0), *inputs)["params"]
  rng = np.random.default_rng(0)
  params = jax.tree.map(
    lambda a: rng.normal(scale=0.2, size=a.shape).astype(a.dtype), shapes
  )
  state = train.TrainState(
    seed=np.uint32(0),
    step=np.int32(0),
    params=params,
    ema_params=params,
    opt_state=optimizer.init(params),
    halted=np.bool_(False),
  )
  state = jax.device_put(state, replicated)
  history = []
  for i in range(3):
    batch = make_batch(batch_size=16, seed=i)
    state, metrics = step_fn(state, sharding.to_devices(batch, by_example))
    history.append({name: float(value) for name, value in metrics.items()})
  params = {
    jax.tree_util.keystr(path): np.asarray(leaf).tolist()
    for path, leaf in jax.tree.leaves_with_path(state.params)
  }
  return {"devices": jax.device_count(), "metrics": history, "params": params}


def test_devices_remat_and_parts_change_where_but_not_what():
  """8 devices, recomputation and 2 parts against 1 device and none."""
  program = (
    "import json, test_train;"
    "print(json.dumps(test_train.run_blocks(remat='all', accum_steps=2)))"
  )
  here = pathlib.Path(__file__).parent
  flags = os.environ["XLA_FLAGS"]
  flags += " --xla_force_host_platform_device_count=8"
  with subprocess.Popen(
    [sys.executable, "-c", program],
    stdout=subprocess.PIPE,
    text=True,
    env=os.environ
    | {"XLA_FLAGS": flags, "PYTHONPATH": f"{here}:{here.parent}"},
  ) as child:
    one = run_blocks(remat="none", accum_steps=1)
    eight = json.loads(child.communicate(timeout=120)[0])
  assert (one.pop("devices"), eight.pop("devices")) == (1, 8)
  chex.assert_trees_all_close(
    jax.tree.map(np.float64, eight),
    jax.tree.map(np.float64, one),
    rtol=1e-3,
    atol=1e-5,
  )
