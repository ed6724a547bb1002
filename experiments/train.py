# SPDX-License-Identifier: Apache-2.0
"""Trains the network of a config. The same command again resumes.

  python -m experiments.train --config=configs/digits.py --workdir=runs/digits

The workdir then holds config.json, environment.json, metrics.jsonl (the
record), tensorboard/, samples/ and checkpoints/.
"""

import contextlib
import functools
import os
import sys
import threading

from absl import flags
import jax
import jax.numpy as jnp
from ml_collections import config_flags
import numpy as np
import tqdm

from experiments import checks
from experiments import cli
from experiments import grids
from experiments import lock
from experiments import preemption
from experiments import processes
from experiments import profiles
from experiments import windows
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
_PROFILE_STEPS = flags.DEFINE_integer(
  "profile_steps", 0, "Steps to profile, after the first record.", 0
)
flags.mark_flags_as_required(["config", "workdir"])


def prepare(config, workdir):
  """Everything that the user can get wrong, before anything is compiled.

  Returns:
    The run's folder, the stream of batches, and the programs.
  """
  source = data.make_source(
    name=config.data.name,
    split=config.data.split,
    data_dir=config.data.data_dir,
  )
  if config.model.num_classes is None:
    config.model.num_classes = source.num_classes
  if config.model.num_classes not in (0, source.num_classes):
    raise ValueError(
      f"model.num_classes={config.model.num_classes}, but {config.data.name} "
      f"has {source.num_classes}; use that, or 0 to ignore labels"
    )
  mesh = sharding.make_mesh(**config.mesh)
  checks.check_train(config, mesh.size)
  path = workdir_lib.check(workdir, config)
  stream = build.make_stream(config, source)
  programs = programs_lib.make_programs(config, mesh)
  checks.trace(programs, config.train.num_samples)
  _ = stream[0]  # Reading finds a broken image.
  return path, stream, programs


def claim(path, config, stack):
  """Locks the run's folder for this job; returns how to let it go at once.

  Process 0 does; the others see that theirs is the same folder.
  """
  with processes.same_fate():
    release = None
    if processes.is_first():
      release = stack.enter_context(lock.hold(path))
      workdir_lib.claim(path, config)
  with processes.same_fate():
    if not (path / "config.json").exists():
      raise ValueError(
        f"--workdir={path} is not the folder that process 0 has; it must be on "
        "a file system that all processes share"
      )
  return release


def make_sample(config, programs):
  """sample(params) -> uint8 [num_samples, H, W, C], on every process."""
  num_samples, num_classes = config.train.num_samples, config.model.num_classes

  @functools.partial(jax.jit, out_shardings=sharding.by_example(programs.mesh))
  def inputs():
    indices = jnp.arange(checks.whole_rows(programs.mesh, num_samples))
    labels = indices % max(1, num_classes)
    return sampler.keys_for(config.train.seed, indices), labels

  def sample(params):
    grid = programs.sample(params, *inputs())
    return images.to_uint8(np.asarray(grid)[:num_samples])

  return sample


def main(_):
  with cli.user_errors():
    processes.initialize()
  config = _CONFIG.value
  t = config.train
  say = print if processes.is_first() else lambda text: None
  with contextlib.ExitStack() as stack:
    with processes.same_fate():
      processes.require_same(config)
      path, stream, programs = prepare(config, _WORKDIR.value)
    release = claim(path, config, stack)
    say(sizes.size_table(programs.network, build.image_shape(config)))

    def end_at_once():
      sys.stderr.write(
        "preempted; nothing was lost, the same command resumes\n"
      )
      release()
      os._exit(cli.EXIT_PREEMPTED)

    has_trained = threading.Event()
    is_preempted = stack.enter_context(
      preemption.watch(
        nothing_to_save=lambda: not has_trained.is_set(),
        end_at_once=end_at_once,
      )
    )
    manager = checkpoints.open_manager(path, keep=t.keep_checkpoints)
    stack.enter_context(manager)

    # -- State: new, or that of the newest checkpoint -------------------------
    start_step = manager.latest_step() or 0
    if start_step:
      with cli.user_errors():
        state = checkpoints.restore(manager, start_step, programs.state)
      say(f"resuming {path} from step {start_step}")
    else:
      state = programs.init()

    # -- The loop -------------------------------------------------------------
    sample = make_sample(config, programs)
    by_example = sharding.by_example(programs.mesh)
    batches = data.iterate(
      stream, start_step=start_step, num_threads=config.data.num_threads
    )
    log = stack.enter_context(
      windows.open_windows(
        path, start_step=start_step, is_writer=processes.is_first()
      )
    )
    progress = stack.enter_context(
      tqdm.tqdm(
        total=t.total_steps,
        initial=start_step,
        unit="step",
        dynamic_ncols=True,
        disable=not processes.is_first(),
      )
    )
    profile = stack.enter_context(
      profiles.of_steps(
        path / "profile",
        first_step=start_step + t.log_every_steps + 1,
        num_steps=_PROFILE_STEPS.value,
      )
    )
    newest_grid = None
    for step in range(start_step + 1, t.total_steps + 1):
      profile(step, state)
      with log.waiting_for_data(), processes.own_fate():
        batch = next(batches)  # a broken or too small image is met here
      batch = sharding.to_devices(batch, by_example)
      state, metrics = programs.train_step(state, batch)
      has_trained.set()
      log.add(step, metrics)
      progress.update()

      is_last = step == t.total_steps
      if step % t.log_every_steps == 0 or is_last:
        if loss := log.end_window():
          progress.set_postfix(loss=f"{loss:.4f}")
      if step % t.sample_every_steps == 0 or is_last:
        jax.block_until_ready(state)
        with log.paused():
          grid = sample(state.ema_params)
          newest_grid = path / "samples" / f"step_{step:08d}.png"
          if processes.is_first():
            grids.save_grid(newest_grid, grid, num_columns=10)
      preempted = is_preempted(step)
      if step % t.checkpoint_every_steps == 0 or is_last or preempted:
        # Record and grid reach the disk before the checkpoint does: whatever a
        # kill loses is made again.
        log.flush()
        checkpoints.save(manager, step, state)
      if preempted and not is_last:
        manager.wait_until_finished()
        sys.stderr.write(
          f"preempted at step {step}; saved, the same command resumes\n"
        )
        sys.exit(cli.EXIT_PREEMPTED)
    manager.wait_until_finished()
  say(f"done: {newest_grid or f'{path} is at step {start_step} already'}")


if __name__ == "__main__":
  cli.run(main)
