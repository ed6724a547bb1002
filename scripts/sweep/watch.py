# SPDX-License-Identifier: Apache-2.0
"""Looks after queued resources until every point is done."""

import time

from google.cloud import tpu_v2alpha1 as tpu

from scripts.sweep import queued
from scripts.sweep import states

State = tpu.QueuedResourceState.State
# States in which a resource will never run again.
GONE = (State.SUSPENDING, State.SUSPENDED, State.FAILED)
# Of nodes whose resource still says ACTIVE.
NODE_GONE = (
  tpu.Node.State.PREEMPTED,
  tpu.Node.State.TERMINATED,
  tpu.Node.State.STOPPED,
)
# After a resource has failed so often, another one is not worth trying.
MAX_FAILURES = 3
# Looks in a row that fail before the watch does.
MAX_ERRORS = 10


class Watch:
  """Recreates what is preempted, deletes what has ended, until all has."""

  def __init__(self, pool: queued.Pool, *, max_recreations: int, out):
    self.pool, self.out = pool, out
    self.max_recreations = max_recreations
    self.recreated = dict.fromkeys((p.name for p in pool.points), 0)
    self.failures = dict(self.recreated)
    self.ended: dict[str, str] = {}  # done or failed, by point name
    self.has_looked = False  # once without an error

  def run(self, *, every_s: float) -> int:
    """Looks every so many seconds; 0 if all points are done, else 1.

    Raises:
      OSError: if the first look fails, or MAX_ERRORS in a row.
    """
    num_errors = 0
    while True:
      try:
        self.look()
        num_errors = 0
      except OSError as error:
        num_errors += 1
        if not self.has_looked or num_errors >= MAX_ERRORS:
          raise
        # Quota comes back when another point ends, the network by itself.
        print(f"will try again: {error}", file=self.out, flush=True)
      if len(self.ended) == len(self.pool.points):
        return int(states.FAILED in self.ended.values())
      time.sleep(every_s)

  def look(self) -> None:
    """One round over all points.

    Raises:
      queued.ApiError: if Cloud TPU refuses; what is queued stays.
    """
    existing, nodes = self.pool.existing(), self.pool.nodes()
    for point in self.pool.points:
      if point.name not in self.ended:
        self._look_at(point, existing.get(point.name), nodes.get(point.name))
    self.has_looked = True

  def _look_at(self, point, resource, node):
    state = states.state(self.pool.order.root, point)
    if state == states.FAILED and self._is_launched_since(point, resource):
      state = states.NOT_STARTED
    if state in (states.DONE, states.FAILED):
      self._finish(point, resource, state)
    elif resource is None:
      # Deleted by hand, by Google, or never queued.
      self._recreate(point, "queued")
    elif resource.state.state == State.FAILED:
      self.failures[point.name] += 1
      why = resource.state.failed_data.error.message or "no reason given"
      self.pool.delete(point)
      if self.failures[point.name] >= MAX_FAILURES:
        self._give_up(point, f"failed {MAX_FAILURES} times: {why}")
      else:
        self._recreate(point, f"failed ({why}), queued again")
    elif resource.state.state in GONE or (node and node.state in NODE_GONE):
      self.pool.delete(point)
      self._recreate(point, "preempted, queued again")

  def _is_launched_since(self, point, resource):
    """Whether the point was queued anew after it had failed."""
    marker = states.read_marker(self.pool.order.root, point)
    if resource is None:
      return False
    began = resource.create_time.strftime(states.TIME_FORMAT)
    return began > marker["time"]

  def _finish(self, point, resource, state):
    if resource is not None and resource.state.state != State.DELETING:
      self.pool.delete(point)
    self.ended[point.name] = state
    self._say(point, f"{state}; its TPU is deleted")

  def _recreate(self, point, what):
    if self.recreated[point.name] > self.max_recreations:
      self._give_up(point, f"recreated {self.max_recreations} times")
      return
    try:
      self.pool.create(point)
    except queued.ApiError as error:
      raise queued.ApiError(f"{point.name}: {error}") from error
    self.recreated[point.name] += 1
    self._say(point, what)

  def _give_up(self, point, why):
    self.ended[point.name] = states.FAILED
    self._say(point, f"given up, {why}")

  def _say(self, point, text):
    now = time.strftime("%F %T")
    print(f"{now} {point.name}: {text}", file=self.out, flush=True)


def status_table(pool: queued.Pool) -> str:
  """Point by point: the training, the resource, the node and the log."""
  existing, nodes = pool.existing(), pool.nodes()
  rows = [("point", "training", "resource", "node", "log")]
  for point in pool.points:
    resource, node = existing.get(point.name), nodes.get(point.name)
    rows.append(
      (
        point.name,
        states.state(pool.order.root, point),
        resource.state.state.name.lower() if resource else "-",
        node.state.name.lower() if node else "-",
        f"{pool.order.root}/{point.name}/logs/worker-0.txt",
      )
    )
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  return "\n".join(
    "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
    for row in rows
  )
