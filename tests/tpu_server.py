# SPDX-License-Identifier: Apache-2.0
"""Stand-ins on loopback for Cloud TPU, without TPUs, and for a bucket.

The real clients speak to them. A test module takes the fixtures by name:
`cloud = tpu_server.cloud`, with `server` and `bucket`.
"""

import concurrent.futures
import datetime
import http.server
import json
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

State = tpu.QueuedResourceState.State
SERVICE = "google.cloud.tpu.v2alpha1.Tpu"
OPERATIONS = "google.longrunning.Operations"
PARSE_OPERATION = operations_pb2.GetOperationRequest.FromString


class Cloud:
  """Keeps queued resources as the API does, and does as a test says."""

  def __init__(self):
    self.resources, self.nodes, self.log = {}, {}, []
    self.kinds = ("v5litepod-4", "v5litepod-8", "v5litepod-16", "v4-8")
    self.refuse = None  # a function of a name: None, or (code, text)
    self.refuse_later = None  # the same, once the operation runs
    self.is_slow = False  # operations do not end

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
    if self.is_slow:
      return operations_pb2.Operation(name="op")
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
    if self.is_slow:
      self.set(request.name, State.DELETING)
      return operations_pb2.Operation(name="op")
    del self.nodes[request.name]
    return self._done(tpu.QueuedResource.pb(self.resources.pop(request.name)))

  def _done(self, content):
    packed = any_pb2.Any()
    packed.Pack(content)
    return operations_pb2.Operation(name="op", done=True, response=packed)

  def operation(self, request, context):
    return operations_pb2.Operation(name=request.name)  # It still runs.

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

    return {
      f"/{service}/{name}": grpc.unary_unary_rpc_method_handler(
        act,
        request_deserializer=parse,
        response_serializer=serialize,
      )
      for service, name, act, parse in (
        (OPERATIONS, "GetOperation", self.operation, PARSE_OPERATION),
        *((SERVICE, n, act, k.deserialize) for n, (act, k) in methods.items()),
      )
    }


@pytest.fixture(scope="module")
def server():
  """(endpoint, function that gives the server an empty cloud)."""
  current = [Cloud()]
  pool = concurrent.futures.ThreadPoolExecutor(2)

  class Handlers(grpc.GenericRpcHandler):
    def service(self, details):
      return current[0].handlers().get(details.method)

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
    config="configs/digits.py",
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


def mark(bucket, name, state, when="2020-01-01T00:00:00Z", file="sweep.json"):
  content = {"state": state, "total_steps": 4, "time": when}
  bucket[f"sweeps/digits/{name}/{file}"] = json.dumps(content).encode()
