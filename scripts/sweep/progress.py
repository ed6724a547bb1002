# SPDX-License-Identifier: Apache-2.0
"""What a running sweep prints: events, and between them one line."""

import json
import os
import time

# How often the line is written again: to a terminal, in place; to a file.
TERMINAL_S, FILE_S = 1.0, 60.0


class Report:
  """Writes events as they come and a line of progress now and then."""

  def __init__(self, num_points: int, out):
    self.num_points, self.out = num_points, out
    self.is_terminal = out.isatty()
    self.last_s = time.monotonic()

  def event(self, text: str) -> None:
    self._clear()
    print(text, file=self.out, flush=True)

  def tick(self, ended: dict, running) -> None:
    """Writes the line if it is time to.

    Args:
      ended: "done" or "failed" by point name.
      running: (point, folder) of each point that runs.
    """
    every_s = TERMINAL_S if self.is_terminal else FILE_S
    if time.monotonic() - self.last_s < every_s:
      return
    self.last_s = time.monotonic()
    text = line(self.num_points, ended, running)
    self._clear()
    if self.is_terminal:
      columns = os.get_terminal_size(self.out.fileno()).columns or 80
      text = text[: columns - 1]
    end = "" if self.is_terminal else "\n"
    print(text, end=end, file=self.out, flush=True)

  def _clear(self):
    if self.is_terminal:
      self.out.write("\r\033[K")  # erases the line


def line(num_points: int, ended: dict, running) -> str:
  """Such as "3 of 12 done, 1 failed | lr=0.1: step 40 of 100, loss 0.52"."""
  states = list(ended.values())
  parts = [f"{states.count('done')} of {num_points} done"]
  if num_failed := states.count("failed"):
    parts.append(f"{num_failed} failed")
  texts = [", ".join(parts)]
  for point, folder in running:
    record = last_record(folder / "metrics.jsonl") or {"step": 0}
    text = f"{point.name}: step {record['step']} of {point.total_steps}"
    if "loss" in record:
      text += f", loss {record['loss']:.4g}"
    texts.append(text)
  return " | ".join(texts)


def last_record(path) -> dict | None:
  """The last whole line of a file of JSON lines, without reading it all."""
  if not path.exists():
    return None
  with open(path, "rb") as file:
    file.seek(max(0, path.stat().st_size - 65_536))
    lines = file.read().split(b"\n")[:-1]  # What follows the last newline: cut.
  return json.loads(lines[-1]) if lines else None
