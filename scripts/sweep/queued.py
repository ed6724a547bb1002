# SPDX-License-Identifier: Apache-2.0
"""Creates, watches and deletes the queued resources of a sweep's points."""

import dataclasses
import time

from google.api_core import exceptions
from google.auth import exceptions as auth_exceptions
from google.cloud import tpu_v2alpha1 as tpu
from google.cloud.tpu_v2alpha1.services.tpu import transports
import grpc

from scripts.sweep import cloud_tpu
from scripts.sweep import points as points_lib
from scripts.sweep import states

State = tpu.QueuedResourceState.State
# Seconds until an operation of the API has to be through; a resource then
# waits in Google's queue, for however long.
OPERATION_S = 900.0
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


class ApiError(Exception):
  """What Cloud TPU refuses, as one message."""


def connect(endpoint: str = "") -> tpu.TpuClient:
  """A client with the user's own credentials.

  Args:
    endpoint: host:port of another server; one on this machine is spoken to in
      plain text and without credentials, as a stand-in for tests is.

  Raises:
    ApiError: if there are no credentials.
  """
  try:
    if endpoint.startswith(("localhost:", "127.0.0.1:")):
      channel = grpc.insecure_channel(endpoint)
      return tpu.TpuClient(
        transport=transports.TpuGrpcTransport(channel=channel)
      )
    options = {"api_endpoint": endpoint} if endpoint else None
    return tpu.TpuClient(client_options=options)
  except auth_exceptions.GoogleAuthError as error:
    raise ApiError(
      f"no credentials for Google Cloud ({error}); run gcloud auth "
      "application-default login"
    ) from error


@dataclasses.dataclass(frozen=True)
class Pool:
  """The resources of one sweep."""

  client: tpu.TpuClient
  order: cloud_tpu.Order
  points: list[points_lib.Point]

  def existing(self) -> dict[str, tpu.QueuedResource]:
    """Those of our points that there are, by point name."""
    ours = {self.order.resource_name(p): p.name for p in self.points}
    try:
      found = list(self.client.list_queued_resources(parent=self.order.parent))
    except exceptions.GoogleAPIError as error:
      raise ApiError(_explain(error, self.order)) from error
    return {ours[r.name]: r for r in found if r.name in ours}

  def nodes(self) -> dict[str, tpu.Node]:
    """Their nodes, by point name."""
    ours = {self.order.resource_id(p): p.name for p in self.points}
    try:
      found = list(self.client.list_nodes(parent=self.order.parent))
    except exceptions.GoogleAPIError as error:
      raise ApiError(_explain(error, self.order)) from error
    ids = {node.name.rpartition("/")[2]: node for node in found}
    return {ours[i]: node for i, node in ids.items() if i in ours}

  def check_zone(self) -> None:
    """Asks, before anything is created, whether the zone has these chips.

    Raises:
      ApiError: if it doesn't, or may not be asked.
    """
    wanted = cloud_tpu.accelerator_type(self.order)
    prefix = wanted.rpartition("-")[0]
    try:
      found = self.client.list_accelerator_types(parent=self.order.parent)
      known = [kind.type_ for kind in found]
    except exceptions.GoogleAPIError as error:
      raise ApiError(_explain(error, self.order)) from error
    if not any(kind.startswith(f"{prefix}-") for kind in known):
      raise ApiError(
        f"zone {self.order.zone} has no {self.order.topology.chip.name} "
        f"({prefix}); it has {', '.join(sorted(known)) or 'no TPUs'}. Choose "
        "another --zone or --topology"
      )

  def create(self, point: points_lib.Point) -> bool:
    """Queues a point; False if its resource was there already.

    Raises:
      ApiError: if Cloud TPU refuses.
    """
    made = cloud_tpu.request(self.order, point)
    try:
      operation = self.client.create_queued_resource(request=made)
      operation.result(timeout=OPERATION_S)
    except exceptions.AlreadyExists:
      return False
    except exceptions.GoogleAPIError as error:
      raise ApiError(_explain(error, self.order)) from error
    return True

  def delete(self, point: points_lib.Point) -> None:
    """Deletes a point's resource and node; its folder stays."""
    asked = tpu.DeleteQueuedResourceRequest(
      name=self.order.resource_name(point), force=True
    )
    try:
      operation = self.client.delete_queued_resource(request=asked)
      operation.result(timeout=OPERATION_S)
    except exceptions.NotFound:
      pass
    except exceptions.GoogleAPIError as error:
      raise ApiError(_explain(error, self.order)) from error

  def launch(self, out) -> None:
    """Queues all points that are neither done nor queued.

    Raises:
      ApiError: at the first refusal, naming what was created before it.
    """
    self.check_zone()
    existing, created = self.existing(), []
    for number, point in enumerate(self.points, 1):
      if point.name in existing:
        print(f"{point.name}: is queued already", file=out)
        continue
      if states.state(self.order.root, point) == states.DONE:
        print(f"{point.name}: done before", file=out)
        continue
      try:
        if self.create(point):
          created.append(self.order.resource_id(point))
      except ApiError as error:
        before = ", ".join(created) or "none"
        raise ApiError(
          f"point {number} of {len(self.points)} ({point.name}): {error}. "
          f"Created by this launch: {before}. The same command again goes on; "
          "tpu delete deletes them"
        ) from error
      print(f"{point.name}: queued", file=out, flush=True)


def _explain(error: exceptions.GoogleAPIError, order) -> str:
  """One line for what the API says, with a remedy where there is one."""
  message = " ".join(str(getattr(error, "message", error)).split())
  where = f"project {order.project}, zone {order.zone}"
  if isinstance(error, exceptions.ResourceExhausted):
    kind = "preemptible " if order.provisioning == "spot" else ""
    return (
      f"over quota in {where}: {message}. Ask for more {kind}"
      f"{order.topology.chip.name} quota, or use a smaller --topology, another "
      "--zone or another --provisioning"
    )
  if isinstance(error, exceptions.PermissionDenied | exceptions.Unauthorized):
    return (
      f"not allowed in {where}: {message}. You need the role TPU Admin, and "
      "the Cloud TPU API must be enabled"
    )
  return f"Cloud TPU ({where}): {message}"


class Watch:
  """Recreates what is preempted, deletes what has ended, until all has."""

  def __init__(self, pool: Pool, *, max_recreations: int, out):
    self.pool, self.out = pool, out
    self.max_recreations = max_recreations
    self.recreated = dict.fromkeys((p.name for p in pool.points), 0)
    self.failures = dict(self.recreated)
    self.ended: dict[str, str] = {}  # done or failed, by point name

  def run(self, *, every_s: float) -> int:
    """Looks every so many seconds; 0 if all points are done, else 1.

    Raises:
      ApiError, OSError: if the first look fails, or MAX_ERRORS in a row.
    """
    num_errors, has_looked = 0, False
    while True:
      try:
        self.look()
        num_errors, has_looked = 0, True
      except (ApiError, OSError) as error:
        num_errors += 1
        if not has_looked or num_errors >= MAX_ERRORS:
          raise
        # Quota comes back when another point ends, the network by itself.
        print(f"will try again: {error}", file=self.out, flush=True)
      if len(self.ended) == len(self.pool.points):
        return int(states.FAILED in self.ended.values())
      time.sleep(every_s)

  def look(self) -> None:
    """One round over all points.

    Raises:
      ApiError: if Cloud TPU refuses; what is queued stays.
    """
    existing, nodes = self.pool.existing(), self.pool.nodes()
    for point in self.pool.points:
      if point.name not in self.ended:
        self._look_at(point, existing.get(point.name), nodes.get(point.name))

  def _look_at(self, point, resource, node):
    state = states.state(self.pool.order.root, point)
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

  def _finish(self, point, resource, state):
    if resource is not None and resource.state.state != State.DELETING:
      self.pool.delete(point)
    self.ended[point.name] = state
    self._say(point, f"{state}; its TPU is deleted")

  def _recreate(self, point, what):
    if self.recreated[point.name] > self.max_recreations:
      self._give_up(point, f"recreated {self.max_recreations} times")
      return
    self.recreated[point.name] += 1
    self.pool.create(point)
    self._say(point, what)

  def _give_up(self, point, why):
    self.ended[point.name] = states.FAILED
    self._say(point, f"given up, {why}")

  def _say(self, point, text):
    now = time.strftime("%F %T")
    print(f"{now} {point.name}: {text}", file=self.out, flush=True)


def status_table(pool: Pool) -> str:
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
