# SPDX-License-Identifier: Apache-2.0
"""Launches on Cloud TPU, by the real client against a server on loopback."""

import io
import os
import pathlib
import re
import subprocess
import sys

from google.cloud import tpu_v2alpha1 as tpu
import grpc
import pytest
import tpu_server

from scripts.sweep import queued
from scripts.sweep import store
from scripts.sweep import watch as watch_lib

ROOT = pathlib.Path(__file__).parent.parent
server, bucket, cloud = tpu_server.server, tpu_server.bucket, tpu_server.cloud
State = tpu.QueuedResourceState.State


def test_bucket_is_read(bucket):
  bucket["a/b/lr=1,seed=2/sweep.json"] = b"{}"
  assert store.read("gs://buck/a/b", "lr=1,seed=2/sweep.json") == b"{}"
  assert store.read("gs://buck/a/b/", "lr=1,seed=2/sweep.json") == b"{}"
  assert store.read("gs://buck/a/b", "lr=1,seed=3/sweep.json") is None


def test_other_buckets_are_not_read():
  with pytest.raises(
    ValueError, match="--root=s3://b/x: of addresses only gs:"
  ):
    store.read("s3://b/x", "sweep.json")


def test_launch_twice_creates_once(server, bucket, cloud):
  tpu_server.mark(bucket, "b", "done")
  pool, out = tpu_server.pool_of(server, "a", "b", "c"), io.StringIO()
  pool.launch(out)
  ids = [pool.order.resource_id(point) for point in pool.points]
  assert cloud.log == [("create", ids[0]), ("create", ids[2])]
  assert "b: done before" in out.getvalue()
  pool.launch(out)
  assert len(cloud.log) == 2
  assert "a: is queued already" in out.getvalue()
  # Another sweep of the zone is not ours.
  other = tpu_server.pool_of(server, "a", sweep="other")
  assert not other.existing() and not other.nodes()
  tpu_server.mark(bucket, "a", "running")
  table = watch_lib.status_table(pool)
  assert re.search(
    r"^a +running +active +ready +gs://buck/.*/a/logs", table, re.M
  )
  assert re.search(r"^b +done +- +- ", table, re.M)


def test_sweeps_of_one_name_have_resources_of_their_own(server, cloud):
  ours, theirs = (
    tpu_server.pool_of(server, "a", root=f"gs://buck/{folder}/lr", sweep="lr")
    for folder in ("alice", "bob")
  )
  ours.launch(io.StringIO())
  assert not theirs.existing() and not theirs.nodes() and not theirs.strays()
  theirs.launch(io.StringIO())
  assert len(cloud.resources) == 2


def test_points_that_were_taken_out_are_still_seen(server, cloud):
  tpu_server.pool_of(server, "a", "b").launch(io.StringIO())
  pool = tpu_server.pool_of(server, "b")
  (stray,) = pool.strays()
  table = watch_lib.status_table(pool)
  assert re.search(
    r"^digits-a-[0-9a-f]{8} +no point of the sweep any longer +active",
    table,
    re.M,
  )
  # Another study of the same root is none of it.
  assert not tpu_server.pool_of(server, "c", config="configs/x.py:2").strays()
  pool.delete_named(stray.name)
  assert not pool.strays() and set(pool.existing()) == {"b"}


def test_quota_names_what_was_created(server, cloud):
  pool = tpu_server.pool_of(server, "a", "b", "c")
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
    tpu_server.pool_of(server, "a", topology="v6e:2x4").launch(io.StringIO())
  cloud.kinds = None  # The server fails.
  pool = tpu_server.pool_of(server, "a")
  with pytest.raises(queued.ApiError, match="Cloud TPU .project p, zone z."):
    pool.launch(io.StringIO())
  assert not cloud.log


def test_launch_meets_what_is_left(server, bucket, cloud):
  pool, out = tpu_server.pool_of(server, *"abcd"), io.StringIO()
  pool.launch(out)
  names = [pool.order.resource_name(point) for point in pool.points]
  cloud.set(names[0], State.SUSPENDED)
  cloud.set(names[1], State.DELETING)
  cloud.set(names[2], State.FAILED)
  tpu_server.mark(bucket, "d", "done")
  cloud.log.clear()
  with pytest.raises(queued.ApiError, match="^b: being deleted; nothing was"):
    pool.launch(out)
  assert not cloud.log
  del cloud.resources[names[1]], cloud.nodes[names[1]]
  pool.launch(out)
  ids = [pool.order.resource_id(point) for point in pool.points]
  both = ("delete", "create")
  assert cloud.log == [
    *((act, ids[0]) for act in both),
    ("create", ids[1]),
    *((act, ids[2]) for act in both),
  ]
  assert "a: was suspended, is deleted first\na: queued" in out.getvalue()
  assert "d: done before; its TPU is still there" in out.getvalue()


def test_answer_that_does_not_come(server, cloud, monkeypatch):
  monkeypatch.setattr(queued, "OPERATION_S", 0.1)
  pool = tpu_server.pool_of(server, "a", "b")
  pool.create(pool.points[0])
  cloud.resources.clear()

  def slow_from_b(name):
    cloud.is_slow = name == pool.order.resource_name(pool.points[1])

  cloud.refuse = slow_from_b
  with pytest.raises(queued.ApiError) as caught:
    pool.launch(io.StringIO())
  message = str(caught.value)
  assert message.startswith("point 2 of 2 (b): ")
  assert "no answer after 0.1 s" in message
  created = pool.order.resource_id(pool.points[0])
  assert f"Created by this launch: {created}." in message


def test_not_allowed(server, cloud):
  refusal = grpc.StatusCode.PERMISSION_DENIED, "API has not been used"
  cloud.refuse = lambda name: refusal
  with pytest.raises(queued.ApiError, match="not allowed .*TPU Admin"):
    tpu_server.pool_of(server, "a").launch(io.StringIO())


CODE_FLAGS = "--repository=https://host/code", "--commit=" + "0" * 40


def sweep(server, action, *args):
  """The command line: exit code, stdout and stderr."""
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


@pytest.mark.slow
def test_command_refuses_before_it_shows_anything(server, bucket, cloud):
  for flags, message in (
    (["--config.data.name=folder"], "all 6 points: folder needs a data_dir"),
    (["--plan=/nope"], "--plan=/nope can't be read"),
    (["--plan=/nope", "--hours_per_point=2"], "drop one"),
  ):
    code, out, err = sweep(server, "launch", "--dry_run", *flags, *CODE_FLAGS)
    assert code == 2 and not out and message in err
  assert not cloud.log


def test_command_shows_the_cost_and_waits_for_yes(server, bucket, cloud):
  """The command line from end to end: cost, launch, status, delete."""
  code, out, err = sweep(server, "launch", "--hours_per_point=2", *CODE_FLAGS)
  assert code == 0, err
  assert "6 points on v5e:2x2: 4 chips each, 24 together" in out
  assert "48 chip-hours" in out and "nothing was sent" in out
  assert not cloud.log
  # Quota for one of them only.
  refusal = grpc.StatusCode.RESOURCE_EXHAUSTED, "none left"
  cloud.refuse = lambda _: refusal if cloud.resources else None
  code, out, err = sweep(server, "launch", "--yes", *CODE_FLAGS)
  assert code == 2 and "lr=0.0003,seed=0: queued" in out
  message = err.strip().splitlines()[-1]
  assert message.startswith(
    "error: point 2 of 6 (lr=0.0003,seed=1): over quota"
  )
  (name,) = cloud.resources
  assert f"Created by this launch: {name.rpartition('/')[2]}." in message
  code, out, err = sweep(server, "delete", "--yes", "--dry_run")
  assert code == 0, err
  assert f"lr=0.0003,seed=0: {name.rpartition('/')[2]}, " in out
  assert "nothing was deleted" in out and name in cloud.resources
  code, out, err = sweep(server, "delete", "--yes")
  assert code == 0, err
  assert out == "lr=0.0003,seed=0: deleted; its folder stays\n"
  assert not cloud.resources
