# SPDX-License-Identifier: Apache-2.0
"""One job a workdir: the second is refused, and a dead one is no obstacle.

On one machine the kernel keeps the lock, and drops it with the process however
that dies. Between machines that share a folder locks may not reach; there a
sign of life counts, lock.json, rewritten every few seconds. It is watched for
change, never compared with a clock.
"""

import contextlib
import datetime
import fcntl
import json
import os
import pathlib
import platform
import sys
import threading
import time

from experiments import workdir as workdir_lib

BEAT_S = 10.0  # between signs of life
WATCH_S = 45.0  # without one: dead


def _read(path):
  try:
    return json.loads(path.read_text())
  except (OSError, ValueError):
    return None


def _refuse(workdir, holder):
  who = "another job"
  if holder:
    who = f"process {holder['pid']} on {holder['host']} since {holder['since']}"
  raise ValueError(
    f"--workdir={workdir} is in use by {who}; wait for it, stop it, or use "
    "another --workdir"
  )


def _flock(folder) -> bool:
  """Whether the kernel locked it for us; raises BlockingIOError if it is."""
  try:
    fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    raise
  except OSError:  # Some file systems have no locks.
    return False
  return True


def _wait_for_death(workdir, path, holder):
  sys.stderr.write(
    f"{workdir} was in use on {holder['host']}; watching for "
    f"{WATCH_S:.0f} seconds whether it still is\n"
  )
  until = time.monotonic() + WATCH_S
  while time.monotonic() < until:
    time.sleep(min(1.0, BEAT_S))
    now = _read(path)
    if now is None:
      return  # It has ended.
    if now != holder:
      _refuse(workdir, now)


@contextlib.contextmanager
def hold(workdir: pathlib.Path):
  """Holds the folder; yields release(), for an end without a farewell.

  Raises:
    ValueError: if another job holds it; names it.
  """
  path = workdir / "lock.json"
  folder = os.open(workdir, os.O_RDONLY)
  try:
    try:
      is_locked = _flock(folder)
    except BlockingIOError:
      _refuse(workdir, _read(path))
    here = platform.node()
    holder = _read(path)
    if holder and not (is_locked and holder["host"] == here):
      _wait_for_death(workdir, path, holder)
    me = {
      "host": here,
      "pid": os.getpid(),
      "since": datetime.datetime.now().isoformat(timespec="seconds"),
    }
    ended = threading.Event()

    def beat():
      count = 0
      while not ended.is_set():
        with contextlib.suppress(OSError):  # Of a moment, on a network.
          workdir_lib.write_json(path, me | {"beat": count})
        count += 1
        ended.wait(BEAT_S)

    workdir_lib.write_json(path, me | {"beat": -1})
    thread = threading.Thread(target=beat, daemon=True)
    thread.start()

    def release():
      ended.set()
      thread.join()
      path.unlink(missing_ok=True)

    try:
      yield release
    finally:
      release()
  finally:
    os.close(folder)
