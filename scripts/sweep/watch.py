# SPDX-License-Identifier: Apache-2.0
"""Looks after queued resources until every point is done."""

import time

from google.cloud import tpu_v2alpha1 as tpu

from scripts.sweep import queued
from scripts.sweep import states
from scripts.sweep import store

State = queued.State
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
# What is rented for a point that was taken out of the config's sweep().
STRAY = "no point of the sweep any longer"
# By startup.sh: the size of the first worker's log.
SIZE_OF_LOG = "logs/bytes.txt"


class Watch:
  """Recreates what is preempted, deletes what has ended, until all has.

  It decides by what it has seen itself: a point is queued if it never was, or
  if this watch has deleted its resource. Others may delete one to be rid of it.
  """

  def __init__(
    self,
    pool: queued.Pool,
    *,
    max_recreations: int,
    out,
    hung_after_s: float = 2700.0,
    clock=time.monotonic,
  ):
    """
    Args:
      pool: of the points.
      max_recreations: of a point, whatever the reason.
      out: file that what happens is written to.
      hung_after_s: seconds that a TPU may run while neither the point's marker
        nor its log changes; longer than its workers wait for one another.
      clock: seconds.
    """
    self.pool, self.out, self.clock = pool, out, clock
    self.max_recreations, self.hung_after_s = max_recreations, hung_after_s
    self.recreated = dict.fromkeys((p.name for p in pool.points), 0)
    self.failures = dict(self.recreated)
    self.ended: dict[str, str] = {}  # done or failed, by point name
    self.seen: set[str] = set()  # points with a resource that is not deleted
    self.signs: dict[str, tuple] = {}  # (of life, when it came), by point name
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
    elif resource is None and point.name in self.seen:
      self._give_up(point, "deleted by somebody; not queued again")
    elif resource is None:
      self._create(point, "queued")
    elif resource.state.state == State.FAILED:
      why = resource.state.failed_data.error.message or "no reason given"
      self._fail(point, f"failed ({why})")
    elif resource.state.state in queued.GONE or (
      node and node.state in NODE_GONE
    ):
      self._delete(point)
      self._recreate(point, "preempted")
    elif resource.state.state == State.ACTIVE:
      self.seen.add(point.name)
      self._look_for_life(point, resource)
    elif resource.state.state != State.DELETING:
      self.seen.add(point.name)  # It waits; that costs nothing.
      self.signs.pop(point.name, None)

  def _look_for_life(self, point, resource):
    """Deletes a TPU that is paid for and does nothing."""
    root, now = self.pool.order.root, self.clock()
    sign = (
      resource.create_time,
      states.read_marker(root, point),
      store.read(root, f"{point.name}/{SIZE_OF_LOG}"),
    )
    before, when = self.signs.get(point.name, (None, now))
    if sign != before:
      self.signs[point.name] = (sign, now)
    elif now - when > self.hung_after_s:
      minutes = self.hung_after_s / 60
      self._fail(point, f"hung (nothing new for {minutes:g} minutes)")

  def _is_launched_since(self, point, resource):
    """Whether the point was queued anew after it had failed."""
    marker = states.read_marker(self.pool.order.root, point)
    if resource is None:
      return False
    began = resource.create_time.strftime(states.TIME_FORMAT)
    return began > marker["time"]

  def _finish(self, point, resource, state):
    if resource is None:
      self.ended[point.name] = state
      self._say(point, state)
      return
    if resource.state.state != State.DELETING:
      self._delete(point)
    self.ended[point.name] = state
    self._say(point, f"{state}; its TPU is deleted")

  def _fail(self, point, why):
    """A resource of no use: another one, but not for ever."""
    self.failures[point.name] += 1
    self._delete(point)
    if self.failures[point.name] >= MAX_FAILURES:
      self._give_up(point, f"{MAX_FAILURES} times without success: {why}")
    else:
      self._recreate(point, why)

  def _delete(self, point):
    self.seen.discard(point.name)  # Before it is slow, or refused.
    self.pool.delete(point)
    self.signs.pop(point.name, None)

  def _recreate(self, point, why):
    if self.recreated[point.name] >= self.max_recreations:
      self._give_up(point, f"{why}; recreated {self.max_recreations} times")
      return
    self.recreated[point.name] += 1  # If it is refused now, another look will.
    self._create(point, f"{why}, queued again")

  def _create(self, point, what):
    try:
      self.pool.create(point)
    except queued.ApiError as error:
      raise queued.ApiError(f"{point.name}: {error}") from error
    self.seen.add(point.name)
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
  for resource in pool.strays():
    id_, state = resource.name.rpartition("/")[2], resource.state.state
    rows.append((id_, STRAY, state.name.lower(), "-", "tpu delete deletes it"))
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  return "\n".join(
    "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
    for row in rows
  )
