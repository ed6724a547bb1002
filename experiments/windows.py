# SPDX-License-Identifier: Apache-2.0
"""The metrics of training, averaged over windows of steps.

Nothing here waits for the device until a whole window later: the loop can
queue steps ahead. A run that ends inside a window keeps what it has of it
beside its checkpoint, so that the record of a resumed run is the same.
"""

import contextlib
import json
import time

import jax
import numpy as np

from experiments import records
from experiments import workdir as workdir_lib


def first_not_finite(metrics, first_step):
  """(step, name, value) of the first non-finite metric, or None."""
  for i in range(len(metrics["loss"])):
    for name in ("loss", "grad_norm"):
      if not np.isfinite(metrics[name][i]):
        return first_step + i, name, metrics[name][i]
  return None


def _stacked(window):
  metrics = jax.device_get(window)
  return {name: np.stack([m[name] for m in metrics]) for name in metrics[0]}


class Windows:
  """See `open_windows`."""

  def __init__(self, write, path, start_step):
    self._write, self._path = write, path
    self._window, self._pending = [], None  # on the device
    self._num_new, self._wait_s = 0, 0.0
    self._start_s = time.perf_counter()
    self._step = start_step
    if path.exists():
      saved = json.loads(path.read_text())
      if saved["step"] == start_step:
        self._window = [
          {name: np.float32(value) for name, value in metrics.items()}
          for metrics in saved["metrics"]
        ]

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
    """Takes a step's metrics, scalars on the device."""
    self._window.append(metrics)
    self._num_new += 1
    self._step = step

  def end_window(self) -> float | None:
    """Ends a window; writes the one before, whose mean loss it returns."""
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
    """Puts on disk what there is, before a checkpoint of the last step."""
    self._write_pending()
    if not self._write:
      return
    if not self._window:
      self._path.unlink(missing_ok=True)
      return
    metrics = [
      {name: float(value) for name, value in m.items()}
      for m in jax.device_get(self._window)
    ]
    workdir_lib.write_json(self._path, {"step": self._step, "metrics": metrics})

  def _write_pending(self):
    if self._pending is None:
      return None
    step, window, speed = self._pending
    self._pending = None
    metrics = _stacked(window)
    if bad := first_not_finite(metrics, step - len(window) + 1):
      raise FloatingPointError(
        f"{bad[1]} is {bad[2]} at step {bad[0]}; the parameters were not "
        "updated, and checkpoints are from before. Lower optim.lr or raise "
        "optim.warmup_steps, and start a new workdir"
      )
    record = {name: float(value.mean()) for name, value in metrics.items()}
    if self._write:
      self._write({"step": step, **record, **speed})
    return record["loss"]


@contextlib.contextmanager
def open_windows(workdir, *, start_step: int, is_writer: bool):
  """Yields the `Windows` of a run that goes on from start_step.

  Args:
    workdir: the run's folder, with metrics.jsonl and partial_window.json.
    start_step: the step of the checkpoint that it resumes from, 0 for none.
    is_writer: whether this process writes; the others check their numbers.
  """
  path = workdir / "partial_window.json"
  if not is_writer:
    yield Windows(None, path, start_step)
    return
  with records.open_records(workdir, start_step=start_step) as write:
    yield Windows(write, path, start_step)
