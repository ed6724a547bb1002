# SPDX-License-Identifier: Apache-2.0
"""Runs points as processes of this machine, some at a time.

The sweep keeps nothing that the folders do not hold: killed at any moment and
started again, it goes on with the points that are not done. Two sweeps of one
root share the work, since a point's folder is locked while it runs.
"""

import collections
import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import time

from experiments import cli
from scripts.sweep import points as points_lib
from scripts.sweep import progress
from scripts.sweep import states

LOG = "log.txt"
POLL_S = 0.1
# Before asking again for a point that another process runs.
BUSY_S = 2.0


def train_command(root: str, point: points_lib.Point) -> list[str]:
  """The command that trains a point, or goes on with it."""
  workdir = f"--workdir={root}/{point.name}"
  return [sys.executable, "-m", "experiments.train", *point.flags, workdir]


@dataclasses.dataclass
class Job:
  """A point in a queue or, with a process, running."""

  point: points_lib.Point
  folder: pathlib.Path
  not_before: float = 0.0
  restarts: int = 0  # since it last came further
  last_step: int = 0
  process: subprocess.Popen | None = None
  lock: int = -1
  gpu: str | None = None


class Sweep:
  """The points of one `run`, and how far they are."""

  def __init__(
    self,
    points,
    root: str,
    *,
    parallel: int = 1,
    max_restarts: int = 5,
    backoff_s: float = 5.0,
    gpus: tuple[str, ...] = (),
    command=train_command,
    out=sys.stdout,
  ):
    """
    Args:
      points: checked ones.
      root: folder of the points' folders.
      parallel: how many run at a time.
      max_restarts: of a point that is preempted without coming further.
      backoff_s: seconds before the first restart; doubles, up to 5 minutes.
      gpus: numbers of GPUs; each running point then sees one of them only.
      command: (root, point) -> arguments of a process.
      out: file that progress is written to.
    """
    if parallel < 1:
      raise ValueError(f"--parallel={parallel} must be at least 1")
    if gpus and parallel > len(gpus):
      raise ValueError(
        f"--parallel={parallel} points need as many --gpus, not {len(gpus)}"
      )
    self.root, self.parallel, self.command = root, parallel, command
    self.max_restarts, self.backoff_s = max_restarts, backoff_s
    self.free_gpus = list(gpus)
    self.queue = collections.deque(
      Job(point, pathlib.Path(root) / point.name) for point in points
    )
    self.running: list[Job] = []
    self.ended: dict[str, str] = {}  # point name -> done or failed
    self.signals: list[int] = []
    self.report = progress.Report(len(points), out)

  def run(self) -> int:
    """Runs everything that is not done; returns the exit code.

    0: all points are done. 1: some failed. 75 or 130: stopped by SIGTERM or
    SIGINT, which the running points got as SIGTERM, to save themselves.
    """
    handlers = {
      number: signal.signal(number, lambda got, _: self.signals.append(got))
      for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
      self._loop()
    finally:
      for number, handler in handlers.items():
        signal.signal(number, handler)
      for job in self.running:  # Only an error of our own leaves any.
        os.killpg(job.process.pid, signal.SIGTERM)
    if self.signals:
      is_term = self.signals[0] == signal.SIGTERM
      return cli.EXIT_PREEMPTED if is_term else 128 + signal.SIGINT
    return int(states.FAILED in self.ended.values())

  def _loop(self):
    num_passed = 0
    while self.running or (self.queue and not self.signals):
      for _ in range(num_passed, len(self.signals)):
        self._pass_on(is_first=num_passed == 0)
        num_passed += 1
      if not self.signals:
        self._start_some()
      for job in [j for j in self.running if j.process.poll() is not None]:
        self.running.remove(job)
        self._end(job)
      self.report.tick(self.ended, [(j.point, j.folder) for j in self.running])
      time.sleep(POLL_S)

  def _pass_on(self, *, is_first):
    """SIGTERM to what runs; whoever asks twice does not want to wait."""
    for job in self.running:
      if is_first:
        job.process.terminate()
      else:
        os.killpg(job.process.pid, signal.SIGKILL)
    if is_first and self.running:
      self.report.event("stopping: running points save themselves; again: kill")

  def _start_some(self):
    for _ in range(len(self.queue)):
      if len(self.running) >= self.parallel or self.signals:
        return
      job = self.queue.popleft()
      if job.not_before > time.monotonic() or not self._start(job):
        if job.point.name not in self.ended:
          self.queue.append(job)

  def _start(self, job) -> bool:
    """Starts a point, unless it is done or another process has it."""
    name = job.point.name
    job.folder.mkdir(parents=True, exist_ok=True)
    lock = states.lock(job.folder)
    if lock is None:
      if not job.not_before:
        self.report.event(f"{name}: runs in another process; waiting for it")
      job.not_before = time.monotonic() + BUSY_S
      return False
    if states.last_state(self.root, job.point) == states.DONE:
      os.close(lock)
      self.ended[name] = states.DONE
      self.report.event(f"{name}: done before")
      return False
    job.lock, job.last_step = lock, states.newest_step(job.folder)
    job.gpu = self.free_gpus.pop(0) if self.free_gpus else None
    environment = dict(os.environ)
    if job.gpu is not None:
      environment["CUDA_VISIBLE_DEVICES"] = job.gpu
    command = self.command(self.root, job.point)
    with open(job.folder / LOG, "a") as log:
      log.write(f"\n-- {time.strftime('%F %T')} {' '.join(command)}\n")
      log.flush()
      # Its own group: Ctrl-C must reach it through us, as a SIGTERM.
      job.process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=environment,
        pass_fds=(job.lock,),
        start_new_session=True,
      )
    self._mark(job, states.RUNNING, pid=job.process.pid)
    self.running.append(job)
    self.report.event(f"{name}: started, log in {job.folder / LOG}")
    return True

  def _end(self, job):
    """Records how a process ended; preempted points go back to the queue."""
    code, name = job.process.returncode, job.point.name
    if job.gpu is not None:
      self.free_gpus.append(job.gpu)
    # A process that was told to stop before it listened dies of SIGTERM.
    is_preempted = code in (cli.EXIT_PREEMPTED, -signal.SIGTERM)
    is_preempted |= bool(self.signals) and code < 0
    step = states.newest_step(job.folder)
    if code == 0 and step < job.point.total_steps:
      self._fail(job, f"exit code 0 at step {step} of {job.point.total_steps}")
    elif code == 0:
      self.ended[name] = states.DONE
      self._mark(job, states.DONE, exit_code=0)
      self.report.event(f"{name}: done")
    elif is_preempted and self.signals:
      self._mark(job, states.PREEMPTED, exit_code=code)
      self.report.event(f"{name}: stopped; the same sweep again goes on")
    elif is_preempted:
      self._restart(job)
    else:
      self._fail(job, f"exit code {code}: {last_line(job.folder / LOG)}")
    os.close(job.lock)

  def _restart(self, job):
    step = states.newest_step(job.folder)
    job.restarts = 1 if step > job.last_step else job.restarts + 1
    if job.restarts > self.max_restarts:
      self._fail(
        job,
        f"preempted {job.restarts} times without getting beyond step {step}",
      )
      return
    wait_s = min(300.0, self.backoff_s * 2 ** (job.restarts - 1))
    job.not_before = time.monotonic() + wait_s
    self._mark(job, states.PREEMPTED, exit_code=cli.EXIT_PREEMPTED)
    self.queue.append(job)
    self.report.event(
      f"{job.point.name}: preempted at step {step}, again in {wait_s:g} s"
    )

  def _fail(self, job, why):
    self.ended[job.point.name] = states.FAILED
    self._mark(job, states.FAILED, exit_code=job.process.returncode, why=why)
    self.report.event(f"{job.point.name}: failed, {why}")

  def _mark(self, job, state, **details):
    states.mark(job.folder, state, job.point, restarts=job.restarts, **details)


def last_line(path: pathlib.Path) -> str:
  """The last line of a log that is not empty; programs end with the reason."""
  lines = path.read_text(errors="replace").replace("\r", "\n").splitlines()
  return next((line.strip() for line in reversed(lines) if line.strip()), "")
