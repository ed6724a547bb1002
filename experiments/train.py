# SPDX-License-Identifier: Apache-2.0
"""Trains the network of a config. The same command again resumes.

  python -m experiments.train --config=configs/digits.py --workdir=runs/digits

The workdir then holds config.json, environment.json, metrics.jsonl (the
record), tensorboard/, samples/ and checkpoints/.
"""

import functools
import time

from absl import flags
import jax
import jax.numpy as jnp
from ml_collections import config_flags
import numpy as np
import tqdm

from experiments import checks
from experiments import cli
from experiments import grids
from experiments import records
from experiments import workdir as workdir_lib
from simple_diffusion import build
from simple_diffusion import checkpoints
from simple_diffusion import data
from simple_diffusion import images
from simple_diffusion import programs as programs_lib
from simple_diffusion import sampler
from simple_diffusion import sharding
from simple_diffusion import sizes

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "What to train: a file of configs/.", lock_config=True
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where the run is kept.")
flags.mark_flags_as_required(["config", "workdir"])


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
    if config.model.num_classes not in (0, source.num_classes):
      raise ValueError(
        f"model.num_classes={config.model.num_classes}, but "
        f"{config.data.name} has {source.num_classes}; use that, or 0 to "
        "ignore labels"
      )
    mesh = sharding.make_mesh(**config.mesh)
    checks.check_train(config, mesh.size)
    path = workdir_lib.check(workdir, config)
    stream = build.make_stream(config, source)
    programs = programs_lib.make_programs(config, mesh)
    checks.trace(programs, t.num_samples)
    _ = stream[0]  # Reading finds a broken image.
    workdir_lib.claim(path, config)
  print(sizes.size_table(programs.network, build.image_shape(config)))
  by_example = sharding.by_example(mesh)

  @functools.partial(jax.jit, out_shardings=by_example)
  def sample_inputs():
    indices = jnp.arange(checks.whole_rows(mesh, t.num_samples))
    labels = indices % max(1, config.model.num_classes)
    return sampler.keys_for(t.seed, indices), labels

  # -- State: new, or that of the newest checkpoint ---------------------------
  manager = checkpoints.open_manager(path, keep=t.keep_checkpoints)
  start_step = manager.latest_step() or 0
  if start_step:
    with cli.user_errors():
      state = checkpoints.restore(manager, start_step, programs.state)
    print(f"resuming {path} from step {start_step}")
  else:
    state = programs.init()

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
      batch = sharding.to_devices(batch, by_example)
      state, metrics = programs.train_step(state, batch)
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
        grid = programs.sample(state.ema_params, *sample_inputs())
        grid = np.asarray(grid)[: t.num_samples]
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
