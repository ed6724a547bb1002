# SPDX-License-Identifier: Apache-2.0
"""Flags of what is rented, and the action that exports SkyPilot tasks."""

import math
import pathlib
import shlex

from absl import flags
from ml_collections import config_flags

from scripts.sweep import points as points_lib
from scripts.sweep import revision
from scripts.sweep import skypilot

_NAME = flags.DEFINE_string("name", "", "Of the sweep; else that of the root.")
flags.DEFINE_string("topology", "", "Of each point: v5e:4x4.")
flags.DEFINE_string("project", "", "Google Cloud project.")
flags.DEFINE_string("zone", "", "Such as us-east5-a.")
_PROVISIONING = flags.DEFINE_string(
  "provisioning", "spot", "spot, on_demand or reserved."
)
flags.DEFINE_string("reservation", "", "Name of one.")
flags.DEFINE_string("runtime_version", "", "Else the chip's own.")
flags.DEFINE_string("network", "", "Else the default one.")
flags.DEFINE_string("subnetwork", "", "Else the default one.")
flags.DEFINE_bool("internal_ips", False, "No public addresses.")
flags.DEFINE_string("service_account", "", "Else the default one.")
flags.DEFINE_list("labels", [], "Of the nodes: team=a,for=paper")
_REPOSITORY = flags.DEFINE_string("repository", "", "Else origin's, by https.")
_COMMIT = flags.DEFINE_string("commit", "", "Else HEAD, which must be pushed.")
_INSTALL = flags.DEFINE_string(
  "install", "", "For pip; else .[tpu] or .[cuda], with digits if it has them."
)
flags.DEFINE_float("price_per_chip_hour", None, "Else list price.")
flags.DEFINE_float("hours_per_point", None, "For the cost.")
flags.DEFINE_string("plan", "", "JSON of experiments.plan: the hours.")
flags.DEFINE_bool("yes", False, "Do what was shown: spend, or delete.")
flags.DEFINE_bool("dry_run", False, "Print requests, send none.")
flags.DEFINE_float("watch_every_s", 60.0, "Between two looks.")
flags.DEFINE_integer("max_recreations", 50, "Of a point.", 0)
flags.DEFINE_float(
  "hung_after_minutes", 45.0, "Until watch deletes a TPU that says nothing.", 1
)
flags.DEFINE_string("endpoint", "", "Another server of the API.")
_ACCELERATORS = flags.DEFINE_string("accelerators", "", "SkyPilot's: H100:8.")
_INFRA = flags.DEFINE_string("infra", "", "SkyPilot's: cloud/region/zone.")
OUT = flags.DEFINE_string("out", "", "Folder for what is written.")
# A bound of absl's would allow 0, and a NaN passes it.
for _flag in ("price_per_chip_hour", "hours_per_point", "watch_every_s"):
  flags.register_validator(
    _flag,
    lambda value: value is None or 0 < value < math.inf,
    "must be above 0 and finite",
  )

TPU_ACTIONS = ("launch", "status", "watch", "delete")


def on_skypilot(points, root: str) -> int:
  """Writes SkyPilot's task files."""
  if not OUT.value or not _ACCELERATORS.value:
    raise ValueError("skypilot needs --out=FOLDER and --accelerators=H100:8")
  points_lib.check_devices(
    points, skypilot.num_devices(_ACCELERATORS.value), _ACCELERATORS.value
  )
  points_lib.check_data(points, skypilot.MOUNT)
  is_tpu = _ACCELERATORS.value.startswith("tpu-")
  extra = "tpu" if is_tpu else "cuda"
  written = skypilot.export(
    points,
    pathlib.Path(OUT.value),
    sweep=name(root),
    root=root,
    repository=repository(),
    commit=commit(),
    accelerators=_ACCELERATORS.value,
    infra=_INFRA.value,
    use_spot=_PROVISIONING.value == "spot",
    install=_INSTALL.value or install(points, extra),
  )
  for path in written:
    print(f"sky jobs launch {shlex.quote(str(path))}")
  return 0


def install(points, extra: str) -> str:
  """What machines install for the points: of setup.cfg's extras."""
  of_digits = any(p.config.data.name == "digits" for p in points)
  return f".[{extra},digits]" if of_digits else f".[{extra}]"


def name(root: str) -> str:
  return _NAME.value or root.rpartition("/")[2]


def config() -> str:
  """What --config says: a file and its argument."""
  return config_flags.get_config_filename(flags.FLAGS["config"])


def _config_file() -> str:
  return config().partition(":")[0]


def repository() -> str:
  if not _REPOSITORY.value:
    return revision.repository()
  revision.check_address(_REPOSITORY.value, "--repository")
  return _REPOSITORY.value


def commit() -> str:
  if _COMMIT.value:
    commit = revision.named_commit(_COMMIT.value)
  else:
    commit = revision.pushed_commit(_config_file())
  revision.check_file(_config_file(), commit)
  return commit
