# SPDX-License-Identifier: Apache-2.0
"""A profile of some training steps, for TensorBoard, Perfetto or XProf."""

import contextlib

import jax


@contextlib.contextmanager
def of_steps(folder, *, first_step: int, num_steps: int):
  """Yields before(step, state), which starts and ends the profile.

  Args:
    folder: where it is written.
    first_step: the first step of it; one after everything is compiled.
    num_steps: how many; 0 for no profile.
  """
  running = False

  def stop(state):
    nonlocal running
    jax.block_until_ready(state)
    jax.profiler.stop_trace()
    running = False

  def before(step, state):
    nonlocal running
    if num_steps and step == first_step:
      jax.block_until_ready(state)
      jax.profiler.start_trace(str(folder))
      running = True
    elif running and step == first_step + num_steps:
      stop(state)

  try:
    yield before
  finally:
    if running:
      stop(())
