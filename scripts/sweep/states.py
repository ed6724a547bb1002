# SPDX-License-Identifier: Apache-2.0
"""How far a point is, from what its folder holds.

Who runs a point keeps sweep.json there, and on one machine also a lock, which
the kernel drops when the last process of the point is gone. A point whose
newest checkpoint is of its last step is done, whoever ran it.
"""

import fcntl
import json
import os
import pathlib
import socket
import time

from experiments import workdir as workdir_lib
from scripts.sweep import points as points_lib
from scripts.sweep import store

MARKER = "sweep.json"
# By a rented worker, not the first, that cannot go on; the first one removes it
# when it boots.
WORKER_MARKER = "failed.json"
LOCK = ".sweep.lock"
TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"  # UTC; startup.sh writes it, too

NOT_STARTED = "not started"
RUNNING = "running"
PREEMPTED = "preempted"
FAILED = "failed"
DONE = "done"


def state(root: str, point: points_lib.Point) -> str:
  """One of the states above."""
  folder = pathlib.Path(root) / point.name
  if not store.is_remote(root) and is_locked(folder):
    return RUNNING
  return last_state(root, point)


def last_state(root: str, point: points_lib.Point) -> str:
  """The state of a point that no process of this machine runs."""
  marker = read_marker(root, point)
  if store.is_remote(root):
    return _marked(marker, point) or NOT_STARTED
  folder = pathlib.Path(root) / point.name
  if newest_step(folder) >= point.total_steps:
    return DONE
  marked = _marked(marker, point)
  if marked == RUNNING:  # It says so itself, but holds no lock: it was killed.
    return PREEMPTED
  if marked is None:
    has_begun = (folder / "config.json").exists()
    return PREEMPTED if has_begun else NOT_STARTED
  return marked


def _marked(marker: dict | None, point) -> str | None:
  if marker is None:
    return None
  if marker["state"] == DONE and marker["total_steps"] < point.total_steps:
    return PREEMPTED  # It was to run for less then.
  return marker["state"]


def read_marker(root: str, point: points_lib.Point) -> dict | None:
  """What the runner of a point has written, or None."""
  content = store.read(root, f"{point.name}/{MARKER}")
  marker = None if content is None else json.loads(content)
  if store.is_remote(root) and (marker is None or marker["state"] != DONE):
    failure = store.read(root, f"{point.name}/{WORKER_MARKER}")
    if failure is not None:
      return json.loads(failure)
  return marker


def mark(folder: pathlib.Path, new_state: str, point, **details) -> None:
  """Writes sweep.json of a folder of this machine."""
  content = {
    "state": new_state,
    "total_steps": point.total_steps,
    "time": time.strftime(TIME_FORMAT, time.gmtime()),
    "host": socket.gethostname(),
    **details,
  }
  workdir_lib.write_json(folder / MARKER, content)


def newest_step(folder: pathlib.Path) -> int:
  """Step of the newest whole checkpoint; 0 without one."""
  if not (folder / "checkpoints").exists():
    return 0
  found = [path.name for path in (folder / "checkpoints").iterdir()]
  # One that is being written has a longer name.
  return max((int(name) for name in found if name.isdigit()), default=0)


def is_locked(folder: pathlib.Path) -> bool:
  """Whether a process of this machine runs the point; writes nothing."""
  try:
    handle = os.open(folder / LOCK, os.O_RDONLY)
  except (FileNotFoundError, PermissionError):
    return False  # Who may not read it does not run it.
  try:
    fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
  except BlockingIOError:
    return True
  finally:
    os.close(handle)
  return False


def lock(folder: pathlib.Path) -> int | None:
  """A file descriptor that holds the point, or None if another one does.

  Children that inherit it hold the point, too: a training that outlives its
  sweep is seen by the next sweep.
  """
  handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
  try:
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    os.close(handle)
    return None
  return handle
