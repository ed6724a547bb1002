# SPDX-License-Identifier: Apache-2.0
"""The metrics of training, averaged over windows of steps.

Numbers are fetched a whole window late, so that the device never waits for the
host; the host waits for the device when it is two steps ahead. A run that is
saved inside a window keeps what it has of it beside its checkpoints, so that
the record of a resumed run is the same.
"""

import collections
import contextlib
import json
import os
import time

import jax
import numpy as np

from experiments import records

# Steps that the host queues while the device works on one. More gain nothing,
# and all of them are computed before a run that is preempted can be saved.
STEPS_AHEAD = 2


def _stacked(window):
  metrics = jax.device_get(window)
  return {name: np.stack([m[name] for m in metrics]) for name in metrics[0]}


def _require_finite(metrics, first_step):
  for i in range(len(metrics["loss"])):
    for name in ("loss", "grad_norm"):
      if not np.isfinite(metrics[name][i]):
        raise FloatingPointError(
          f"{name} is {metrics[name][i]} at step {first_step + i}; the "
          "parameters were not updated, and checkpoints are from before. Lower "
          "optim.lr or raise optim.warmup_steps, and start a new workdir"
        )


def _partial(path, step) -> list[dict]:
  """The metrics of the window that a checkpoint of this step has cut."""
  found = []
  if path.exists():
    for line in path.read_text().splitlines():
      with contextlib.suppress(json.JSONDecodeError):  # cut by a kill
        saved = json.loads(line)
        if saved["step"] == step:
          found = saved["metrics"]
  # float32 survives its way through JSON.
  return [{k: np.float32(v) for k, v in metrics.items()} for metrics in found]


class Windows:
  """See `open_windows`."""

  def __init__(self, write, path, start_step):
    self._write, self._path = write, path
    self._window = _partial(path, start_step)  # of arrays on the device
    self._pending = None
    self._ahead = collections.deque()
    self._num_new, self._wait_s = 0, 0.0
    self._start_s = time.perf_counter()
    self._step = start_step

  @contextlib.contextmanager
  def waiting_for_data(self):
    """Times what the block takes as waiting."""
    began_s = time.perf_counter()
    yield
    self._wait_s += time.perf_counter() - began_s

  @contextlib.contextmanager
  def paused(self):
    """Does not count the block as time of training."""
    began_s = time.perf_counter()
    yield
    self._start_s += time.perf_counter() - began_s

  def add(self, step: int, metrics) -> None:
    """Takes a step's metrics, scalars on the device.

    Waits for those of `STEPS_AHEAD` steps before.
    """
    self._window.append(metrics)
    self._ahead.append(metrics)
    if len(self._ahead) > STEPS_AHEAD:
      jax.block_until_ready(self._ahead.popleft())
    self._num_new += 1
    self._step = step

  def end_window(self) -> float | None:
    """Ends a window; writes the one before, whose mean loss it returns.

    Raises:
      FloatingPointError: if that has metrics that are not finite.
    """
    loss = self._write_pending()
    now_s = time.perf_counter()
    elapsed_s = now_s - self._start_s
    speed = {
      "steps_per_second": self._num_new / elapsed_s,
      "data_wait_fraction": self._wait_s / elapsed_s,
    }
    self._pending = self._step, self._window, speed
    self._window, self._num_new, self._wait_s = [], 0, 0.0
    self._start_s = now_s
    return loss

  def flush(self) -> None:
    """Puts on disk what there is, before a checkpoint of the last step.

    Raises:
      FloatingPointError: if there are metrics that are not finite.
    """
    self._write_pending()
    if not self._window:
      return
    metrics = _stacked(self._window)
    _require_finite(metrics, self._step - len(self._window) + 1)
    if self._write:
      rows = [
        {name: float(values[i]) for name, values in metrics.items()}
        for i in range(len(self._window))
      ]
      # Appended: an older checkpoint may be the one that is resumed from.
      with open(self._path, "a") as file:
        line = json.dumps({"step": self._step, "metrics": rows})
        file.write(f"\n{line}\n")  # Whatever a kill has left before it.
        file.flush()
        os.fsync(file.fileno())

  def _write_pending(self):
    if self._pending is None:
      return None
    step, window, speed = self._pending
    self._pending = None
    metrics = _stacked(window)
    _require_finite(metrics, step - len(window) + 1)
    record = {name: float(value.mean()) for name, value in metrics.items()}
    if self._write:
      self._write({"step": step, **record, **speed})
    return record["loss"]


@contextlib.contextmanager
def open_windows(workdir, *, start_step: int, is_writer: bool):
  """Yields the `Windows` of a run that goes on from start_step.

  Args:
    workdir: the run's folder, with metrics.jsonl and partial_windows.jsonl.
    start_step: the step of the checkpoint that it resumes from, 0 for none.
    is_writer: whether this process writes; the others check their numbers.
  """
  path = workdir / "partial_windows.jsonl"
  if not is_writer:
    yield Windows(None, path, start_step)
    return
  with records.open_records(workdir, start_step=start_step) as write:
    yield Windows(write, path, start_step)
