# SPDX-License-Identifier: Apache-2.0
"""Trains the network of a config. The same command again resumes.

  python -m experiments.train --config=configs/digits.py --workdir=runs/digits

The workdir then holds config.json, environment.json, metrics.jsonl (the
record), tensorboard/, samples/ and checkpoints/; while a job runs, lock.json.

With --distributed it is one of several processes that train one network; the
workdir must be a folder of all of them. SIGTERM saves and ends with code 75;
so does a preempted machine. Ctrl-C ends without saving.
"""

import contextlib
import functools

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
flags.adopt_module_key_flags(processes)  # for --help


def agree(config):
  """Ends all processes if one has wrong flags, or others than the first."""
  with processes.same_fate():
    pass  # Whoever's flags are wrong says so here.
  with processes.same_fate():
    processes.require_same(
      config=workdir_lib.as_json(config),
      git_commit=workdir_lib.git_sha(),
      jax=jax.__version__,
      profile_steps=_PROFILE_STEPS.value,
    )


def prepare(config, workdir):
  """Everything that the user can get wrong, before anything is compiled.

  Returns:
    The run's folder, the stream of this process's batches, the programs, and
    the number of images.
  """
  source = data.make_source(
    name=config.data.name,
    split=config.data.split,
    data_dir=config.data.data_dir,
  )
  try:  # What is read only after days of training.
    data.make_source(
      name=config.data.name,
      split=config.data.eval_split,
      data_dir=config.data.data_dir,
    )
  except ValueError as error:
    raise ValueError(f"data.eval_split: {error}") from error
  if config.model.num_classes is None:
    config.model.num_classes = source.num_classes
  if config.model.num_classes not in (0, source.num_classes):
    raise ValueError(
      f"model.num_classes={config.model.num_classes}, but {config.data.name} "
      f"has {source.num_classes}; use that, or 0 to ignore labels"
    )
  mesh = sharding.make_mesh(**config.mesh)
  checks.check_train(config, mesh.size)
  path = workdir_lib.check(workdir, config, len(source))
  source = build.decoded_if_asked(config, source)
  rows = sharding.local_rows(sharding.by_example(mesh), config.train.batch_size)
  stream = build.make_stream(config, source, rows)
  programs = programs_lib.make_programs(config, mesh)
  checks.trace(programs, config.train.num_samples)
  _ = stream[0]  # Reading finds a broken image.
  return path, stream, programs, len(source)


def claim(path, config, num_images, stack):
  """Process 0 locks the run's folder for this job; returns how to let it go."""
  owner, release = None, lambda: None
  with processes.same_fate():
    if processes.is_first():
      owner, release = stack.enter_context(lock.hold(path))
      workdir_lib.claim(path, config, num_images)
  owner = processes.of_first(owner)
  with processes.same_fate():
    processes.require_same(num_images=num_images)
    lock.require_owner(path, owner)
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


def restore(manager, programs):
  """The newest checkpoint's state and step; (None, 0) if there is none."""
  with processes.same_fate():
    step = manager.latest_step() or 0
    processes.require_same(newest_checkpoint=step)
  if not step:
    return None, 0
  with processes.own_fate():
    return checkpoints.restore(manager, step, programs.state), step


def train(config, workdir, stack):
  """Trains until the end, or until the run is preempted."""
  t = config.train
  watch = stack.enter_context(preemption.watch())
  agree(config)
  with processes.same_fate():
    path, stream, programs, num_images = prepare(config, workdir)
  watch.last_words.append(claim(path, config, num_images, stack))
  say = print if processes.is_first() else lambda text: None
  say(sizes.size_table(programs.network, build.image_shape(config)))
  manager = checkpoints.open_manager(path, keep=t.keep_checkpoints)
  stack.enter_context(manager)
  watch.last_words.append(manager.wait_until_finished)

  # -- State: new, or that of the newest checkpoint ---------------------------
  state, start_step = restore(manager, programs)
  if state is None:
    state = programs.init(np.uint32(t.seed))
  else:
    say(f"resuming {path} from step {start_step}")

  # -- What the loop writes ---------------------------------------------------
  sample = make_sample(config, programs)

  def grid_path(step):
    return path / "samples" / f"step_{step:08d}.png"

  def is_grid_due(step):
    return step % t.sample_every_steps == 0 or step == t.total_steps

  def save_grid(step, state):
    grid = sample(state.ema_params)
    if processes.is_first():
      grids.save_grid(grid_path(step), grid, num_columns=10)

  if start_step and is_grid_due(start_step):
    # The run may have ended between checkpoint and grid.
    if not processes.of_first(grid_path(start_step).exists()):
      save_grid(start_step, state)
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
      is_writer=processes.is_first(),
    )
  )

  # -- The loop ---------------------------------------------------------------
  stack.push(processes.end_if_alone)
  by_example = sharding.by_example(programs.mesh)
  batches = data.iterate(
    stream, start_step=start_step, num_threads=config.data.num_threads
  )
  for step in range(start_step + 1, t.total_steps + 1):
    profile(step, state)
    with log.waiting_for_data(), processes.own_fate():
      batch = next(batches)  # a broken or too small image is met here
    batch = sharding.to_devices(batch, by_example)
    state, metrics = programs.train_step(state, batch)
    watch.unsaved.set()
    log.add(step, metrics)
    progress.update()

    is_last = step == t.total_steps
    if step % t.log_every_steps == 0 or is_last:
      if loss := log.end_window():
        progress.set_postfix(loss=f"{loss:.4f}")
    preempted = watch.is_due(step)
    is_due = step % t.checkpoint_every_steps == 0 or is_grid_due(step)
    if is_due or preempted:
      # The record reaches the disk before the checkpoint does: whatever a kill
      # loses is made again. Grids take long and come after it.
      log.flush()
      checkpoints.save(manager, step, state)
      watch.unsaved.clear()
    if preempted:
      manager.wait_until_finished()
      watch.end(step)
    if is_grid_due(step):
      with log.paused():
        save_grid(step, state)
  manager.wait_until_finished()
  progress.close()  # Else what follows stands in its line.
  if start_step < t.total_steps:
    say(f"done: {grid_path(t.total_steps)}")
  else:
    say(f"done: {path} is at step {start_step} already")


def main(_):
  with contextlib.ExitStack() as stack:
    with cli.user_errors():
      stack.enter_context(processes.joined())
    train(_CONFIG.value, _WORKDIR.value, stack)


if __name__ == "__main__":
  cli.run(main, on_bad_flags=processes.tell_of_bad_flags)
