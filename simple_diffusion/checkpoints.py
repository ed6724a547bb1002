# SPDX-License-Identifier: Apache-2.0
"""Checkpoints in a run's folder: saved in the background, complete or absent.

Orbax writes a step to a temporary folder and renames it, so a killed save
leaves the one before. One that was damaged later is never skipped silently:
training on from an older step is the user's decision.
"""

import pathlib

import jax
import orbax.checkpoint as ocp


def open_manager(workdir, *, keep: int) -> ocp.CheckpointManager:
  """The manager of <workdir>/checkpoints, which keeps the newest `keep`."""
  return ocp.CheckpointManager(
    pathlib.Path(workdir).absolute() / "checkpoints",
    options=ocp.CheckpointManagerOptions(max_to_keep=keep),
  )


def save(manager: ocp.CheckpointManager, step: int, state) -> None:
  """Saves the tree `state`; returns once it is copied, not yet written."""
  manager.save(step, args=ocp.args.StandardSave(state))


def restore(manager: ocp.CheckpointManager, step: int, abstract_state):
  """The state saved at `step`, laid out like abstract_state.

  Args:
    manager: see `open_manager`.
    step: one of manager.all_steps().
    abstract_state: a tree of jax.ShapeDtypeStruct with shardings.

  Raises:
    ValueError: if the checkpoint can't be read, has other shapes, or is too
      large for the devices.
  """
  try:
    return manager.restore(step, args=ocp.args.StandardRestore(abstract_state))
  except Exception as error:  # Orbax and TensorStore raise many kinds.
    raise _not_restored(manager, step, error) from error


def restore_ema_params(workdir, abstract_params, step: int | None = None):
  """The averaged parameters alone, of the newest or the given step.

  Each of several processes reads all of them, and waits for no other.

  Args:
    workdir: a run's folder.
    abstract_params: the network's parameters as jax.ShapeDtypeStruct with
      shardings over devices of this process.
    step: None for the newest.

  Returns:
    The parameters, and their step.

  Raises:
    FileNotFoundError: if there is no such checkpoint.
    ValueError: if it can't be read, has other shapes, or is too large.
  """
  target = {"ema_params": abstract_params}
  directory = pathlib.Path(workdir).absolute() / "checkpoints"
  if not directory.is_dir():
    raise FileNotFoundError(
      f"{directory} does not exist: train first, or check --workdir"
    )
  with ocp.CheckpointManager(
    directory,
    item_handlers=ocp.PyTreeCheckpointHandler(),
    options=_alone(),
  ) as manager:
    steps = sorted(manager.all_steps())
    if step is None and steps:
      step = steps[-1]
    if step not in steps:
      raise FileNotFoundError(
        f"{directory} has no checkpoint {'' if step is None else step}; it has "
        f"{steps or 'none yet'}"
      )
    arguments = ocp.args.PyTreeRestore(
      item=target,
      restore_args=ocp.checkpoint_utils.construct_restore_args(target),
      partial_restore=True,
    )
    try:
      return manager.restore(step, args=arguments)["ema_params"], step
    except Exception as error:
      raise _not_restored(manager, step, error) from error


def _alone() -> ocp.CheckpointManagerOptions:
  """For a process that reads by itself: Orbax would wait for all of them."""
  index = jax.process_index()
  return ocp.CheckpointManagerOptions(
    create=False,
    multiprocessing_options=ocp.options.MultiprocessingOptions(
      primary_host=index,
      active_processes={index},
      # Else barriers of two processes would have one name.
      barrier_sync_key_prefix=f"process_{index}",
    ),
  )


def _not_restored(manager, step, error):
  """The error to raise; an older step is the remedy of damage alone."""
  text = str(error).strip() or type(error).__name__
  # There follows the name of a Python method.
  text = text.partition(" See full TensorStore details")[0]
  others = sorted(set(manager.all_steps()) - {step})
  problem = "can't be read"
  if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text:
    problem = "does not fit into memory"
    remedy = (
      "split it over more devices, by mesh.fsdp of a training's config or "
      "--fsdp of other programs"
    )
  elif isinstance(error, PermissionError) or "PERMISSION_DENIED" in text:
    problem = "may not be read"
    remedy = "ask its owner for the right to read it"
  elif others:
    remedy = f"move that folder away and rerun to go on from step {others[-1]}"
  else:
    remedy = "there is no older one: train again, in another folder"
  return ValueError(
    f"checkpoint {manager.directory / str(step)} {problem} "
    f"({text.splitlines()[0][:200]}); {remedy}"
  )
