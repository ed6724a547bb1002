# SPDX-License-Identifier: Apache-2.0
"""Records in JSON lines: of a run, also for TensorBoard, and of results."""

import contextlib
import json
import os
import pathlib

import tensorboardX

from experiments import workdir as workdir_lib


def append_result(path: pathlib.Path, record: dict) -> None:
  """Appends one line of JSON to a file of results; makes its folder."""
  path.parent.mkdir(parents=True, exist_ok=True)
  line = json.dumps(record) + "\n"  # First: an error here leaves no half line.
  with open(path, "a") as file:
    file.write(line)


def _truncate(path: pathlib.Path, last_step: int) -> None:
  """Drops the records after last_step, and a line that a kill cut in half."""
  if not path.exists():
    return
  kept = []
  for line in path.read_text().splitlines():
    try:
      record = json.loads(line)
    except json.JSONDecodeError:
      continue
    if record["step"] <= last_step:
      kept.append(line + "\n")
  workdir_lib.write_whole(path, "".join(kept))


@contextlib.contextmanager
def open_records(workdir: pathlib.Path, *, start_step: int):
  """Yields write(record), which appends {"step": int, name: float, ...}.

  A resumed run rewrites what lay after its checkpoint: records beyond
  start_step are dropped, so the file has neither gap nor duplicate.
  """
  path = workdir / "metrics.jsonl"
  _truncate(path, start_step)
  events = tensorboardX.SummaryWriter(
    str(workdir / "tensorboard"), purge_step=start_step + 1
  )
  with open(path, "a") as file:

    def write(record):
      file.write(json.dumps(record) + "\n")
      file.flush()
      os.fsync(file.fileno())
      for name, value in record.items():
        if name != "step":
          events.add_scalar(name, value, record["step"])
      events.flush()

    try:
      yield write
    finally:
      events.close()
