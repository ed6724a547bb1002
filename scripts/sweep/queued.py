# SPDX-License-Identifier: Apache-2.0
"""Creates, lists and deletes the queued resources of a sweep's points."""

import dataclasses

from google.api_core import exceptions
from google.auth import exceptions as auth_exceptions
from google.cloud import tpu_v2alpha1 as tpu
from google.cloud.tpu_v2alpha1.services.tpu import transports
import grpc

from scripts.sweep import cloud_tpu
from scripts.sweep import points as points_lib
from scripts.sweep import states

# Seconds until an operation of the API has to be through; a resource then
# waits in Google's queue, for however long (memory).
OPERATION_S = 900.0

State = tpu.QueuedResourceState.State
# In which a resource will never run again. A preempted one is SUSPENDED
# (memory).
GONE = (State.SUSPENDING, State.SUSPENDED, State.FAILED)
# What a call may raise; an operation that takes too long, the last one.
ERRORS = (exceptions.GoogleAPIError, TimeoutError)


class ApiError(OSError):
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
    return {ours[r.name]: r for r in self._all() if r.name in ours}

  def strays(self) -> list[tpu.QueuedResource]:
    """Those of points that the sweep had once and has no longer."""
    ours = {self.order.resource_name(p) for p in self.points}
    labels = cloud_tpu.own_labels(self.order).items()
    return [
      r
      for r in self._all()
      if r.name not in ours
      and any(labels <= dict(s.node.labels).items() for s in r.tpu.node_spec)
    ]

  def _all(self) -> list[tpu.QueuedResource]:
    try:
      return list(self.client.list_queued_resources(parent=self.order.parent))
    except ERRORS as error:
      raise ApiError(_explain(error, self.order)) from error

  def nodes(self) -> dict[str, tpu.Node]:
    """Their nodes, by point name."""
    ours = {self.order.resource_id(p): p.name for p in self.points}
    try:
      found = list(self.client.list_nodes(parent=self.order.parent))
    except ERRORS as error:
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
    except ERRORS as error:
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
    except ERRORS as error:
      raise ApiError(_explain(error, self.order)) from error
    return True

  def delete(self, point: points_lib.Point) -> None:
    """Deletes a point's resource and node; its folder stays."""
    self.delete_named(self.order.resource_name(point))

  def delete_named(self, name: str) -> None:
    """Deletes a resource, such as one of `strays`, and its node."""
    asked = tpu.DeleteQueuedResourceRequest(name=name, force=True)
    try:
      operation = self.client.delete_queued_resource(request=asked)
      operation.result(timeout=OPERATION_S)
    except exceptions.NotFound:
      pass
    except ERRORS as error:
      raise ApiError(_explain(error, self.order)) from error

  def launch(self, out) -> None:
    """Queues all points that are neither done nor queued.

    Raises:
      ApiError: at the first refusal, naming what was created before it.
    """
    self.check_zone()
    existing, created = self.existing(), []
    self._check_none_is_deleted(existing)
    for number, point in enumerate(self.points, 1):
      resource = existing.get(point.name)
      if states.state(self.order.root, point) == states.DONE:
        left = "; its TPU is still there: tpu watch or delete --yes"
        print(f"{point.name}: done before{left if resource else ''}", file=out)
        continue
      if resource and resource.state.state not in GONE:
        print(f"{point.name}: is queued already", file=out)
        continue
      try:
        if resource:
          was = resource.state.state.name.lower()
          print(f"{point.name}: was {was}, is deleted first", file=out)
          self.delete(point)
        if self.create(point):
          created.append(self.order.resource_id(point))
      except ApiError as error:
        before = ", ".join(created) or "none"
        raise ApiError(
          f"point {number} of {len(self.points)} ({point.name}): {error}. "
          f"Created by this launch: {before}. The same command again goes on; "
          "tpu delete --yes deletes them"
        ) from error
      print(f"{point.name}: queued", file=out, flush=True)

  def _check_none_is_deleted(self, existing):
    """A name is free again only once its resource is gone."""
    deleted = [
      name
      for name, resource in existing.items()
      if resource.state.state == State.DELETING
    ]
    if deleted:
      raise ApiError(
        f"{', '.join(deleted)}: being deleted; nothing was created. Launch "
        "again when tpu status no longer shows that (minutes)"
      )


def _explain(error: Exception, order) -> str:
  """One line for what the API says, with a remedy where there is one."""
  message = " ".join(str(getattr(error, "message", error)).split())
  where = f"project {order.project}, zone {order.zone}"
  if isinstance(error, TimeoutError):
    return (
      f"Cloud TPU ({where}): no answer after {OPERATION_S:g} s; it may still "
      "come: look with tpu status"
    )
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
