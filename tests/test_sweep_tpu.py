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
import shlex
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
from scripts.sweep import cost
from scripts.sweep import points as points_lib
from scripts.sweep import queued
from scripts.sweep import revision
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


def test_request_and_gcloud_line_say_the_same():
  order = order_of(
    provisioning="reserved",
    reservation="res",
    service_account="me@p",
    network="n",
    subnetwork="s",
    internal_ips=True,
    labels=(("team", "a"),),
  )
  (point,) = points_named("lr=0.1,seed=1")
  made = cloud_tpu.request(order, point)
  node = made.queued_resource.tpu.node_spec[0].node
  assert node.accelerator_type == "v5litepod-16"
  assert node.runtime_version == "v2-alpha-tpuv5-lite"
  assert made.queued_resource.guaranteed.reserved
  shown = tpu.CreateQueuedResourceRequest.from_json(cloud_tpu.as_json(made))
  shown_metadata = shown.queued_resource.tpu.node_spec[0].node.metadata
  assert "scripts/sweep/startup.sh" in shown_metadata["startup-script"]
  shown_metadata["startup-script"] = node.metadata["startup-script"]
  assert shown == made
  words = shlex.split(cloud_tpu.gcloud_line(order, point))
  flags = dict(word.partition("=")[::2] for word in words if word[0] == "-")
  metadata = dict(node.metadata)
  script = metadata.pop("startup-script")
  assert script == (ROOT / "scripts/sweep/startup.sh").read_text()
  separator, pairs = flags.pop("--metadata")[1:].split("^", 1)
  assert dict(p.split("=", 1) for p in pairs.split(separator)) == metadata
  assert flags == {
    "--node-id": made.queued_resource.tpu.node_spec[0].node_id,
    "--project": "p",
    "--zone": "z",
    "--accelerator-type": node.accelerator_type,
    "--runtime-version": node.runtime_version,
    "--reserved": "",
    "--reservation": made.queued_resource.reservation_name,
    "--network": node.network_config.network,
    "--subnetwork": node.network_config.subnetwork,
    "--service-account": node.service_account.email,
    "--internal-ips": "",
    "--scopes": node.service_account.scope[0],
    "--labels": "sweep=digits,team=a",
    "--metadata-from-file": "startup-script=scripts/sweep/startup.sh",
  }
  assert not node.network_config.enable_external_ips
  assert dict(node.labels) == {"sweep": "digits", "team": "a"}
  command = shlex.split(metadata["sweep-command"])
  assert command[-1] == "--distributed"
  assert command[-2] == "--workdir=/mnt/sweep/sweeps/digits/lr=0.1,seed=1"


@pytest.mark.parametrize(
  "topology,kind,shape,flags",
  [
    ("v4:2x2x2", "V4", "2x2x2", ["--type=v4", "--topology=2x2x2"]),
    ("v5p:2x2x4", "V5P", "2x2x4", ["--type=v5p", "--topology=2x2x4"]),
    ("v6e:2x4", "", "", ["--accelerator-type=v6e-8"]),
  ],
)
def test_shapes(topology, kind, shape, flags):
  order, (point,) = order_of(topology), points_named("a")
  resource = cloud_tpu.request(order, point).queued_resource
  node = resource.tpu.node_spec[0].node
  assert node.accelerator_config.topology == shape
  assert node.accelerator_config.type_.name == (kind or "TYPE_UNSPECIFIED")
  assert "spot" in resource and "guaranteed" not in resource
  words = shlex.split(cloud_tpu.gcloud_line(order, point))
  assert set(flags) < set(words) and "--spot" in words
  shown = json.loads(cloud_tpu.as_json(cloud_tpu.request(order, point)))
  assert shown["queuedResource"]["spot"] == {}


@pytest.mark.parametrize(
  "fields,words",
  [
    (dict(root="runs/digits"), "gs://BUCKET/FOLDER"),
    (dict(sweep="Digits"), "--name=Digits"),
    (dict(project=""), "--project is needed"),
    (dict(provisioning="cheap"), "spot, on_demand, reserved"),
    (dict(reservation="r"), "needs --provisioning=reserved"),
    (dict(topology="v3:4x4"), "v4, v5e, v5p, v6e"),
    (dict(labels=(("Team", "a"),)), "--labels: Team=a"),
  ],
)
def test_orders_that_cannot_be(fields, words):
  with pytest.raises(ValueError, match=re.escape(words)):
    cloud_tpu.check(order_of(**fields))


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


def test_cost():
  estimate = dict(
    num_points=3,
    hours_per_point=2.5,
    usd_per_chip_hour=2.0,
    provisioning="on_demand",
  )
  text = cost.estimate(chips.parse_topology("v5e:4x4"), **estimate)
  # 3 points x 16 chips x $2, and 2.5 times that.
  assert "48 together" in text and "$96.00 an hour" in text
  assert "120 chip-hours, $240.00" in text
  estimate |= dict(usd_per_chip_hour=None, hours_per_point=None)
  text = cost.estimate(chips.parse_topology("v5e:4x4"), **estimate)
  price = chips.table()["v5e"].usd_per_hour
  assert f"${price:,.2f} for a chip and hour (list price" in text
  assert "total: unknown; give --hours_per_point" in text


def test_hours_of_a_plan(tmp_path):
  path = tmp_path / "plan.json"
  path.write_text('{"topology": "v5e:4x4", "cost": {"hours": 7.5}}')
  four, eight = map(chips.parse_topology, ("v5e:4x4", "v5e:8x8"))
  assert cost.planned_hours(str(path), four) == 7.5
  with pytest.raises(ValueError, match="of topology v5e:4x4, not of v5e:8x8"):
    cost.planned_hours(str(path), eight)
  path.write_text('{"topology": "v5e:4x4", "cost": null}')
  with pytest.raises(ValueError, match="does not fit"):
    cost.planned_hours(str(path), four)


def test_code_that_others_cannot_fetch(tmp_path):
  here, there = tmp_path / "here", tmp_path / "there"

  def git(*args):
    subprocess.run(
      [
        "git",
        "-c",
        "user.name=a",
        "-c",
        "user.email=b",
        "-C",
        str(here),
        *args,
      ],
      check=True,
      capture_output=True,
    )

  here.mkdir()
  git("init", "-q", "-b", "main")
  (here / "file").write_text("1")
  with pytest.raises(ValueError, match="file.*--commit"):
    revision.pushed_commit(here)
  git("add", "file")
  git("commit", "-q", "-m", "one")
  with pytest.raises(ValueError, match="is not pushed.*--commit"):
    revision.pushed_commit(here)
  subprocess.run(["git", "init", "-q", "--bare", str(there)], check=True)
  git("remote", "add", "origin", str(there))
  git("push", "-q", "origin", "main")
  commit = revision.pushed_commit(here)
  assert re.fullmatch("[0-9a-f]{40}", commit)
  assert revision.named_commit("main", here) == commit
  with pytest.raises(ValueError, match="rev-parse"):
    revision.named_commit("nothing", here)
  revision.check_file("file", commit, here)
  revision.check_file("other", "0" * 40, here)  # Only there, perhaps.
  with pytest.raises(ValueError, match=f"other is not in commit {commit[:12]}"):
    revision.check_file("other", commit, here)
  with pytest.raises(ValueError, match="path in the repository"):
    revision.check_file(str(here / "file"), commit, here)
  assert revision.repository(here) == str(there)
  for url in (
    "git@host.com:me/code.git",
    "https://me:secret@host.com/me/code.git",
  ):
    git("remote", "set-url", "origin", url)
    assert revision.repository(here) == "https://host.com/me/code.git"


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
