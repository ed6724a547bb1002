# SPDX-License-Identifier: Apache-2.0
"""The actions of the command line, and their flags.

Each takes the checked points and the root, and returns an exit code.
"""

import functools
import pathlib

from absl import flags

from scripts.sweep import here
from scripts.sweep import local
from scripts.sweep import rented
from scripts.sweep import results
from scripts.sweep import states
from scripts.sweep import store

_PARALLEL = flags.DEFINE_integer("parallel", 1, "Points at a time.", 1)
_GPUS = flags.DEFINE_list("gpus", [], "One each for points in parallel: 0,1")
_MAX_RESTARTS = flags.DEFINE_integer(
  "max_restarts", 5, "Of a preempted point that comes no further.", 0
)
_MAXIMISE = flags.DEFINE_bool("maximise", False, "Highest metric first.")
_METRIC = flags.DEFINE_string("metric", "loss", "Of metrics.jsonl, to rank by.")


def find(action: str, rest: list[str]):
  """The function of an action.

  Raises:
    ValueError: if there is none.
  """
  known = {
    "list": show,
    "run": run,
    "results": tabulate,
    "tpu": functools.partial(_on_tpu, (rest or ["launch"])[0]),
    "skypilot": rented.on_skypilot,
  }
  if action not in known:
    raise ValueError(f"no action {action!r}; there are {', '.join(known)}")
  if action == "tpu" and rest and rest[0] not in rented.TPU_ACTIONS:
    raise ValueError(
      f"no action tpu {rest[0]!r}; there are {', '.join(rented.TPU_ACTIONS)}"
    )
  if rest[action == "tpu" :]:
    raise ValueError(f"{' '.join(rest)}: {action} takes flags only")
  return known[action]


def show(points, root: str) -> int:
  """Prints names and states."""
  width = max(len(point.name) for point in points)
  for point in points:
    print(f"{point.name.ljust(width)}  {states.state(root, point)}")
  return 0


def run(points, root: str) -> int:
  """Trains here what is not done, then tabulates."""
  if store.is_remote(root):
    raise ValueError(f"--root={root} must be a folder of this machine to run")
  sweep = local.Sweep(
    points,
    root,
    parallel=_PARALLEL.value,
    max_restarts=_MAX_RESTARTS.value,
    gpus=tuple(_GPUS.value),
  )
  here.check(points, tuple(_GPUS.value), _PARALLEL.value)
  code = sweep.run()
  if code in (0, 1):  # Else it was told to stop, and time may be short.
    tabulate(points, root)
  return code


def tabulate(points, root: str) -> int:
  """Prints and writes results."""
  if store.is_remote(root) and not rented.OUT.value:
    raise ValueError("--out=FOLDER is needed for results of a bucket")
  out = pathlib.Path(rented.OUT.value or root)
  text = results.write(
    root, points, metric=_METRIC.value, maximise=_MAXIMISE.value, out=out
  )
  print(text)
  return 0


def _on_tpu(action: str, points, root: str) -> int:
  try:
    from scripts.sweep import on_tpu  # The others do without Google's client.
  except ImportError as error:
    raise ImportError(
      f"{error}: Cloud TPU needs pip install -e '.[cloud]'"
    ) from error
  return on_tpu.act(action, points, root)
