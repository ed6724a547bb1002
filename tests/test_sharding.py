# SPDX-License-Identifier: Apache-2.0
"""The step on one device and on many: the same numbers, split as the rules say.

The programs need sixteen devices, so they run in a process of their own, once,
and the tests read what it measured.
"""

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
import numpy as np
import optax
import pytest

from configs import digits
from simple_diffusion import build
from simple_diffusion import checkpoints
from simple_diffusion import data
from simple_diffusion import objective
from simple_diffusion import programs as programs_lib
from simple_diffusion import sharding
from simple_diffusion import train

P = jax.sharding.PartitionSpec
NUM_STEPS, BATCH_SIZE = 6, 16

# Losses of one run on different meshes differ by the order of sums.
RTOL = 1e-5


# -- What the process with sixteen devices runs --------------------------------


def make_config(**model):
  config = digits.get_config()
  config.model.update(
    base_channels=8,
    emb_channels=8,
    channel_multiplier=(1, 2),
    num_res_blocks=(1,),
    num_transformer_blocks=1,
    num_heads=2,
    **model,
  )
  # With a small epsilon Adam makes steps of the rounding of zero gradients.
  config.optim.update(lr=1e-2, warmup_steps=2, eps=1e-3)
  config.train.update(batch_size=BATCH_SIZE)
  return config


def make_batches(config):
  source = data.make_source(name="digits", split="train")
  stream = build.make_stream(config, source)
  return [stream[i] for i in range(NUM_STEPS)]


def make_mesh(num_data, num_fsdp):
  devices = jax.devices()[: num_data * num_fsdp]
  return sharding.make_mesh(data=num_data, fsdp=num_fsdp, devices=devices)


def run(config, mesh, *, state=None, start=0, after=lambda step, state: None):
  """Metrics of each step, and the last state."""
  programs = programs_lib.make_programs(config, mesh)
  if state is None:  # Initialised once, since each mesh would compile it.
    shardings = jax.tree.map(lambda a: a.sharding, programs.state)
    state = jax.device_put(first_state(), shardings)
  else:
    state = state(programs)
  history = []
  for step, batch in enumerate(make_batches(config)[start:], start + 1):
    batch = sharding.to_devices(batch, sharding.by_example(mesh))
    state, metrics = programs.train_step(state, batch)
    after(step, state)
    history.append({name: float(value) for name, value in metrics.items()})
  return history, state


@functools.cache
def first_state():
  config = make_config()
  network = build.make_network(config.model)
  # In NumPy: the steps donate what they are given.
  return jax.device_get(
    jax.jit(lambda: build.init_state(config, network, seed=0))()
  )


def share_on_one_device(tree):
  """Bytes of a tree's first shards over those of the whole."""
  leaves = jax.tree.leaves(tree)
  held = sum(a.addressable_shards[0].data.nbytes for a in leaves)
  return held / sum(a.nbytes for a in leaves)


def pmap_history(config, num_devices):
  """The same training by jax.pmap, written out; without dropout and EMA."""
  network = build.make_network(config.model)
  schedule = build.make_schedule(config)
  optimizer = optax.chain(
    optax.clip_by_global_norm(config.optim.max_grad_norm),
    build.make_optimizer(config.optim),
  )
  rows = BATCH_SIZE // num_devices
  params = first_state().params

  def mine(array):
    return jax.lax.dynamic_slice_in_dim(
      array, jax.lax.axis_index("devices") * rows, rows
    )

  def step(params, opt_state, batch, step_index):
    rng = jax.random.fold_in(jax.random.key(config.train.seed), 1)
    rng = jax.random.fold_in(rng, step_index)
    rng_time, rng_noise, rng_label, _ = jax.random.split(rng, 4)
    x, labels = batch["image"], batch["label"]
    shape = (BATCH_SIZE, *x.shape[1:])
    t = mine(objective.stratified_times(rng_time, BATCH_SIZE))
    eps = mine(jax.random.normal(rng_noise, shape))
    hide = jax.random.bernoulli(
      rng_label, config.train.label_dropout, (BATCH_SIZE,)
    )
    labels = jnp.where(mine(hide), config.model.num_classes, labels)
    logsnr = schedule.logsnr(t)
    alpha = jnp.sqrt(jax.nn.sigmoid(logsnr))[:, None, None, None]
    sigma = jnp.sqrt(jax.nn.sigmoid(-logsnr))[:, None, None, None]

    def loss_fn(params):
      z = alpha * x + sigma * eps
      v_hat = network.apply({"params": params}, z, logsnr, labels)
      return jnp.mean((alpha * eps - sigma * x - v_hat) ** 2)

    loss, grads = jax.value_and_grad(loss_fn)(params)
    loss, grads = jax.lax.pmean((loss, grads), "devices")
    norm = optax.tree.norm(grads)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, loss, norm

  step = jax.pmap(
    step,
    axis_name="devices",
    in_axes=(None, None, 0, None),
    out_axes=None,
    devices=jax.devices()[:num_devices],
  )
  opt_state, history = optimizer.init(params), []
  for i, batch in enumerate(make_batches(config)):
    parts = jax.tree.map(
      lambda a: a.reshape(num_devices, rows, *a.shape[1:]), batch
    )
    params, opt_state, loss, norm = step(params, opt_state, parts, i)
    history.append({"loss": float(loss), "grad_norm": float(norm)})
  return history


class PerExample(nn.Module):
  """Predicts v_hat = w_i z_i: the gradient of w_i is of example i's draws."""

  @nn.compact
  def __call__(self, z, logsnr, labels, *, train=False):
    w = self.param("w", nn.initializers.zeros, (BATCH_SIZE,))
    return w[: len(z), None, None, None] * z


def draws_by_example(mesh):
  """What equal images with equal labels get of noise and time: [B]."""
  config = make_config()
  step = train.make_train_step(
    network=PerExample(),
    schedule=build.make_schedule(config),
    optimizer=optax.sgd(1.0),
    objective_options=dict(config.objective),
    num_classes=10,
    max_grad_norm=np.inf,
    ema_decay=0.9,
    label_dropout=0.0,
    times="uniform",
    accum_steps=1,
  )
  params = {"w": jnp.zeros(BATCH_SIZE)}
  state = train.TrainState(
    seed=jnp.uint32(0),
    step=jnp.int32(0),
    params=params,
    ema_params=params,
    opt_state=optax.sgd(1.0).init(params),
    halted=jnp.bool_(False),
  )
  whole, by_example = sharding.whole(mesh), sharding.by_example(mesh)
  step = jax.jit(
    sharding.traced_on(mesh, step), in_shardings=(whole, by_example)
  )
  batch = {
    "image": np.full((BATCH_SIZE, 8, 8, 1), 0.5, np.float32),
    "label": np.zeros(BATCH_SIZE, np.int32),
  }
  state, _ = step(state, sharding.to_devices(batch, by_example))
  return np.asarray(state.params["w"]).tolist()


def measure(folder):
  config, plain = make_config(), make_config(transformer_dropout=0.0)
  manager = checkpoints.open_manager(folder, keep=2)

  def save(step, state):
    if step == NUM_STEPS // 2:
      checkpoints.save(manager, step, state)
      manager.wait_until_finished()

  def restored(programs):
    return checkpoints.restore(manager, NUM_STEPS // 2, programs.state)

  found = {"curves": {}, "resumed": {}}
  for num_data, num_fsdp in ((1, 1), (8, 1), (1, 8)):
    found["curves"][f"{num_data}x{num_fsdp}"] = run(
      config, make_mesh(num_data, num_fsdp)
    )[0]
  history, state = run(config, make_mesh(2, 4), after=save)
  found["curves"]["2x4"] = history
  found["shares"] = {
    name: share_on_one_device(getattr(state, name))
    for name in ("params", "ema_params", "opt_state")
  }
  for num_data, num_fsdp in ((1, 1), (2, 1), (1, 4), (4, 4)):
    found["resumed"][str(num_data * num_fsdp)] = run(
      config,
      make_mesh(num_data, num_fsdp),
      state=restored,
      start=NUM_STEPS // 2,
    )[0]
  found["pmap"] = pmap_history(plain, 8)
  found["as_pmap"] = run(plain, make_mesh(4, 2))[0]
  found["draws"] = {
    "1": draws_by_example(make_mesh(1, 1)),
    "8": draws_by_example(make_mesh(4, 2)),
  }
  print(json.dumps(found))


# -- The tests -----------------------------------------------------------------


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
  here = pathlib.Path(__file__).parent
  folder = str(tmp_path_factory.mktemp("sharded"))
  program = f"import test_sharding; test_sharding.measure({folder!r})"
  flags = os.environ["XLA_FLAGS"]
  flags += " --xla_force_host_platform_device_count=16"
  done = subprocess.run(
    [sys.executable, "-c", program],
    env=os.environ
    | {"XLA_FLAGS": flags, "PYTHONPATH": f"{here}:{here.parent}"},
    capture_output=True,
    text=True,
    check=False,
    timeout=500,
  )
  assert done.returncode == 0, done.stderr
  return json.loads(done.stdout.splitlines()[-1])


def values(history, *names):
  return np.array([[step[name] for name in names] for step in history])


@pytest.mark.slow
@pytest.mark.parametrize("mesh", ["8x1", "1x8", "2x4"])
def test_curve_of_one_device(measured, mesh):
  names = "loss", "eps_mse", "v_mse", "grad_norm"
  one, many = (values(measured["curves"][m], *names) for m in ("1x1", mesh))
  assert len(set(one[:, 0])) == NUM_STEPS
  np.testing.assert_allclose(many, one, rtol=RTOL)


@pytest.mark.slow
def test_curve_of_pmap(measured):
  names = "loss", "grad_norm"
  np.testing.assert_allclose(
    values(measured["as_pmap"], *names),
    values(measured["pmap"], *names),
    rtol=RTOL,
  )


@pytest.mark.slow
@pytest.mark.parametrize("num_devices", ["1", "2", "4", "16"])
def test_checkpoint_of_eight_devices_goes_on_elsewhere(measured, num_devices):
  names = "loss", "eps_mse", "v_mse", "grad_norm"
  expected = values(measured["curves"]["2x4"], *names)[NUM_STEPS // 2 :]
  resumed = values(measured["resumed"][num_devices], *names)
  np.testing.assert_allclose(resumed, expected, rtol=RTOL)


@pytest.mark.slow
def test_state_is_split(measured):
  # 1/4 of what is split, and all of the biases and scales.
  for name, share in measured["shares"].items():
    assert 0.25 < share < 0.4, name


@pytest.mark.slow
def test_devices_draw_their_own_noise_and_times(measured):
  one, many = (np.array(measured["draws"][n]) for n in ("1", "8"))
  np.testing.assert_allclose(many, one, rtol=1e-5)
  # Any two of the sixteen differ, those of different devices among them.
  assert np.abs(np.diff(np.sort(many))).min() > 1e-6


@pytest.mark.parametrize(
  "path, shape, spec",
  [
    ("blocks/Dense_0/kernel", (36, 2048, 8192), P(None, "fsdp")),
    ("params/down_0/Conv_0/kernel", (3, 3, 64, 8), P(None, None, "fsdp")),
    ("kernel", (64, 3), P("fsdp")),
    ("stem/Conv_0/kernel", (3, 3, 3, 64), P()),  # 3 channels, 4 parts
    ("blocks/Dense_0/bias", (36, 8192), P()),
    ("transformer/position", (1, 256, 2048), P()),
    ("Embed_0/embedding", (1001, 1024), P()),
    ("my_kernel", (64, 64), P()),
  ],
)
def test_rules(path, shape, spec):
  assert sharding.spec_of(path, shape, fsdp=4) == spec


def test_average_and_moments_follow_their_parameter():
  config = make_config()
  network = build.make_network(config.model)
  state = jax.eval_shape(lambda: build.init_state(config, network, seed=0))
  mesh = sharding.make_mesh(data=1, fsdp=1)
  specs = sharding.state_specs(mesh, state)
  chex.assert_trees_all_equal(specs.params, specs.ema_params)
  (adam,) = (s for s in specs.opt_state if hasattr(s, "mu"))
  chex.assert_trees_all_equal(specs.params, adam.mu)
  chex.assert_trees_all_equal(specs.params, adam.nu)
  assert P(None, "fsdp") in jax.tree.leaves(
    specs.params, is_leaf=lambda s: isinstance(s, P)
  )


@pytest.mark.parametrize(
  "data_axis, fsdp, message",
  [
    (2, 1, "mesh.data=2 x mesh.fsdp=1 does not make the 1 devices"),
    (-1, 3, "mesh.fsdp=3 .*one of 1$"),
    (-1, -1, "mesh.data=-1 x mesh.fsdp=-1"),
    (0, 1, "mesh.data=0"),
  ],
)
def test_impossible_mesh(data_axis, fsdp, message):
  with pytest.raises(ValueError, match=message):
    sharding.make_mesh(data=data_axis, fsdp=fsdp, devices=jax.devices()[:1])


@pytest.mark.parametrize(
  "data_axis, fsdp, sizes",
  [(-1, 2, (4, 2)), (2, -1, (2, 4)), (-1, 1, (8, 1)), (1, -1, (1, 8))],
)
def test_rest_of_the_devices(data_axis, fsdp, sizes):
  assert sharding.axis_sizes(data_axis, fsdp, 8) == sizes
