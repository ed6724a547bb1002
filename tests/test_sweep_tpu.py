# SPDX-License-Identifier: Apache-2.0
"""Cloud TPU: the real client against a server on loopback that has no TPUs.

The bucket is a server, too, read through the real driver.
"""

import concurrent.futures
import datetime
import http.server
import io
import json
import os
import pathlib
import re
import subprocess
import sys
import threading
import urllib.parse

from google.cloud import tpu_v2alpha1 as tpu
from google.longrunning import operations_pb2
from google.protobuf import any_pb2
from google.rpc import status_pb2
import grpc
import ml_collections
import pytest

from experiments import chips
from scripts.sweep import cloud_tpu
from scripts.sweep import points as points_lib
from scripts.sweep import queued
from scripts.sweep import store
from scripts.sweep import watch as watch_lib

ROOT = pathlib.Path(__file__).parent.parent
State = tpu.QueuedResourceState.State
SERVICE = "google.cloud.tpu.v2alpha1.Tpu"


class Cloud:
  """Keeps queued resources as the API does, and does as a test says."""

  def __init__(self):
    self.resources, self.nodes, self.log = {}, {}, []
    self.kinds = ("v5litepod-4", "v5litepod-8", "v5litepod-16", "v4-8")
    self.refuse = None  # a function of a name: None, or (code, text)
    self.refuse_later = None  # the same, once the operation runs

  def create(self, request, context):
    name = f"{request.parent}/queuedResources/{request.queued_resource_id}"
    self.log.append(("create", request.queued_resource_id))
    if self.refuse and (refusal := self.refuse(name)):
      context.abort(*refusal)
    if name in self.resources:
      context.abort(grpc.StatusCode.ALREADY_EXISTS, f"{name} exists")
    if self.refuse_later and (refusal := self.refuse_later(name)):
      code, text = refusal
      error = status_pb2.Status(code=code.value[0], message=text)
      return operations_pb2.Operation(name="op", done=True, error=error)
    resource = tpu.QueuedResource(request.queued_resource)
    resource.name = name
    resource.create_time = datetime.datetime.now(datetime.UTC)
    self.resources[name] = resource
    self.set(name, State.ACTIVE)
    return self._done(tpu.QueuedResource.pb(resource))

  def set(self, name, state, *, node_state=tpu.Node.State.READY, why=""):
    resource = self.resources[name]
    resource.state = tpu.QueuedResourceState(state=state)
    if why:
      resource.state.failed_data.error.message = why
    spec = resource.tpu.node_spec[0]
    node = tpu.Node(spec.node)
    node.name, node.state = f"{spec.parent}/nodes/{spec.node_id}", node_state
    self.nodes[name] = node

  def delete(self, request, context):
    self.log.append(("delete", request.name.rpartition("/")[2]))
    if request.name not in self.resources:
      context.abort(grpc.StatusCode.NOT_FOUND, "no such resource")
    assert request.force  # Else a resource with a node cannot be deleted.
    del self.nodes[request.name]
    return self._done(tpu.QueuedResource.pb(self.resources.pop(request.name)))

  def _done(self, content):
    packed = any_pb2.Any()
    packed.Pack(content)
    return operations_pb2.Operation(name="op", done=True, response=packed)

  def list_resources(self, request, context):
    # In pages of one, as a long list would come.
    names = sorted(self.resources)
    at = int(request.page_token or 0)
    more = str(at + 1) if at + 1 < len(names) else ""
    return tpu.ListQueuedResourcesResponse(
      queued_resources=[self.resources[name] for name in names[at : at + 1]],
      next_page_token=more,
    )

  def list_nodes(self, request, context):
    return tpu.ListNodesResponse(nodes=list(self.nodes.values()))

  def list_kinds(self, request, context):
    return tpu.ListAcceleratorTypesResponse(
      accelerator_types=[tpu.AcceleratorType(type_=k) for k in self.kinds]
    )

  def handlers(self):
    methods = {
      "CreateQueuedResource": (self.create, tpu.CreateQueuedResourceRequest),
      "DeleteQueuedResource": (self.delete, tpu.DeleteQueuedResourceRequest),
      "ListQueuedResources": (
        self.list_resources,
        tpu.ListQueuedResourcesRequest,
      ),
      "ListNodes": (self.list_nodes, tpu.ListNodesRequest),
      "ListAcceleratorTypes": (
        self.list_kinds,
        tpu.ListAcceleratorTypesRequest,
      ),
    }

    def serialize(response):
      is_plain = isinstance(response, operations_pb2.Operation)
      made = response if is_plain else type(response).pb(response)
      return made.SerializeToString()

    return grpc.method_handlers_generic_handler(
      SERVICE,
      {
        name: grpc.unary_unary_rpc_method_handler(
          act,
          request_deserializer=kind.deserialize,
          response_serializer=serialize,
        )
        for name, (act, kind) in methods.items()
      },
    )


@pytest.fixture(scope="module")
def server():
  """(endpoint, function that gives the server an empty cloud)."""
  current = [Cloud()]
  pool = concurrent.futures.ThreadPoolExecutor(2)

  class Handlers(grpc.GenericRpcHandler):
    def service(self, details):
      return current[0].handlers().service(details)

  running = grpc.server(pool)
  running.add_generic_rpc_handlers((Handlers(),))
  port = running.add_insecure_port("127.0.0.1:0")
  running.start()

  def renew():
    current[0] = Cloud()
    return current[0]

  yield f"127.0.0.1:{port}", renew
  running.stop(None).wait()
  pool.shutdown()


@pytest.fixture(scope="module")
def bucket():
  """Files of a bucket by name; tensorstore reads them over HTTP."""
  files = {}

  class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):  # noqa: N802
      path = urllib.parse.urlparse(self.path).path
      assert path.startswith("/storage/v1/b/buck/o/")
      content = files.get(urllib.parse.unquote(path.rpartition("/o/")[2]))
      self.send_response(404 if content is None else 200)
      self.send_header("Content-Length", str(len(content or b"")))
      self.send_header("x-goog-generation", "1")
      self.end_headers()
      self.wfile.write(content or b"")

    def log_message(self, *_):
      pass

  running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
  thread = threading.Thread(target=running.serve_forever)
  thread.start()
  with pytest.MonkeyPatch.context() as patch:
    url = f"http://127.0.0.1:{running.server_port}"
    patch.setenv("TENSORSTORE_GCS_HTTP_URL", url)
    patch.setenv("GOOGLE_AUTH_TOKEN_FOR_TESTING", "none")
    yield files
  running.shutdown()
  thread.join()
  running.server_close()


@pytest.fixture
def cloud(server, bucket):
  bucket.clear()
  return server[1]()


def points_named(*names):
  config = ml_collections.ConfigDict({"train": {"total_steps": 4}})
  return [points_lib.Point(n, {}, (f"--config={n}",), config) for n in names]


def order_of(topology="v5e:4x4", **fields):
  base = dict(
    sweep="digits",
    root="gs://buck/sweeps/digits",
    project="p",
    zone="z",
    repository="https://host/code",
    commit="0" * 40,
  )
  return cloud_tpu.Order(
    topology=chips.parse_topology(topology), **(base | fields)
  )


def pool_of(server, *names, **fields):
  client = queued.connect(server[0])
  return queued.Pool(client, order_of(**fields), points_named(*names))


def mark(bucket, name, state, when="2020-01-01T00:00:00Z"):
  content = {"state": state, "total_steps": 4, "time": when}
  bucket[f"sweeps/digits/{name}/sweep.json"] = json.dumps(content).encode()


def test_bucket_is_read(bucket):
  bucket["a/b/lr=1,seed=2/sweep.json"] = b"{}"
  assert store.read("gs://buck/a/b", "lr=1,seed=2/sweep.json") == b"{}"
  assert store.read("gs://buck/a/b/", "lr=1,seed=2/sweep.json") == b"{}"
  assert store.read("gs://buck/a/b", "lr=1,seed=3/sweep.json") is None


def test_launch_twice_creates_once(server, bucket, cloud):
  mark(bucket, "b", "done")
  pool, out = pool_of(server, "a", "b", "c"), io.StringIO()
  pool.launch(out)
  ids = [pool.order.resource_id(point) for point in pool.points]
  assert cloud.log == [("create", ids[0]), ("create", ids[2])]
  assert "b: done before" in out.getvalue()
  pool.launch(out)
  assert len(cloud.log) == 2
  assert "a: is queued already" in out.getvalue()
  # Another sweep of the zone is not ours.
  other = pool_of(server, "a", sweep="other")
  assert not other.existing() and not other.nodes()
  mark(bucket, "a", "running")
  table = watch_lib.status_table(pool)
  assert re.search(
    r"^a +running +active +ready +gs://buck/.*/a/logs", table, re.M
  )
  assert re.search(r"^b +done +- +- ", table, re.M)


def test_quota_names_what_was_created(server, cloud):
  pool = pool_of(server, "a", "b", "c")
  ids = [pool.order.resource_id(point) for point in pool.points]

  def refuse(name):
    if name.endswith(ids[1]):
      return grpc.StatusCode.RESOURCE_EXHAUSTED, "Quota limit 'V5e' exceeded"

  for kind in ("refuse", "refuse_later"):
    setattr(cloud, kind, refuse)
    with pytest.raises(queued.ApiError) as caught:
      pool.launch(io.StringIO())
    message = str(caught.value)
    assert message.startswith(
      "point 2 of 3 (b): over quota in project p, zone z"
    )
    assert "Quota limit 'V5e' exceeded" in message
    assert f"Created by this launch: {ids[0]}." in message
    assert ("create", ids[2]) not in cloud.log
    setattr(cloud, kind, None)
    pool.delete(pool.points[0])
  # And once there is quota, the same again goes on.
  pool.launch(io.StringIO())
  assert len(pool.existing()) == 3


def test_refusals_before_anything_is_created(server, cloud):
  with pytest.raises(
    queued.ApiError, match="zone z has no v6e .v6e.; it has v4-8"
  ):
    pool_of(server, "a", topology="v6e:2x4").launch(io.StringIO())
  cloud.kinds = None  # The server fails.
  pool = pool_of(server, "a")
  with pytest.raises(queued.ApiError, match="Cloud TPU .project p, zone z."):
    pool.launch(io.StringIO())
  assert not cloud.log


def test_not_allowed(server, cloud):
  refusal = grpc.StatusCode.PERMISSION_DENIED, "API has not been used"
  cloud.refuse = lambda name: refusal
  with pytest.raises(queued.ApiError, match="not allowed .*TPU Admin"):
    pool_of(server, "a").launch(io.StringIO())


def test_watch_recreates_what_is_preempted_until_done(server, bucket, cloud):
  pool, out = pool_of(server, "a", "b"), io.StringIO()
  a, b = pool.points
  name_a, name_b = map(pool.order.resource_name, pool.points)
  watch = watch_lib.Watch(pool, max_recreations=9, out=out)
  watch.look()  # creates both
  assert len(cloud.resources) == 2
  watch.look()  # and leaves them alone
  assert len(cloud.log) == 2

  cloud.set(name_a, State.SUSPENDED)
  cloud.set(name_b, State.ACTIVE, node_state=tpu.Node.State.PREEMPTED)
  watch.look()
  ids = [pool.order.resource_id(point) for point in pool.points]
  assert cloud.log[2:] == [
    (act, resource) for resource in ids for act in ("delete", "create")
  ]
  assert cloud.resources[name_a].state.state == State.ACTIVE

  mark(bucket, "a", "done")
  watch.look()
  assert list(cloud.resources) == [name_b]
  assert watch.ended == {"a": "done"}
  del cloud.resources[name_b], cloud.nodes[name_b]  # by hand
  watch.look()
  assert list(cloud.resources) == [name_b]
  mark(bucket, "b", "done")
  assert watch.run(every_s=0.01) == 0
  assert not cloud.resources
  assert "a: preempted, queued again" in out.getvalue()


def test_watch_gives_up(server, bucket, cloud):
  out = io.StringIO()
  pool = pool_of(server, "broken", "diverged", "unlucky")
  broken, diverged, unlucky = map(pool.order.resource_name, pool.points)
  watch = watch_lib.Watch(pool, max_recreations=2, out=out)
  watch.look()
  mark(bucket, "diverged", "failed", when="2999-01-01T00:00:00Z")
  for _ in range(3):
    if broken in cloud.resources:
      cloud.set(broken, State.FAILED, why="no capacity of this kind")
    if unlucky in cloud.resources:
      cloud.set(unlucky, State.SUSPENDED)
    watch.look()
  assert set(watch.ended.values()) == {"failed"} and len(watch.ended) == 3
  assert not cloud.resources  # Nothing costs any more.
  assert watch.run(every_s=0.01) == 1
  assert "failed 3 times: no capacity of this kind" in out.getvalue()
  assert "unlucky: given up, recreated 2 times" in out.getvalue()


def test_watch_knows_an_old_failure(server, bucket, cloud):
  mark(bucket, "a", "failed", when="2020-01-01T00:00:00Z")
  pool = pool_of(server, "a")
  pool.launch(io.StringIO())  # anew, after it had failed
  watch = watch_lib.Watch(pool, max_recreations=2, out=io.StringIO())
  watch.look()
  assert not watch.ended and len(cloud.resources) == 1
  mark(bucket, "a", "failed", when="2999-01-01T00:00:00Z")
  watch.look()
  assert watch.ended == {"a": "failed"} and not cloud.resources


def test_watch_outlasts_a_busy_server(server, bucket, cloud, monkeypatch):
  pool, out = pool_of(server, "a"), io.StringIO()
  name = pool.order.resource_name(pool.points[0])
  watch = watch_lib.Watch(pool, max_recreations=9, out=out)
  watch.look()
  refusal = grpc.StatusCode.RESOURCE_EXHAUSTED, "no quota now"
  remaining = [refusal, refusal]

  def refuse(_):
    if remaining:
      return remaining.pop()
    mark(bucket, "a", "done")

  cloud.refuse = refuse
  cloud.set(name, State.SUSPENDED)
  assert watch.run(every_s=0.01) == 0
  assert out.getvalue().count("will try again: a: over quota") == 2
  # But what is refused at the first look, or again and again, is said.
  del bucket["sweeps/digits/a/sweep.json"]
  cloud.refuse = lambda _: refusal
  for max_errors, num_calls in ((10, 1), (3, 3)):
    monkeypatch.setattr(watch_lib, "MAX_ERRORS", max_errors)
    watch = watch_lib.Watch(pool, max_recreations=9, out=out)
    watch.has_looked = num_calls > 1
    cloud.log.clear()
    with pytest.raises(queued.ApiError, match="a: over quota"):
      watch.run(every_s=0.01)
    assert len(cloud.log) == num_calls


def test_command_shows_the_cost_and_waits_for_yes(server, bucket, cloud):
  """The command line from end to end: cost, launch, status, delete."""

  def sweep(action, *args):
    command = [sys.executable, "-m", "scripts.sweep", "tpu", action]
    command += ["--config=configs/digits.py", "--root=gs://buck/sweeps/digits"]
    command += ["--topology=v5e:2x2", "--project=p", "--zone=z"]
    command += [f"--endpoint={server[0]}", *args]
    done = subprocess.run(
      command,
      cwd=ROOT,
      env=os.environ | {"JAX_PLATFORMS": "cpu"},
      capture_output=True,
      text=True,
      check=False,
      timeout=120,
    )
    return done.returncode, done.stdout, done.stderr

  code_flags = "--repository=https://host/code", "--commit=" + "0" * 40
  code, out, err = sweep("launch", "--hours_per_point=2", *code_flags)
  assert code == 0, err
  assert "6 points on v5e:2x2: 4 chips each, 24 together" in out
  assert "48 chip-hours" in out and "nothing was sent" in out
  assert not cloud.log
  # Quota for one of them only.
  refusal = grpc.StatusCode.RESOURCE_EXHAUSTED, "none left"
  cloud.refuse = lambda _: refusal if cloud.resources else None
  code, out, err = sweep("launch", "--yes", *code_flags)
  assert code == 2 and "lr=0.0003,seed=0: queued" in out
  message = err.strip().splitlines()[-1]
  assert message.startswith(
    "error: point 2 of 6 (lr=0.0003,seed=1): over quota"
  )
  (name,) = cloud.resources
  assert f"Created by this launch: {name.rpartition('/')[2]}." in message
  code, out, err = sweep("delete")
  assert code == 0, err
  assert out == "lr=0.0003,seed=0: deleted; its folder stays\n"
  assert not cloud.resources
