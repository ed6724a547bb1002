# SPDX-License-Identifier: Apache-2.0
"""One job a workdir: the second is refused, and a dead one is no obstacle.

On one machine the kernel keeps the lock, and drops it with the process however
that dies. Between machines that share a folder locks may not reach; there a
sign of life counts, lock.json, rewritten every few seconds. It is watched for
change, never compared with a clock. Programs that only read do not ask.
"""

from collections.abc import Callable
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
from typing import NamedTuple

from experiments import workdir as workdir_lib

FILE = "lock.json"
BEAT_S = 10.0  # between signs of life
WATCH_S = 45.0  # without one: dead
SETTLE_S = 10.0  # until another machine sees a new file


class Lock(NamedTuple):
  """A held folder.

  Attributes:
    owner: who holds it, as in lock.json: host, machine, pid, since.
    release: release() lets it go; for an end without the usual farewell.
  """

  owner: dict
  release: Callable


def _read(path):
  """Who holds the folder, with the number of the beat; None for nobody."""
  try:
    return json.loads(path.read_text())
  except (OSError, ValueError):
    return None


def owner_of(workdir: pathlib.Path) -> dict | None:
  """Who holds the folder, None for nobody."""
  content = _read(workdir / FILE)
  return content and {k: v for k, v in content.items() if k != "beat"}


def require_owner(workdir: pathlib.Path, owner: dict) -> None:
  """Raises ValueError unless this is the folder that `owner` holds."""
  until = time.monotonic() + SETTLE_S
  while owner_of(workdir) != owner:
    if time.monotonic() > until:
      raise ValueError(
        f"--workdir={workdir} is not the folder that process 0 has; it must be "
        "on a file system that all processes share"
      )
    time.sleep(0.1)


def _me() -> dict:
  """This process. Machines may share a name, but not a boot of the kernel."""
  try:
    machine = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text()
  except OSError:  # not Linux
    machine = platform.node()
  now = datetime.datetime.now().astimezone()
  return {
    "host": platform.node(),
    "machine": machine.strip(),
    "pid": os.getpid(),
    "since": now.isoformat(timespec="seconds"),
  }


def _name(owner):
  if owner is None:
    return "another job"
  return f"process {owner['pid']} on {owner['host']} since {owner['since']}"


def _refuse(workdir):
  raise ValueError(
    f"--workdir={workdir} is in use by {_name(owner_of(workdir))}; wait for "
    "it, stop it, or use another --workdir"
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


def _wait_for_death(workdir, path, last):
  sys.stderr.write(
    f"{workdir} is in use by {_name(last)}, or was: watching for a sign of "
    f"life for {WATCH_S:.0f} seconds\n"
  )
  until = time.monotonic() + WATCH_S
  while time.monotonic() < until:
    time.sleep(min(1.0, BEAT_S))
    now = _read(path)
    if now is None:
      return  # It has ended.
    if now != last:
      _refuse(workdir)
  sys.stderr.write(f"no sign of life: {workdir} is taken over\n")


def _take(workdir, path, me):
  path.unlink(missing_ok=True)
  try:
    with open(path, "x") as file:
      json.dump(me | {"beat": 0}, file)
  except FileExistsError:  # Somebody was faster.
    _refuse(workdir)


def _end(workdir, owner):
  """Two must not write, and a thread can't stop the others otherwise."""
  sys.stderr.write(
    f"error: --workdir={workdir} was taken over by {_name(owner)}, which saw "
    "no sign of life of this job; it ends here\n"
  )
  sys.stderr.flush()
  os._exit(2)


@contextlib.contextmanager
def hold(workdir: pathlib.Path):
  """Holds the folder; yields a `Lock`.

  Raises:
    ValueError: if another job holds it; names it.
  """
  path, me = workdir / FILE, _me()
  folder = os.open(workdir, os.O_RDONLY)
  try:
    try:
      is_locked = _flock(folder)
    except BlockingIOError:
      _refuse(workdir)
    last = _read(path)
    if last and not (is_locked and last["machine"] == me["machine"]):
      _wait_for_death(workdir, path, last)
    _take(workdir, path, me)
    ended = threading.Event()

    def beat():
      count = 0
      while not ended.wait(BEAT_S):
        if owner_of(workdir) not in (me, None):
          _end(workdir, owner_of(workdir))
        count += 1
        with contextlib.suppress(OSError):  # Of a moment, on a network.
          workdir_lib.write_json(path, me | {"beat": count})

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()

    def release():
      ended.set()
      thread.join()
      if owner_of(workdir) == me:
        path.unlink(missing_ok=True)

    try:
      yield Lock(me, release)
    finally:
      release()
  finally:
    os.close(folder)
