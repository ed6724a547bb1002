# SPDX-License-Identifier: Apache-2.0
"""One job a workdir: against the kernel's lock, and without one."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
import real_runs

from experiments import lock

ROOT = pathlib.Path(__file__).parent.parent


def start_holder(workdir, *, beat_s=10.0):
  """A process that holds a folder until it is told to stop."""
  program = f"""
import pathlib, sys
from experiments import lock
lock.BEAT_S = {beat_s}
with lock.hold(pathlib.Path({str(workdir)!r})):
  print("held", flush=True)
  sys.stdin.read()
"""
  child = subprocess.Popen(
    [sys.executable, "-c", program],
    cwd=ROOT,
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )
  assert real_runs.has_printed(child, "held")
  return child


def stop(child):
  _, err = child.communicate()
  return child.returncode, err


def elsewhere(workdir):
  """Makes the holder one of another machine."""
  content = json.loads((workdir / lock.FILE).read_text())
  content |= {"host": "far", "machine": "away"}
  (workdir / lock.FILE).write_text(json.dumps(content))


@pytest.fixture
def short_watch(monkeypatch):
  monkeypatch.setattr(lock, "WATCH_S", 1.0)
  monkeypatch.setattr(lock, "BEAT_S", 0.1)


def test_second_is_refused_and_told_who_has_it(tmp_path):
  child = start_holder(tmp_path)
  since = json.loads((tmp_path / lock.FILE).read_text())["since"]
  message = (
    f"--workdir={tmp_path} is in use by process {child.pid} on "
    f"{os.uname().nodename} since {since}; wait for it, stop it, or use "
  )
  with pytest.raises(ValueError) as error, lock.hold(tmp_path):
    pass
  assert str(error.value).startswith(message)
  assert stop(child) == (0, "")
  with lock.hold(tmp_path):  # It has gone.
    assert lock.owner_of(tmp_path)["pid"] == os.getpid()
  assert not (tmp_path / lock.FILE).exists()


def test_killed_one_is_no_obstacle(tmp_path):
  child = start_holder(tmp_path)
  child.send_signal(signal.SIGKILL)
  stop(child)
  assert (tmp_path / lock.FILE).exists()
  began_s = time.monotonic()
  with lock.hold(tmp_path):
    assert time.monotonic() - began_s < 1
    assert lock.owner_of(tmp_path)["pid"] == os.getpid()


def test_living_one_of_another_machine_is_seen(
  tmp_path, short_watch, monkeypatch, capsys
):
  # Where the kernels' locks do not reach, signs of life do.
  monkeypatch.setattr(lock, "_flock", lambda folder: False)
  child = start_holder(tmp_path, beat_s=0.1)
  with pytest.raises(ValueError, match=f"in use by process {child.pid} on "):
    with lock.hold(tmp_path):
      pass
  assert "watching for a sign of life for 1 seconds" in capsys.readouterr().err
  assert stop(child) == (0, "")


def test_dead_one_of_another_machine_is_replaced(tmp_path, short_watch, capsys):
  child = start_holder(tmp_path)
  child.send_signal(signal.SIGKILL)
  stop(child)
  elsewhere(tmp_path)
  began_s = time.monotonic()
  with lock.hold(tmp_path):
    assert time.monotonic() - began_s >= 1
    assert lock.owner_of(tmp_path)["pid"] == os.getpid()
  err = capsys.readouterr().err
  assert f"in use by process {child.pid} on far" in err
  assert f"no sign of life: {tmp_path} is taken over" in err


def test_one_that_was_replaced_ends(tmp_path):
  # As a machine does that was asleep while another took its folder.
  child = start_holder(tmp_path, beat_s=0.1)
  elsewhere(tmp_path)
  before = (tmp_path / lock.FILE).read_text()
  child.wait(timeout=30)
  code, err = child.returncode, child.stderr.read()
  child.communicate()
  assert code == 2
  assert f"error: --workdir={tmp_path} was taken over by process" in err
  assert (tmp_path / lock.FILE).read_text() == before


def test_beats_change_the_file(tmp_path, short_watch):
  path = tmp_path / lock.FILE
  with lock.hold(tmp_path) as held:
    first, owner = path.read_text(), lock.owner_of(tmp_path)
    until = time.monotonic() + 10
    while path.read_text() == first and time.monotonic() < until:
      time.sleep(0.01)
    assert path.read_text() != first
    assert lock.owner_of(tmp_path) == owner == held.owner
    held.release()
    assert not path.exists()


@pytest.mark.slow
def test_two_jobs(tmp_path):
  args = (
    *real_runs.TINY,
    "--config.train.batch_size=8",
    "--config.train.total_steps=100000",
    "--config.train.checkpoint_every_steps=100000",
    "--config.train.sample_every_steps=100000",
    f"--workdir={tmp_path}",
  )
  first = real_runs.start(*args)
  real_runs.wait_until(lambda: real_runs.records(tmp_path), [first])
  ((code, _, err),) = real_runs.end([real_runs.start(*args)])
  assert code == 2
  assert err.startswith(f"error: --workdir={tmp_path} is in use by process ")
  assert f"process {first.pid} on" in err and err.count("\n") == 1
  # The first one has not noticed. Ctrl-C ends it, and lets the folder go.
  first.send_signal(signal.SIGINT)
  ((code, _, err),) = real_runs.end([first])
  assert code == 130
  assert err.endswith("interrupted\n") and "Traceback" not in err
  assert not (tmp_path / lock.FILE).exists()
