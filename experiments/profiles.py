# SPDX-License-Identifier: Apache-2.0
"""A profile of some training steps, for XProf, TensorBoard or Perfetto."""

import contextlib
import pathlib
import sys

import jax


@contextlib.contextmanager
def of_steps(
  folder: pathlib.Path, *, first_step: int, num_steps: int, is_writer: bool
):
  """Yields before(step, state), which starts and ends the profile.

  Args:
    folder: where it is written; that is said on stderr.
    first_step: the first step of it; one after everything is compiled.
    num_steps: how many; 0 for no profile.
    is_writer: whether this process does it.
  """
  running, is_wanted = False, num_steps > 0 and is_writer
  options = jax.profiler.ProfileOptions()
  # The tracer of Python calls slows the host down, and it crashes the process
  # now and then while a checkpoint is being written (seen with jax 0.10.2).
  options.python_tracer_level = 0

  def stop(state):
    nonlocal running, is_wanted
    jax.block_until_ready(state)
    jax.profiler.stop_trace()
    running = is_wanted = False
    sys.stderr.write(f"\nprofile from step {first_step} on: {folder}\n")

  def before(step, state):
    nonlocal running
    if is_wanted and step == first_step:
      jax.block_until_ready(state)
      jax.profiler.start_trace(str(folder), profiler_options=options)
      running = True
    elif running and step == first_step + num_steps:
      stop(state)

  try:
    yield before
  finally:
    if running:
      stop(())
    elif is_wanted:
      sys.stderr.write(
        f"\nno profile: the run did not reach step {first_step}\n"
      )
