# SPDX-License-Identifier: Apache-2.0
"""SIGTERM to real runs: saved, ended in time, and gone on with exactly."""

import signal
import time

import chex
import numpy as np
import pytest
import real_runs

from experiments import cli
from experiments import windows

PREEMPTED = 75  # as documented
LIMIT_S = 30.0

LONG = (
  *real_runs.TINY,
  "--config.train.batch_size=8",
  "--config.train.total_steps=300",
  "--config.train.log_every_steps=100",
  "--config.train.checkpoint_every_steps=100",
  "--config.train.sample_every_steps=30",
)


def preempt(children, is_time, to=0):
  """SIGTERM to one of the processes, twice; returns how all of them end."""
  real_runs.wait_until(is_time, children)
  began_s = time.monotonic()
  for _ in range(2):  # The second one changes nothing.
    children[to].send_signal(signal.SIGTERM)
    time.sleep(0.1)
  ended = real_runs.end(children)
  assert time.monotonic() - began_s < LIMIT_S
  return ended


def num_grids(workdir):
  """How many samples there are: one each 30 steps."""
  return len(list(workdir.glob("samples/*.png")))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  """The folder and stderr of a run that was left alone, but for a profile."""
  workdir = tmp_path_factory.mktemp("whole")
  (ended,) = real_runs.end(
    [real_runs.start(*LONG, f"--workdir={workdir}", "--profile_steps=3")]
  )
  assert ended[0] == 0, ended[2]
  return workdir, ended[2]


def test_code_is_the_documented_one():
  assert cli.EXIT_PREEMPTED == PREEMPTED


@pytest.mark.slow
def test_profile_is_written(whole):
  workdir, err = whole
  assert f"profile from step 101 on: {workdir}/profile" in err
  (trace,) = (workdir / "profile").rglob("*.xplane.pb")
  # It has the step, three times: its name is in the trace.
  assert b"train_step" in trace.read_bytes()


@pytest.mark.slow
def test_resumed_equals_uninterrupted(whole, tmp_path):
  stopped = []
  for _ in range(2):
    before = num_grids(tmp_path)
    child = real_runs.start(*LONG, f"--workdir={tmp_path}")
    ((code, _, err),) = preempt(
      [child], lambda before=before: num_grids(tmp_path) > before
    )
    assert code == PREEMPTED, err
    assert "saved; the same command resumes" in err
    assert not (tmp_path / "lock.json").exists()
    stopped.append(real_runs.steps(tmp_path)[-1])
  assert 0 < stopped[0] < stopped[1] < 300
  assert any(step % 100 for step in stopped)  # within a window of the record
  (out,) = real_runs.finish([real_runs.start(*LONG, f"--workdir={tmp_path}")])
  assert f"resuming {tmp_path} from step {stopped[-1]}" in out
  # Line by line and bit by bit.
  assert real_runs.records(tmp_path) == real_runs.records(whole[0])
  chex.assert_trees_all_equal(
    real_runs.load_state(tmp_path, 300), real_runs.load_state(whole[0], 300)
  )
  assert num_grids(tmp_path) == num_grids(whole[0]) == 10
  for grid in (whole[0] / "samples").iterdir():
    assert (tmp_path / "samples" / grid.name).read_bytes() == grid.read_bytes()


def test_compiling_ends_at_once(tmp_path):
  # Without compiled programs, kept ones or any that are kept.
  environ = {"HOME": str(tmp_path), "JAX_COMPILATION_CACHE_DIR": ""}
  child = real_runs.start(*LONG, f"--workdir={tmp_path}/run", environ=environ)
  assert real_runs.has_printed(child, "total ")
  time.sleep(1.0)  # Programs take several seconds.
  child.send_signal(signal.SIGTERM)
  began_s = time.monotonic()
  ((code, _, err),) = real_runs.end([child])
  assert time.monotonic() - began_s < 3
  assert code == PREEMPTED
  assert "preempted; all there was is saved" in err
  assert not real_runs.steps(tmp_path / "run")
  assert not (tmp_path / "run" / "lock.json").exists()
  assert not (tmp_path / ".cache").exists()


@pytest.mark.slow
def test_sampling_ends_at_once_and_is_made_up_for(tmp_path):
  args = (
    *LONG,
    f"--workdir={tmp_path}",
    "--config.train.total_steps=7",
    "--config.train.log_every_steps=2",
    "--config.train.checkpoint_every_steps=4",
    "--config.train.sample_every_steps=4",
  )
  child = real_runs.start(*args, "--config.sample.num_steps=1000000")
  ((code, _, err),) = preempt([child], lambda: real_runs.steps(tmp_path) == [4])
  assert code == PREEMPTED, err
  assert (
    real_runs.steps(tmp_path) == [4] and not (tmp_path / "samples").exists()
  )
  real_runs.finish([real_runs.start(*args)])
  grids = sorted(path.name for path in (tmp_path / "samples").iterdir())
  assert grids == ["step_00000004.png", "step_00000007.png"]
  assert [r["step"] for r in real_runs.records(tmp_path)] == [2, 4, 6, 7]


@pytest.mark.slow
def test_one_of_two_processes(whole, tmp_path):
  args = *LONG, f"--workdir={tmp_path}"
  ended = preempt(
    real_runs.start_many(2, *args), lambda: num_grids(tmp_path) > 0, to=1
  )
  step = real_runs.steps(tmp_path)[-1]
  for code, _, err in ended:
    assert code == PREEMPTED, err
    assert f"preempted at step {step}; saved; the same command resumes" in err
  until = (step // 100 + 1) * 100
  real_runs.finish(
    real_runs.start_many(2, *args, f"--config.train.total_steps={until}")
  )
  ours, theirs = (
    np.array([[r["step"], r["loss"]] for r in real_runs.records(folder)])
    for folder in (tmp_path, whole[0])
  )
  assert len(ours) == until // 100
  # Rounding, magnified over so many steps.
  np.testing.assert_allclose(ours, theirs[: len(ours)], rtol=1e-4)


def write_all(folder, last, stops=(), start=0):
  """(step, loss) of the records of steps 1..last, resumed after each stop."""
  folder.mkdir(exist_ok=True)
  for stop in [*stops, last]:
    with windows.open_windows(folder, start_step=start, is_writer=True) as log:
      for step in range(start + 1, stop + 1):
        value = np.float32(step**0.5)
        log.add(step, {"loss": value, "grad_norm": value})
        if step % 4 == 0 or step == last:
          log.end_window()
      log.flush()
    start = stop
  return [
    (record["step"], record["loss"]) for record in real_runs.records(folder)
  ]


@pytest.mark.parametrize("stops", [[4], [1], [3, 5, 6], [2, 9], [7, 8, 9]])
def test_windows_are_those_of_the_uninterrupted_run(tmp_path, stops):
  whole = write_all(tmp_path / "whole", 10)
  assert [step for step, _ in whole] == [4, 8, 10]
  assert write_all(tmp_path / "stopped", 10, stops) == whole


def test_windows_of_an_older_checkpoint(tmp_path):
  whole = write_all(tmp_path / "whole", 10)
  folder = tmp_path / "stopped"
  write_all(folder, 10, stops=[5, 9])
  # The checkpoints of 9 and 10 are lost, and a kill has cut a line in half.
  with open(folder / "partial_windows.jsonl", "a") as file:
    file.write('{"step": 5, "metr')
  assert write_all(folder, 10, stops=[6], start=5) == whole


def test_window_with_nan_is_not_saved(tmp_path):
  with windows.open_windows(tmp_path, start_step=0, is_writer=True) as log:
    log.add(1, {"loss": np.float32(1), "grad_norm": np.float32(1)})
    log.add(2, {"loss": np.float32(1), "grad_norm": np.float32(np.nan)})
    with pytest.raises(FloatingPointError, match="grad_norm is nan at step 2;"):
      log.flush()
  assert not (tmp_path / "partial_windows.jsonl").exists()
