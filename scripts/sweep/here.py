# SPDX-License-Identifier: Apache-2.0
"""What points need of this machine before the first one starts."""

import os
import subprocess
import sys

from scripts.sweep import points as points_lib
from simple_diffusion import data

# Of a process of its own: who asks JAX for an accelerator keeps it.
_COUNT = "import jax; print(jax.local_device_count())"


def num_devices(gpus: tuple[str, ...]) -> int:
  """How many devices a point finds here.

  Args:
    gpus: of --gpus, of which each point gets one; none: it sees all there are.

  Raises:
    ValueError: if JAX does not start.
  """
  if gpus:
    return 1
  done = subprocess.run(
    [sys.executable, "-c", _COUNT],
    capture_output=True,
    text=True,
    check=False,
    env=os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
  )
  words = done.stdout.split()
  if done.returncode or not words:
    reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
    raise ValueError(
      f"JAX finds no devices here: {reason}; mend that, or set JAX_PLATFORMS"
    )
  return int(words[-1])


def check_sources(points) -> None:
  """Opens each data set once, without reading from it.

  Raises:
    ValueError: naming the points whose data is not there, and why.
  """
  known, errors = {}, []
  for number, point in enumerate(points, 1):
    d = point.config.data
    what = d.name, d.split, d.data_dir
    if what not in known:
      known[what] = None
      try:
        data.make_source(name=d.name, split=d.split, data_dir=d.data_dir)
      except (ValueError, OSError, ImportError) as error:
        known[what] = error
    if known[what] is not None:
      errors.append(
        f"point {number} of {len(points)} ({point.name}): {known[what]}"
      )
  if errors:
    raise ValueError("\n".join(errors))


def check(points, gpus: tuple[str, ...]) -> None:
  """Both; see there."""
  check_sources(points)
  count = num_devices(gpus)
  points_lib.check_devices(points, count, f"{count} devices here")
