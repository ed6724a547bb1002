# SPDX-License-Identifier: Apache-2.0
"""What points need of this machine before the first one starts."""

import os
import subprocess
import sys

from scripts.sweep import points as points_lib
from simple_diffusion import data

# Of a process of its own: who asks JAX for an accelerator keeps it.
_ASK = "import jax; print(jax.default_backend(), jax.local_device_count())"


def visible_devices() -> tuple[str, int]:
  """What a point finds here: cpu, gpu or tpu, and how many of them.

  Raises:
    ValueError: if JAX does not start.
  """
  done = subprocess.run(
    [sys.executable, "-c", _ASK],
    capture_output=True,
    text=True,
    check=False,
    env=os.environ | {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"},
  )
  words = done.stdout.split()
  if done.returncode or len(words) < 2:
    reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
    raise ValueError(
      f"JAX finds no devices here: {reason}; mend that, or set JAX_PLATFORMS"
    )
  return words[-2], int(words[-1])


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
      errors.append((number, point.name, known[what]))
  points_lib.raise_all(errors, len(points))


def check(points, gpus: tuple[str, ...], parallel: int = 1) -> None:
  """Checks data and devices before the first point starts.

  Args:
    points: of a sweep.
    gpus: of --gpus, of which each point gets one.
    parallel: how many points run at a time.

  Raises:
    ValueError: if data is not there, JAX does not start, a point does not go
      into its devices, or several would share GPUs.
  """
  check_sources(points)
  count = 1
  if not gpus:
    platform, count = visible_devices()
    # Each training takes most of the memory of every GPU that it sees.
    if platform == "gpu" and parallel > 1:
      raise ValueError(
        f"--parallel={parallel} without --gpus: every point would take all "
        f"{count} GPUs of this machine; give --gpus=0,1 (one for each point in "
        "parallel) or --parallel=1"
      )
  points_lib.check_devices(points, count, f"{count} devices here")
