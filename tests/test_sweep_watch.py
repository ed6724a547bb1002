# SPDX-License-Identifier: Apache-2.0
"""What watches Cloud TPU, by the real client against a server on loopback."""

import io

from google.cloud import tpu_v2alpha1 as tpu
import grpc
import pytest
import tpu_server

from scripts.sweep import queued
from scripts.sweep import watch as watch_lib

server, bucket, cloud = tpu_server.server, tpu_server.bucket, tpu_server.cloud
State = tpu.QueuedResourceState.State


def test_watch_recreates_what_is_preempted_until_done(server, bucket, cloud):
  pool, out = tpu_server.pool_of(server, "a", "b"), io.StringIO()
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

  tpu_server.mark(bucket, "a", "done")
  watch.look()
  assert list(cloud.resources) == [name_b]
  assert watch.ended == {"a": "done"}
  tpu_server.mark(bucket, "b", "done")
  assert watch.run(every_s=0.01) == 0
  assert not cloud.resources
  assert "a: preempted, queued again" in out.getvalue()


def test_watch_gives_up(server, bucket, cloud):
  out = io.StringIO()
  pool = tpu_server.pool_of(server, "broken", "diverged", "unlucky")
  broken, diverged, unlucky = map(pool.order.resource_name, pool.points)
  watch = watch_lib.Watch(pool, max_recreations=2, out=out)
  watch.look()
  tpu_server.mark(bucket, "diverged", "failed", when="2999-01-01T00:00:00Z")
  for _ in range(3):
    if broken in cloud.resources:
      cloud.set(broken, State.FAILED, why="no capacity of this kind")
    if unlucky in cloud.resources:
      cloud.set(unlucky, State.SUSPENDED)
    watch.look()
  assert set(watch.ended.values()) == {"failed"} and len(watch.ended) == 3
  assert not cloud.resources  # Nothing costs any more.
  assert watch.run(every_s=0.01) == 1
  assert (
    "broken: given up, 3 times without success: failed (no capacity"
  ) in out.getvalue()
  assert ("unlucky: given up, preempted; recreated 2 times") in out.getvalue()


def test_watch_knows_an_old_failure(server, bucket, cloud):
  tpu_server.mark(bucket, "a", "failed", when="2020-01-01T00:00:00Z")
  pool = tpu_server.pool_of(server, "a")
  pool.launch(io.StringIO())  # anew, after it had failed
  watch = watch_lib.Watch(pool, max_recreations=2, out=io.StringIO())
  watch.look()
  assert not watch.ended and len(cloud.resources) == 1
  tpu_server.mark(bucket, "a", "failed", when="2999-01-01T00:00:00Z")
  watch.look()
  assert watch.ended == {"a": "failed"} and not cloud.resources


def test_watch_outlasts_a_busy_server(server, bucket, cloud, monkeypatch):
  pool, out = tpu_server.pool_of(server, "a"), io.StringIO()
  name = pool.order.resource_name(pool.points[0])
  watch = watch_lib.Watch(pool, max_recreations=9, out=out)
  watch.look()
  refusal = grpc.StatusCode.RESOURCE_EXHAUSTED, "no quota now"
  remaining = [refusal, refusal]

  def refuse(_):
    if remaining:
      return remaining.pop()
    tpu_server.mark(bucket, "a", "done")

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


def test_what_somebody_deletes_stays_deleted(server, bucket, cloud):
  pool, out = tpu_server.pool_of(server, "a", "b"), io.StringIO()
  name_a, name_b = map(pool.order.resource_name, pool.points)
  watch = watch_lib.Watch(pool, max_recreations=9, out=out)
  watch.look()
  cloud.set(name_a, State.WAITING_FOR_RESOURCES)  # Never ran.
  watch.look()
  tpu_server.mark(bucket, "b", "running")
  for name in (name_a, name_b):  # `tpu delete` in another terminal
    cloud.set(name, State.DELETING)
  watch.look()
  assert not watch.ended
  cloud.resources.clear()
  cloud.nodes.clear()
  assert watch.run(every_s=0.01) == 1
  assert not cloud.resources
  assert "a: given up, deleted by somebody; not queued" in out.getvalue()
  # A watch that has seen none of them queues both.
  watch_lib.Watch(pool, max_recreations=0, out=out).look()
  assert len(cloud.resources) == 2


def test_number_of_recreations(server, bucket, cloud):
  for most in (0, 1):
    pool, out = tpu_server.pool_of(server, "a"), io.StringIO()
    name = pool.order.resource_name(pool.points[0])
    watch = watch_lib.Watch(pool, max_recreations=most, out=out)
    cloud.log.clear()
    watch.look()  # The first one is no recreation.
    while not watch.ended:
      cloud.set(name, State.SUSPENDED)
      watch.look()
    assert [act for act, _ in cloud.log].count("create") == 1 + most


def test_refused_recreation_is_made_later(server, bucket, cloud):
  pool, out = tpu_server.pool_of(server, "a"), io.StringIO()
  name = pool.order.resource_name(pool.points[0])
  watch = watch_lib.Watch(pool, max_recreations=1, out=out)
  watch.look()
  cloud.set(name, State.SUSPENDED)
  cloud.refuse = lambda _: (grpc.StatusCode.RESOURCE_EXHAUSTED, "none left")
  with pytest.raises(queued.ApiError, match="none left"):
    watch.look()
  cloud.refuse = None
  watch.look()
  assert list(cloud.resources) == [name] and not watch.ended


def test_slow_deletion_of_its_own(server, bucket, cloud, monkeypatch):
  pool, out = tpu_server.pool_of(server, "a"), io.StringIO()
  name = pool.order.resource_name(pool.points[0])
  watch = watch_lib.Watch(pool, max_recreations=1, out=out)
  watch.look()
  cloud.set(name, State.SUSPENDED)
  monkeypatch.setattr(queued, "OPERATION_S", 0.1)
  cloud.is_slow = True
  with pytest.raises(queued.ApiError, match="no answer after 0.1 s"):
    watch.look()
  watch.look()  # It is being deleted, still.
  cloud.resources.clear()
  cloud.is_slow = False
  watch.look()
  assert list(cloud.resources) == [name] and not watch.ended


def test_hung_machines_are_replaced(server, bucket, cloud):
  pool, out = (
    tpu_server.pool_of(server, "silent", "hung", "alive"),
    io.StringIO(),
  )
  now = [0.0]
  watch = watch_lib.Watch(
    pool,
    max_recreations=9,
    out=out,
    hung_after_s=60.0,
    clock=lambda: now[0],
  )
  watch.look()
  for name in ("hung", "alive"):
    tpu_server.mark(bucket, name, "running")

  def pass_time(seconds):
    now[0] += seconds
    bucket["sweeps/digits/hung/logs/bytes.txt"] = b"7"
    bucket["sweeps/digits/alive/logs/bytes.txt"] = str(now[0]).encode()
    watch.look()

  for _ in range(3):
    pass_time(30)
  assert not [act for act, _ in cloud.log if act == "delete"]
  pass_time(30)
  ids = [pool.order.resource_id(point) for point in pool.points]
  assert cloud.log[3:] == [
    (act, name) for name in ids[:2] for act in ("delete", "create")
  ]
  assert "silent: hung (nothing new for 1 minutes), queued" in out.getvalue()
  for _ in range(10):
    pass_time(30)
  assert watch.ended == {"silent": "failed", "hung": "failed"}
  assert [cloud.log.count(("create", name)) for name in ids] == [3, 3, 1]
  assert list(cloud.resources) == [pool.order.resource_name(pool.points[2])]
  # What waits in the queue costs nothing, and is not hung.
  cloud.set(*cloud.resources, State.WAITING_FOR_RESOURCES)
  now[0] += 1_000
  watch.look()
  cloud.set(*cloud.resources, State.ACTIVE)
  watch.look()
  assert cloud.log.count(("create", ids[2])) == 1


def test_any_worker_may_fail(server, bucket, cloud):
  pool, out = tpu_server.pool_of(server, "a"), io.StringIO()
  watch = watch_lib.Watch(pool, max_recreations=9, out=out)
  tpu_server.mark(bucket, "a", "failed", file="failed.json")
  tpu_server.pool_of(server, "a").launch(out)  # anew: that was before
  tpu_server.mark(bucket, "a", "running")
  watch.look()
  assert not watch.ended
  later = "2999-01-01T00:00:00Z"
  tpu_server.mark(bucket, "a", "failed", when=later, file="failed.json")
  assert " failed " in watch_lib.status_table(pool)
  watch.look()
  assert watch.ended == {"a": "failed"} and not cloud.resources
  # But what is done is done.
  tpu_server.mark(bucket, "a", "done")
  assert watch_lib.status_table(pool).splitlines()[1].split()[1] == "done"
