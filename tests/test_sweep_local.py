# SPDX-License-Identifier: Apache-2.0
"""Sweeps on this machine: restarted, stopped, killed, resumed, shared.

Stand-ins for the training end as they are told to; the last test trains.
"""

import collections
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import ml_collections
import pytest

from experiments import lock
from scripts.sweep import local
from scripts.sweep import points as points_lib
from scripts.sweep import progress
from scripts.sweep import results
from scripts.sweep import states

ROOT = pathlib.Path(__file__).parent.parent
NUM_STEPS = 4

# Ends as the words of plan.txt say, one a start: an exit code, "step" for one
# more checkpoint and exit code 75, "nothing" for exit code 0 without,
# "term" to die of a SIGTERM, "wait" for a SIGTERM or the file `go`.
STAND_IN = """
import os, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
plan = (folder / "plan.txt").read_text().split()
events = folder.parent / "events.txt"
def say(sign):
  with open(events, "a") as file:
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES")
    file.write(f"{sign} {folder.name} {gpu}\\n")
def end(code):
  say("-")
  print(f"the reason is {code}", flush=True)
  os._exit(code)
signal.signal(signal.SIGTERM, lambda *_: end(75))
say("+")
starts = folder / "starts.txt"
number = len(starts.read_text()) if starts.exists() else 0
starts.write_text("." * (number + 1))
word = plan[min(number, len(plan) - 1)]
if word == "step":
  (folder / "checkpoints" / str(number + 1)).mkdir(parents=True)
  end(75)
if word == "nothing":
  end(0)
if word == "term":
  signal.signal(signal.SIGTERM, signal.SIG_DFL)
  os.kill(os.getpid(), signal.SIGTERM)
while word == "wait" and not (folder.parent / "go").exists():
  time.sleep(0.01)
time.sleep(0.2)
code = 0 if word == "wait" else int(word)
if code == 0:
  (folder / "checkpoints" / "4").mkdir(parents=True)
end(code)
"""

# A sweep of stand-ins as a process of its own.
DRIVER = """
import pathlib, sys
sys.path.insert(0, "tests")
import test_sweep_local as ours
root, parallel, *names = sys.argv[1:]
sweep = ours.sweep_of(pathlib.Path(root), names, parallel=int(parallel))
sys.exit(sweep.run())
"""


def point_named(name):
  config = ml_collections.ConfigDict({"train": {"total_steps": NUM_STEPS}})
  return points_lib.Point(name, {}, (), config)


def stand_in(root, point):
  return [sys.executable, "-S", "-c", STAND_IN, f"{root}/{point.name}"]


def sweep_of(root, names, *, backoff_s=0.01, **options):
  return local.Sweep(
    [point_named(name) for name in names],
    str(root),
    backoff_s=backoff_s,
    command=stand_in,
    **options,
  )


def plan(root, **words):
  for name, text in words.items():
    (root / name).mkdir(parents=True)
    (root / name / "plan.txt").write_text(text)


def starts(root, name):
  path = root / name / "starts.txt"
  return len(path.read_text()) if path.exists() else 0


def all_states(root, names):
  return [states.state(str(root), point_named(name)) for name in names]


def start_driver(root, names, parallel=2):
  return subprocess.Popen(
    [sys.executable, "-c", DRIVER, str(root), str(parallel), *names],
    cwd=ROOT,
    env=os.environ | {"JAX_PLATFORMS": "cpu"},
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def wait_for(condition, seconds=30):
  deadline = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < deadline, "it never came"
    time.sleep(0.02)


def test_preempted_points_go_on_and_failed_ones_stop(tmp_path):
  plan(tmp_path, good="0", twice="75 term 0", bad="3", late="0")
  names = ["good", "bad", "twice", "late", "new"]
  assert all_states(tmp_path, ["good", "new"]) == ["not started"] * 2
  out = io.StringIO()
  assert sweep_of(tmp_path, names[:4], out=out).run() == 1
  assert all_states(tmp_path, names) == [
    "done",
    "failed",
    "done",
    "done",
    "not started",
  ]
  assert [starts(tmp_path, n) for n in names] == [1, 1, 3, 1, 0]
  assert "bad: failed, exit code 3: the reason is 3" in out.getvalue()
  marker = json.loads((tmp_path / "bad" / "sweep.json").read_text())
  assert marker["exit_code"] == 3 and "reason is 3" in marker["why"]
  # Again: what is done stays, what failed gets another chance.
  (tmp_path / "bad" / "plan.txt").write_text("0")
  assert sweep_of(tmp_path, names[:4], out=out).run() == 0
  assert [starts(tmp_path, n) for n in names[:4]] == [1, 2, 3, 1]
  # Longer now: the points go on.
  longer = ml_collections.ConfigDict({"train": {"total_steps": 9}})
  point = points_lib.Point("good", {}, (), longer)
  assert states.state(str(tmp_path), point) == "preempted"


def test_done_means_that_there_is_something(tmp_path):
  plan(tmp_path, a="nothing")
  out = io.StringIO()
  assert sweep_of(tmp_path, ["a"], out=out).run() == 1
  assert "a: failed, exit code 0 at step 0 of 4" in out.getvalue()
  assert all_states(tmp_path, ["a"]) == ["failed"]


def test_restarts_without_progress_have_a_limit(tmp_path):
  plan(tmp_path, stuck="75", slow="step step step 75 0")
  out = io.StringIO()
  sweep = sweep_of(tmp_path, ["stuck", "slow"], max_restarts=2, out=out)
  assert sweep.run() == 1
  assert starts(tmp_path, "stuck") == 3
  assert "preempted 3 times without getting beyond step 0" in out.getvalue()
  assert all_states(tmp_path, ["stuck", "slow"]) == ["failed", "done"]
  assert starts(tmp_path, "slow") == 5


def test_restarts_wait_longer_each_time(tmp_path):
  plan(tmp_path, one="75 75 0")
  began_s, out = time.monotonic(), io.StringIO()
  assert sweep_of(tmp_path, ["one"], backoff_s=0.4, out=out).run() == 0
  assert time.monotonic() - began_s > 0.4 + 0.8
  assert "again in 0.4 s" in out.getvalue()
  assert "again in 0.8 s" in out.getvalue()


def test_as_many_at_a_time_as_asked_each_with_its_gpu(tmp_path):
  names = list("abcde")
  plan(tmp_path, **dict.fromkeys(names, "0"))
  out = io.StringIO()
  sweep = sweep_of(tmp_path, names, parallel=2, gpus=("4", "6"), out=out)
  assert sweep.run() == 0
  running, peak = {}, 0
  for line in (tmp_path / "events.txt").read_text().splitlines():
    sign, name, gpu = line.split()
    if sign == "+":
      assert gpu in ("4", "6") and gpu not in running.values()
      running[name] = gpu
    else:
      del running[name]
    peak = max(peak, len(running))
  assert peak == 2
  with pytest.raises(ValueError, match="as many --gpus, not 2"):
    sweep_of(tmp_path, names, parallel=3, gpus=("4", "6"))
  with pytest.raises(ValueError, match="--parallel=0"):
    sweep_of(tmp_path, names, parallel=0)


@pytest.mark.parametrize(
  "number,code", [(signal.SIGTERM, 75), (signal.SIGINT, 130)]
)
def test_signals_reach_the_points(tmp_path, number, code):
  names = ["a", "b", "c"]
  plan(tmp_path, **dict.fromkeys(names, "wait"))
  with start_driver(tmp_path, names) as sweep:
    wait_for(lambda: starts(tmp_path, "a") and starts(tmp_path, "b"))
    assert all_states(tmp_path, names) == ["running"] * 2 + ["not started"]
    sweep.send_signal(number)
    out, _ = sweep.communicate(timeout=30)
  assert sweep.returncode == code, out
  assert all_states(tmp_path, names) == ["preempted"] * 2 + ["not started"]
  for name in names[:2]:
    marker = json.loads((tmp_path / name / "sweep.json").read_text())
    assert marker["exit_code"] == 75  # The stand-in's answer to SIGTERM.


def test_killed_sweep_leaves_no_doubles(tmp_path):
  plan(tmp_path, a="wait", b="wait")
  with start_driver(tmp_path, ["a", "b"], parallel=1) as sweep:
    wait_for(lambda: starts(tmp_path, "a"))
    sweep.kill()
  # Its child lives on, and holds the point against the next sweep.
  assert all_states(tmp_path, ["a", "b"]) == ["running", "not started"]
  with start_driver(tmp_path, ["a", "b"]) as sweep:
    wait_for(lambda: starts(tmp_path, "b"))
    (tmp_path / "go").touch()
    out, _ = sweep.communicate(timeout=30)
  assert sweep.returncode == 0, out
  assert "a: runs in another process" in out and "a: done before" in out
  assert starts(tmp_path, "a") == starts(tmp_path, "b") == 1


def test_point_that_was_killed_with_its_sweep(tmp_path):
  plan(tmp_path, a="0")
  states.mark(tmp_path / "a", states.RUNNING, point_named("a"), pid=1)
  assert all_states(tmp_path, ["a"]) == ["preempted"]
  # A folder that a training without a sweep has begun, and one it has ended.
  (tmp_path / "b").mkdir()
  (tmp_path / "b" / "config.json").touch()
  (tmp_path / "c" / "checkpoints" / "4").mkdir(parents=True)
  (tmp_path / "d" / "checkpoints" / "4.orbax-checkpoint-tmp-1").mkdir(
    parents=True
  )
  assert all_states(tmp_path, ["b", "c", "d"]) == [
    "preempted",
    "done",
    "not started",
  ]


def test_looking_writes_nothing(tmp_path):
  plan(tmp_path, a="0")
  states.mark(tmp_path / "a", states.FAILED, point_named("a"))
  before = sorted(tmp_path.rglob("*"))
  assert all_states(tmp_path, ["a"]) == ["failed"]
  assert sorted(tmp_path.rglob("*")) == before
  handle = states.lock(tmp_path / "a")
  assert all_states(tmp_path, ["a"]) == ["running"]
  os.close(handle)
  assert all_states(tmp_path, ["a"]) == ["failed"]


def test_two_sweeps_share_the_points(tmp_path):
  names = list("abcdef")
  plan(tmp_path, **dict.fromkeys(names, "0"))
  drivers = [start_driver(tmp_path, names) for _ in range(2)]
  for sweep in drivers:
    out, _ = sweep.communicate(timeout=60)
    assert sweep.returncode == 0, out
  assert [starts(tmp_path, name) for name in names] == [1] * 6


def test_line_of_progress(tmp_path):
  path = tmp_path / "metrics.jsonl"
  assert progress.last_record(path) is None
  path.write_text(
    '{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 0.123456}\n{"st'
  )
  line = progress.line(
    3, {"x": "done", "y": "failed"}, [(point_named("a"), tmp_path)]
  )
  assert line == "1 of 3 done, 1 failed | a: step 2 of 4, loss 0.1235"


# Two points of one program.
CONFIG = """
from configs import digits
from configs import points
get_config = digits.get_config
def sweep():
  return points.over("data.num_threads", (1, 2))
"""

TINY = (
  "--config.model.base_channels=8",
  "--config.model.emb_channels=8",
  "--config.model.channel_multiplier=1,2",
  "--config.model.num_res_blocks=1,",
  "--config.model.num_transformer_blocks=1",
  "--config.model.num_heads=2",
  "--config.train.batch_size=8",
  "--config.train.total_steps=40",
  "--config.train.log_every_steps=2",
  "--config.train.checkpoint_every_steps=4",
  "--config.train.sample_every_steps=40",
  "--config.train.num_samples=4",
  "--config.sample.num_steps=2",
)


@pytest.mark.slow
def test_trains_stops_goes_on_and_tabulates(tmp_path, tmp_path_factory):
  """The command itself, and the real training, stopped by a real SIGTERM."""
  (tmp_path / "mine.py").write_text(CONFIG)
  root = tmp_path / "root"
  environ = os.environ | {
    # The same network as in test_resume.py.
    "JAX_COMPILATION_CACHE_DIR": str(
      tmp_path_factory.getbasetemp() / "compiled"
    ),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": os.environ["XLA_FLAGS"],
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONPATH": str(ROOT),
  }

  def start(action, *args):
    command = [sys.executable, "-m", "scripts.sweep", action]
    command += [f"--config={tmp_path}/mine.py", f"--root={root}", *TINY, *args]
    return subprocess.Popen(
      command,
      cwd=ROOT,
      env=environ,
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )

  with start("run") as sweep:
    checkpoint = root / "num_threads=1" / "checkpoints" / "4"
    wait_for(
      lambda: checkpoint.exists() or sweep.poll() is not None, seconds=120
    )
    sweep.send_signal(signal.SIGTERM)
    out, err = sweep.communicate(timeout=60)
  assert sweep.returncode == 75, out + err
  assert "num_threads=1: stopped; the same sweep again goes on" in out
  marker = json.loads((root / "num_threads=1" / "sweep.json").read_text())
  assert marker["state"] == "preempted" and marker["exit_code"] == 75
  assert not (root / "num_threads=1" / "checkpoints" / "40").exists()
  assert not (root / "num_threads=2").exists()

  with start("run") as sweep:  # One after another: the second compiles nothing.
    second = root / "num_threads=2"
    wait_for(
      lambda: (second / "checkpoints" / "4").exists() or sweep.poll(),
      seconds=120,
    )
    # Now the training itself is preempted, and the sweep starts it again.
    owner = lock.owner_of(second)
    os.kill(owner["pid"], signal.SIGTERM)
    out, err = sweep.communicate(timeout=180)
  assert sweep.returncode == 0, out + err
  for name in ("num_threads=1", "num_threads=2"):
    assert "resuming" in (root / name / "log.txt").read_text()
  made = [
    json.loads(line) for line in (root / "sweep.jsonl").read_text().splitlines()
  ]
  assert [row["point"] for row in made] == ["num_threads=1", "num_threads=2"]
  for row in made:
    assert row["state"] == "done" and row["step"] == row["total_steps"] == 40
    # Neither gap nor double where it was stopped.
    content = (root / row["point"] / "metrics.jsonl").read_bytes()
    records = results.parse(content)
    counts = collections.Counter(record["step"] for record in records)
    assert counts == dict.fromkeys(range(2, 41, 2), 1)
    assert row["loss"] == records[-1]["loss"]
    assert f"{row['loss']:.5g}" in out
  assert (root / "sweep.png").stat().st_size > 10_000
