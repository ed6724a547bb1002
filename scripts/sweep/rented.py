# SPDX-License-Identifier: Apache-2.0
"""The actions on rented machines, and their flags."""

import pathlib
import sys

from absl import flags
from ml_collections import config_flags

from experiments import chips
from scripts.sweep import cloud_tpu
from scripts.sweep import cost
from scripts.sweep import queued
from scripts.sweep import revision
from scripts.sweep import skypilot
from scripts.sweep import states
from scripts.sweep import watch as watch_lib

_NAME = flags.DEFINE_string("name", "", "Of the sweep; else that of the root.")
_TOPOLOGY = flags.DEFINE_string("topology", "", "Of each point: v5e:4x4.")
_PROJECT = flags.DEFINE_string("project", "", "Google Cloud project.")
_ZONE = flags.DEFINE_string("zone", "", "Such as us-east5-a.")
_PROVISIONING = flags.DEFINE_string(
  "provisioning", "spot", "spot, on_demand or reserved."
)
_RESERVATION = flags.DEFINE_string("reservation", "", "Name of one.")
_RUNTIME = flags.DEFINE_string("runtime_version", "", "Else the chip's own.")
_NETWORK = flags.DEFINE_string("network", "", "Else the default one.")
_SUBNETWORK = flags.DEFINE_string("subnetwork", "", "Else the default one.")
_INTERNAL_IPS = flags.DEFINE_bool("internal_ips", False, "No public addresses.")
_ACCOUNT = flags.DEFINE_string("service_account", "", "Else the default one.")
_LABELS = flags.DEFINE_list("labels", [], "Of the nodes: team=a,for=paper")
_REPOSITORY = flags.DEFINE_string("repository", "", "Else origin's, by https.")
_COMMIT = flags.DEFINE_string("commit", "", "Else HEAD, which must be pushed.")
_INSTALL = flags.DEFINE_string("install", "", "For pip; .[tpu] or .[cuda].")
_PRICE = flags.DEFINE_float("price_per_chip_hour", None, "Else list price.")
_HOURS = flags.DEFINE_float("hours_per_point", None, "For the cost.")
_PLAN = flags.DEFINE_string("plan", "", "JSON of experiments.plan: the hours.")
_YES = flags.DEFINE_bool("yes", False, "Spend what was shown.")
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print requests, send none.")
_EVERY_S = flags.DEFINE_float("watch_every_s", 60.0, "Between two looks.")
_MAX_RECREATIONS = flags.DEFINE_integer("max_recreations", 50, "Of a point.")
_ENDPOINT = flags.DEFINE_string("endpoint", "", "Another server of the API.")
_ACCELERATORS = flags.DEFINE_string("accelerators", "", "SkyPilot's: H100:8.")
_INFRA = flags.DEFINE_string("infra", "", "SkyPilot's: cloud/region/zone.")
OUT = flags.DEFINE_string("out", "", "Folder for what is written.")

TPU_ACTIONS = ("launch", "status", "watch", "delete")


def on_skypilot(points, root: str) -> int:
  """Writes SkyPilot's task files."""
  if not OUT.value or not _ACCELERATORS.value:
    raise ValueError("skypilot needs --out=FOLDER and --accelerators=H100:8")
  is_tpu = _ACCELERATORS.value.startswith("tpu-")
  written = skypilot.export(
    points,
    pathlib.Path(OUT.value),
    sweep=_name(root),
    root=root,
    repository=_repository(),
    commit=_commit(),
    accelerators=_ACCELERATORS.value,
    infra=_INFRA.value,
    use_spot=_PROVISIONING.value == "spot",
    install=_INSTALL.value or (".[tpu]" if is_tpu else ".[cuda]"),
  )
  for path in written:
    print(f"sky jobs launch '{path}'")
  return 0


def on_tpu(action: str, points, root: str) -> int:
  """Launches on Cloud TPU, or looks after what was launched."""
  # Who only asks or deletes may have changed files.
  spends = action in ("launch", "watch")
  order = _order(root, with_code=spends)
  cloud_tpu.check(order)
  if spends:
    cloud_tpu.check_devices(points, order.topology)
  if spends and _DRY_RUN.value:
    for point in points:
      print(cloud_tpu.as_json(cloud_tpu.request(order, point)))
      print(f"{cloud_tpu.gcloud_line(order, point)}\n")
    print(_cost(order, points))
    return 0
  if spends:
    left = [p for p in points if states.state(root, p) != states.DONE]
    print(_cost(order, left))
    if not _YES.value:
      print("nothing was sent; the same command with --yes spends this")
      return 0
  return _act(action, order, points)


def _act(action, order, points) -> int:
  pool = queued.Pool(queued.connect(_ENDPOINT.value), order, points)
  if action == "launch":
    pool.launch(sys.stdout)
    print(f"logs: {order.root}/POINT/logs; `tpu watch` recreates and deletes")
  elif action == "status":
    print(watch_lib.status_table(pool))
  elif action == "delete":
    existing = pool.existing()
    for point in [p for p in points if p.name in existing]:
      pool.delete(point)
      print(f"{point.name}: deleted; its folder stays")
  else:
    pool.check_zone()
    watch = watch_lib.Watch(
      pool, max_recreations=_MAX_RECREATIONS.value, out=sys.stdout
    )
    return watch.run(every_s=_EVERY_S.value)
  return 0


def _cost(order, points) -> str:
  hours = _HOURS.value
  if hours is None and _PLAN.value:
    hours = cost.planned_hours(_PLAN.value, order.topology)
  return cost.estimate(
    order.topology,
    num_points=len(points),
    hours_per_point=hours,
    usd_per_chip_hour=_PRICE.value,
    provisioning=order.provisioning,
  )


def _name(root: str) -> str:
  return _NAME.value or root.rpartition("/")[2]


def _config_file() -> str:
  file = config_flags.get_config_filename(flags.FLAGS["config"])
  return file.partition(":")[0]


def _repository() -> str:
  return _REPOSITORY.value or revision.repository()


def _commit() -> str:
  if _COMMIT.value:
    commit = revision.named_commit(_COMMIT.value)
  else:
    commit = revision.pushed_commit()
  revision.check_file(_config_file(), commit)
  return commit


def _order(root: str, *, with_code: bool) -> cloud_tpu.Order:
  if not _TOPOLOGY.value:
    raise ValueError("--topology is needed for Cloud TPU, such as v5e:4x4")
  labels = tuple(
    (key, value)
    for key, _, value in (label.partition("=") for label in _LABELS.value)
  )
  return cloud_tpu.Order(
    sweep=_name(root),
    root=root,
    topology=chips.parse_topology(_TOPOLOGY.value),
    project=_PROJECT.value,
    zone=_ZONE.value,
    repository=_repository() if with_code else "-",
    commit=_commit() if with_code else "-",
    provisioning=_PROVISIONING.value,
    install=_INSTALL.value or ".[tpu]",
    runtime_version=_RUNTIME.value,
    network=_NETWORK.value,
    subnetwork=_SUBNETWORK.value,
    internal_ips=_INTERNAL_IPS.value,
    service_account=_ACCOUNT.value,
    reservation=_RESERVATION.value,
    labels=labels,
  )
