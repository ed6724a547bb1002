# SPDX-License-Identifier: Apache-2.0
"""Trains the network of a config. The same command again resumes.

  python -m experiments.train --config=configs/digits.py --workdir=runs/digits

The workdir then holds config.json, environment.json, metrics.jsonl (the
record), tensorboard/, samples/ and checkpoints/.
"""

import time

from absl import flags
import jax
import jax.numpy as jnp
from ml_collections import config_flags
import numpy as np
import tqdm

from experiments import cli
from experiments import grids
from experiments import records
from experiments import workdir as workdir_lib
from simple_diffusion import build
from simple_diffusion import checkpoints
from simple_diffusion import data
from simple_diffusion import images
from simple_diffusion import sampler
from simple_diffusion import sizes
from simple_diffusion import train

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "What to train: a file of configs/.", lock_config=True
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where the run is kept.")
flags.mark_flags_as_required(["config", "workdir"])


def check(config, source, num_devices):
  """Raises ValueError if parts of the config contradict one another."""
  t = config.train
  for name in (
    "batch_size",
    "accum_steps",
    "total_steps",
    "log_every_steps",
    "checkpoint_every_steps",
    "sample_every_steps",
    "num_samples",
  ):
    if t[name] < 1:
      raise ValueError(f"train.{name}={t[name]} must be at least 1")
  num_parts = num_devices * t.accum_steps
  if t.batch_size % num_parts:
    low = t.batch_size // num_parts * num_parts
    fits = " or ".join(str(b) for b in (low, low + num_parts) if b)
    raise ValueError(
      f"train.batch_size={t.batch_size} is not divisible by {num_devices} "
      f"devices x {t.accum_steps} accum_steps; use {fits}"
    )
  if t.checkpoint_every_steps % t.log_every_steps:
    raise ValueError(
      f"train.checkpoint_every_steps={t.checkpoint_every_steps} must be a "
      f"multiple of log_every_steps={t.log_every_steps}, so that a resumed "
      "record has no gap"
    )
  if config.model.num_classes not in (0, source.num_classes):
    raise ValueError(
      f"model.num_classes={config.model.num_classes}, but {config.data.name} "
      f"has {source.num_classes}; use that, or 0 to ignore labels"
    )


def first_not_finite(metrics, first_step):
  """(step, name, value) of the first non-finite metric, or None."""
  for i in range(len(metrics["loss"])):
    for name in ("loss", "grad_norm"):
      if not np.isfinite(metrics[name][i]):
        return first_step + i, name, metrics[name][i]
  return None


def main(_):
  config, workdir = _CONFIG.value, _WORKDIR.value
  t = config.train

  # -- Everything that the user can get wrong, before anything is compiled ----
  with cli.user_errors():
    source = data.make_source(
      name=config.data.name,
      split=config.data.split,
      data_dir=config.data.data_dir,
    )
    if config.model.num_classes is None:
      config.model.num_classes = source.num_classes
    check(config, source, jax.device_count())
    path = workdir_lib.check(workdir, config)
    network = build.make_network(config.model)
    table = sizes.size_table(network, build.image_shape(config))
    stream = build.make_stream(config, source)
    replicated, by_example = train.shardings(train.make_mesh())

    def init():
      return build.init_state(config, network)

    step_fn = jax.jit(
      build.make_train_step(config, network),
      in_shardings=(replicated, by_example),
      out_shardings=(replicated, None),
      donate_argnums=0,
    )
    divides = t.num_samples % jax.device_count() == 0
    sample_fn = build.make_sample_fn(
      config, network, example=by_example if divides else replicated
    )
    keys = sampler.keys_for(t.seed, jnp.arange(t.num_samples))
    labels = jnp.arange(t.num_samples) % max(1, config.model.num_classes)
    # Tracing finds what does not fit; reading finds a broken image.
    abstract_state = train.with_sharding(jax.eval_shape(init), replicated)
    step_fn.eval_shape(abstract_state, train.to_devices(stream[0], by_example))
    sample_fn.eval_shape(abstract_state.ema_params, keys, labels)
    workdir_lib.claim(path, config)
  print(table)

  # -- State: new, or that of the newest checkpoint ---------------------------
  manager = checkpoints.open_manager(path, keep=t.keep_checkpoints)
  start_step = manager.latest_step() or 0
  if start_step:
    with cli.user_errors():
      state = checkpoints.restore(manager, start_step, abstract_state)
    print(f"resuming {path} from step {start_step}")
  else:
    state = jax.jit(init, out_shardings=replicated)()

  # -- The loop ---------------------------------------------------------------
  batches = data.iterate(
    stream, start_step=start_step, num_threads=config.data.num_threads
  )
  window, pending = [], None  # metrics on the device, not waited for
  newest_grid = None
  wait_s, window_start_s = 0.0, time.perf_counter()

  with (
    records.open_records(path, start_step=start_step) as write,
    tqdm.tqdm(
      total=t.total_steps,
      initial=start_step,
      unit="step",
      dynamic_ncols=True,
      disable=jax.process_index() > 0,
    ) as progress,
    manager,
  ):

    def flush():
      """Writes the record of the last full window, or stops the run."""
      nonlocal pending
      if pending is None:
        return
      step, window, speed = pending
      pending = None
      metrics = jax.device_get(window)
      metrics = {k: np.stack([m[k] for m in metrics]) for k in metrics[0]}
      if bad := first_not_finite(metrics, step - len(window) + 1):
        raise FloatingPointError(
          f"{bad[1]} is {bad[2]} at step {bad[0]}; the parameters were not "
          "updated, and checkpoints are from before. Lower optim.lr or raise "
          "optim.warmup_steps, and start a new workdir"
        )
      record = {name: float(value.mean()) for name, value in metrics.items()}
      write({"step": step, **record, **speed})
      progress.set_postfix(loss=f"{record['loss']:.4f}")

    for step in range(start_step + 1, t.total_steps + 1):
      began_s = time.perf_counter()
      with cli.user_errors():  # a broken or too small image
        batch = next(batches)
      wait_s += time.perf_counter() - began_s
      batch = train.to_devices(batch, by_example)
      state, metrics = step_fn(state, batch)
      window.append(metrics)
      progress.update()

      is_last = step == t.total_steps
      if step % t.log_every_steps == 0 or is_last:
        flush()
        now_s = time.perf_counter()
        elapsed_s = now_s - window_start_s
        pending = (
          step,
          window,
          {
            "steps_per_second": len(window) / elapsed_s,
            "data_wait_fraction": wait_s / elapsed_s,
          },
        )
        window, wait_s, window_start_s = [], 0.0, now_s
      if step % t.sample_every_steps == 0 or is_last:
        jax.block_until_ready(state)
        began_s = time.perf_counter()
        grid = np.asarray(sample_fn(state.ema_params, keys, labels))
        newest_grid = path / "samples" / f"step_{step:08d}.png"
        grids.save_grid(newest_grid, images.to_uint8(grid), num_columns=10)
        window_start_s += time.perf_counter() - began_s
      if step % t.checkpoint_every_steps == 0 or is_last:
        # Record and grid reach the disk before the checkpoint does: whatever a
        # kill loses is made again.
        flush()
        checkpoints.save(manager, step, state)
    manager.wait_until_finished()
  print(f"done: {newest_grid or f'{path} is at step {start_step} already'}")


if __name__ == "__main__":
  cli.run(main)
