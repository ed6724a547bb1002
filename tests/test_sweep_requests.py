# SPDX-License-Identifier: Apache-2.0
"""What is asked of Cloud TPU, what it costs, and which code it gets."""

import json
import pathlib
import re
import shlex
import subprocess
import sys

from google.cloud import tpu_v2alpha1 as tpu
import pytest
import tpu_server

from experiments import chips
from scripts.sweep import cloud_tpu
from scripts.sweep import cost
from scripts.sweep import names
from scripts.sweep import points as points_lib
from scripts.sweep import revision

ROOT = pathlib.Path(__file__).parent.parent
# Of configs/digits.py, by its table of sizes (`sizes.size_table`).
NUM_PARAMETERS = 1_650_116


def point_with(name, **values):
  overrides = {key.replace("__", "."): v for key, v in values.items()}
  config = points_lib.parse_config("configs/digits.py", overrides)
  return points_lib.Point(name, overrides, (), config)


def test_request_and_gcloud_line_say_the_same():
  order = tpu_server.order_of(
    provisioning="reserved",
    reservation="res",
    service_account="me@p",
    network="n",
    subnetwork="s",
    internal_ips=True,
    labels=(("team", "a"),),
  )
  (point,) = tpu_server.points_named("lr=0.1,seed=1")
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
  of_sweep = names.digest(("gs://buck/sweeps/digits", "configs/digits.py"))
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
    "--labels": f"sweep=digits,sweep-of={of_sweep},team=a",
    "--metadata-from-file": "startup-script=scripts/sweep/startup.sh",
  }
  assert not node.network_config.enable_external_ips
  assert dict(node.labels) == {
    "sweep": "digits",
    "sweep-of": of_sweep,
    "team": "a",
  }
  command = shlex.split(metadata["sweep-command"])
  assert command[-3:] == [
    "--workdir=/mnt/sweep/sweeps/digits/lr=0.1,seed=1",
    "--distributed",
    "--join_timeout_s=1800",
  ]


@pytest.mark.parametrize(
  "topology,kind,shape,flags",
  [
    ("v4:2x2x2", "V4", "2x2x2", ["--type=v4", "--topology=2x2x2"]),
    ("v5p:2x2x4", "V5P", "2x2x4", ["--type=v5p", "--topology=2x2x4"]),
    ("v6e:2x4", "", "", ["--accelerator-type=v6e-8"]),
  ],
)
def test_shapes(topology, kind, shape, flags):
  order, (point,) = tpu_server.order_of(topology), tpu_server.points_named("a")
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
    (dict(root="gs://BUCKET/x"), "there is no bucket BUCKET; names of buckets"),
    (dict(sweep="Digits"), "--name=Digits"),
    (
      dict(sweep="Digits", root="gs://buck/Digits"),
      "--root=gs://buck/Digits names the sweep Digits: ",
    ),
    (dict(project=""), "--project is needed"),
    (dict(provisioning="cheap"), "spot, on_demand, reserved"),
    (dict(reservation="r"), "needs --provisioning=reserved"),
    (dict(topology="v3:4x4"), "v4, v5e, v5p, v6e"),
    (dict(labels=(("Team", "a"),)), "--labels: Team=a"),
    (dict(labels=(("sweep", "a"),)), "--labels: sweep=a would take the place"),
  ],
)
def test_orders_that_cannot_be(fields, words):
  with pytest.raises(ValueError, match=re.escape(words)):
    cloud_tpu.check(tpu_server.order_of(**fields))


def test_devices_that_a_point_cannot_use():
  points = [
    point_with("good", mesh__fsdp=4),
    point_with("mesh", mesh__fsdp=3),
    point_with("batch", train__batch_size=72),
  ]
  with pytest.raises(ValueError) as caught:
    points_lib.check_devices(points, 16, "v5e:4x4")
  mesh, batch = str(caught.value).splitlines()
  assert mesh.startswith(
    "point 2 of 3 (mesh) on v5e:4x4: mesh.data=-1 x mesh.f"
  )
  assert batch.startswith(
    "point 3 of 3 (batch) on v5e:4x4: train.batch_size=72"
  )
  points_lib.check_devices(points[:1], 16, "v5e:4x4")


def test_cost():
  estimate = dict(
    num_points=3,
    hours=[2.5] * 3,
    usd_per_chip_hour=2.0,
    provisioning="on_demand",
  )
  where = chips.parse_topology("v5e:4x4")
  text = cost.estimate(where, **estimate)
  # 3 points x 16 chips x $2, and 2.5 times that.
  assert "48 together" in text and "$96.00 an hour" in text
  assert "2.5 hours a point, 120 chip-hours, $240.00" in text
  text = cost.estimate(where, **(estimate | dict(hours=[1, 2, 6])))
  assert "1 to 6 hours a point, 144 chip-hours, $288.00" in text
  text = cost.estimate(where, **(estimate | dict(num_points=0, hours=[])))
  assert "0 chip-hours, $0.00" in text
  estimate |= dict(usd_per_chip_hour=None, hours=None)
  text = cost.estimate(where, **estimate)
  price = chips.table()["v5e"].usd_per_hour
  assert f"${price:,.2f} for a chip and hour (list price" in text
  assert "total: unknown; give --hours_per_point" in text


# Of configs/digits.py, as `experiments.plan --json` writes it.
PLAN = {
  "topology": "v5e:2x2",
  "overrides": {
    "mesh.data": 4,
    "mesh.fsdp": 1,
    "model.remat": "none",
    "train.batch_size": 64,
    "train.accum_steps": 1,
  },
  "train_step": {"num_parameters": NUM_PARAMETERS},
  "cost": {"num_steps": 1_000, "hours": 0.5},
}


def test_hours_of_a_plan(tmp_path):
  path = tmp_path / "plan.json"
  path.write_text(json.dumps(PLAN))
  two, four = map(chips.parse_topology, ("v5e:2x2", "v5e:4x4"))
  points = [
    point_with("a", train__total_steps=1_000, train__seed=3),
    point_with("b", train__total_steps=3_000),
  ]
  assert cost.planned_hours(str(path), two, points) == [0.5, 1.5]
  with pytest.raises(ValueError, match="of topology v5e:2x2, not of v5e:4x4"):
    cost.planned_hours(str(path), four, points)
  others = [
    point_with("c", train__batch_size=32),
    point_with("d", mesh__fsdp=2),
    point_with("e", model__remat="all"),
    point_with("f", model__emb_channels=64),
  ]
  with pytest.raises(ValueError) as caught:
    cost.planned_hours(str(path), two, points + others)
  lines = str(caught.value).splitlines()
  for number, line, words in zip(
    (3, 4, 5, 6),
    lines,
    (
      "(c): train.batch_size is 64 there, 32 here. Plan its",
      "(d): mesh.data is 4 there, 2 here; mesh.fsdp is 1 there, 2 here. Plan",
      "(e): model.remat is none there, all here. Plan its config",
      f"(f): the number of parameters is {NUM_PARAMETERS} there, ",
    ),
    strict=True,
  ):
    assert f"is not of point {number} of 6 {words}" in line
  path.write_text(json.dumps(PLAN | {"cost": None}))
  with pytest.raises(ValueError, match="does not fit"):
    cost.planned_hours(str(path), two, points)
  path.write_text("[]")
  with pytest.raises(ValueError, match="is no plan; write it with"):
    cost.planned_hours(str(path), two, points)
  for key in PLAN:
    path.write_text(json.dumps({k: v for k, v in PLAN.items() if k != key}))
    with pytest.raises(ValueError, match=f"is no plan, it has no '{key}'"):
      cost.planned_hours(str(path), two, points)
  with pytest.raises(ValueError, match="--plan=/nope can't be read .*write it"):
    cost.planned_hours("/nope", two, points)


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
  (here / "configs").mkdir()
  (here / "configs" / "file").write_text("1")
  with pytest.raises(ValueError, match="configs/.*--commit"):
    revision.pushed_commit("configs/file", here)
  git("add", "configs/file")
  git("commit", "-q", "-m", "one")
  with pytest.raises(ValueError, match="is not pushed.*--commit"):
    revision.pushed_commit("configs/file", here)
  subprocess.run(["git", "init", "-q", "--bare", str(there)], check=True)
  git("remote", "add", "origin", str(there))
  git("push", "-q", "origin", "main")
  # What is no code: a plan, and results that were appended.
  (here / "plan.json").write_text("{}")
  (here / "experiments" / "results").mkdir(parents=True)
  (here / "experiments" / "results" / "digits.jsonl").write_text("{}")
  commit = revision.pushed_commit("configs/file", here)
  (here / "mine").mkdir()
  (here / "mine" / "file").write_text("a config elsewhere")
  with pytest.raises(ValueError, match="mine/.*--commit"):
    revision.pushed_commit("mine/file", here)
  with pytest.raises(ValueError, match="path in the repository"):
    revision.pushed_commit(str(here / "configs" / "file"), here)
  assert re.fullmatch("[0-9a-f]{40}", commit)
  assert revision.named_commit("main", here) == commit
  with pytest.raises(ValueError, match="rev-parse"):
    revision.named_commit("nothing", here)
  revision.check_file("configs/file", commit, here)
  revision.check_file("other", "0" * 40, here)  # Only there, perhaps.
  with pytest.raises(ValueError, match=f"other is not in commit {commit[:12]}"):
    revision.check_file("other", commit, here)
  with pytest.raises(ValueError, match="path in the repository"):
    revision.check_file(str(here / "file"), commit, here)
  with pytest.raises(ValueError, match=f"origin is {there}: .*--repository="):
    revision.repository(here)
  for url in (
    "git@host.com:me/code.git",
    "ssh://git@host.com/me/code.git",
    "ssh://git@host.com:2222/me/code.git",
    "https://me:secret@host.com/me/code.git",
  ):
    git("remote", "set-url", "origin", url)
    assert revision.repository(here) == "https://host.com/me/code.git"


@pytest.mark.parametrize(
  "url",
  ["https://h.com/me/code", "ssh://me@h.com:22/code", "git@h.com:me/code"],
)
def test_addresses_that_others_can_fetch_from(url):
  revision.check_address(url, "--repository")


@pytest.mark.parametrize(
  "url", ["/home/me/code", "../code", "file:///code", "C:/x"]
)
def test_addresses_that_others_cannot_fetch_from(url):
  with pytest.raises(ValueError, match=f"--repository is {url}: rented"):
    revision.check_address(url, "--repository")


# In a process of its own, since the flags of programs are of one namespace.
BAD_FLAGS = """
import types
from absl import flags
from scripts.sweep import rented
flags.FLAGS(["sweep"])
for name in ("hours_per_point", "price_per_chip_hour", "watch_every_s"):
  flags.FLAGS[name].parse("0.5")
  flags.FLAGS.validate_all_flags()
  for value in ("-1", "0", "nan", "inf"):
    try:
      setattr(flags.FLAGS, name, float(value))
    except flags.IllegalFlagValueError as error:
      assert f"--{name}=" in str(error) and "must be above 0" in str(error)
    else:
      raise AssertionError(f"--{name}={value} passes")

def point(data):
  config = types.SimpleNamespace(data=types.SimpleNamespace(name=data))
  return types.SimpleNamespace(config=config)

assert rented.install([point("folder")], "cuda") == ".[cuda]"
found = rented.install([point("folder"), point("digits")], "tpu")
assert found == ".[tpu,digits]", found
"""


def test_hours_and_prices_are_positive_and_digits_are_installed():
  done = subprocess.run(
    [sys.executable, "-c", BAD_FLAGS],
    cwd=ROOT,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 0, done.stderr
