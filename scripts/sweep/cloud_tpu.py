# SPDX-License-Identifier: Apache-2.0
"""What is asked of Cloud TPU for a point: typed requests, and gcloud's line."""

import dataclasses
import pathlib
import re
import shlex

from google.cloud import tpu_v2alpha1 as tpu

from experiments import chips
from scripts.sweep import names
from scripts.sweep import points as points_lib

STARTUP = pathlib.Path(__file__).with_name("startup.sh")
MOUNT = "/mnt/sweep"
SCOPE = "https://www.googleapis.com/auth/cloud-platform"

# Runtime versions: https://cloud.google.com/tpu/docs/runtimes. gcloud and the
# names of accelerators call v5e "v5litepod".
RUNTIMES = {
  "v4": "tpu-ubuntu2204-base",
  "v5e": "v2-alpha-tpuv5-lite",
  "v5p": "v2-alpha-tpuv5",
  "v6e": "v2-alpha-tpuv6e",
}
TYPES = {"v4": "v4", "v5e": "v5litepod", "v5p": "v5p", "v6e": "v6e"}
# Must be less than what `watch` calls hung.
JOIN_TIMEOUT_S = 1800
PROVISIONING = ("spot", "on_demand", "reserved")


@dataclasses.dataclass(frozen=True)
class Order:
  """What all points of a launch have in common.

  Attributes:
    sweep: name of the sweep; its resources' names begin with it.
    root: gs://bucket/folder of the points' folders.
    config: file and argument that the points are of.
    topology: such as v5e:4x4.
    commit: 40 hex digits that workers check out from `repository`.
    install: what pip installs in the checkout, such as ".[tpu]".
    runtime_version: "" for that of the chip.
    network, subnetwork, service_account, reservation: "" for the default.
    labels: of the nodes, beside our own.
  """

  sweep: str
  root: str
  config: str
  topology: chips.Topology
  project: str
  zone: str
  repository: str
  commit: str
  provisioning: str = "spot"
  install: str = ".[tpu]"
  runtime_version: str = ""
  network: str = ""
  subnetwork: str = ""
  internal_ips: bool = False
  service_account: str = ""
  reservation: str = ""
  labels: tuple[tuple[str, str], ...] = ()

  @property
  def parent(self) -> str:
    return f"projects/{self.project}/locations/{self.zone}"

  @property
  def runtime(self) -> str:
    return self.runtime_version or RUNTIMES[self.topology.chip.name]

  @property
  def shape(self) -> str:
    """Such as 4x4."""
    return self.topology.text.partition(":")[2]

  def resource_id(self, point: points_lib.Point) -> str:
    return names.resource_id(self.sweep, self.root, point.name)

  def resource_name(self, point: points_lib.Point) -> str:
    return f"{self.parent}/queuedResources/{self.resource_id(point)}"


def check(order: Order) -> None:
  """Raises ValueError for what Cloud TPU would not take, naming the remedy."""
  for flag in ("project", "zone", "repository"):
    if not getattr(order, flag):
      raise ValueError(f"--{flag} is needed for Cloud TPU; none was given")
  if order.topology.chip.name not in RUNTIMES:
    raise ValueError(
      f"--topology={order.topology.text}: Cloud TPU VMs that this launches are "
      f"{', '.join(RUNTIMES)}"
    )
  _check_root(order.root)
  if order.provisioning not in PROVISIONING:
    raise ValueError(
      f"--provisioning={order.provisioning}; the options are "
      f"{', '.join(PROVISIONING)}"
    )
  if order.reservation and order.provisioning != "reserved":
    raise ValueError(
      f"--reservation={order.reservation} needs --provisioning=reserved"
    )
  if not re.fullmatch(r"[a-z][-a-z0-9]{0,39}", order.sweep):
    source = f"--name={order.sweep}"
    if order.sweep == order.root.rpartition("/")[2]:
      source = f"--root={order.root} names the sweep {order.sweep}"
    raise ValueError(
      f"{source}: names of Cloud TPU resources are up to 40 of a-z, 0-9 and "
      '"-", and begin with a letter; give such a --name'
    )
  for key, value in order.labels:
    if key in own_labels(order):
      raise ValueError(
        f"--labels: {key}={value} would take the place of our own label, "
        f"{key}={own_labels(order)[key]}; call it otherwise"
      )
    if not re.fullmatch(r"[a-z][-_a-z0-9]{0,62}", key) or not re.fullmatch(
      r"[-_a-z0-9]{0,63}", value
    ):
      raise ValueError(
        f'--labels: {key}={value} must be of a-z, 0-9, "-" and "_"'
      )


def _check_root(root: str) -> None:
  parts = re.fullmatch(r"gs://([^/]+)/(.+)", root)
  if not parts:
    raise ValueError(
      f"--root={root} must be gs://BUCKET/FOLDER: workers share it"
    )
  if not re.fullmatch(r"[a-z0-9][-_.a-z0-9]+[a-z0-9]", parts[1]):
    raise ValueError(
      f"--root={root}: there is no bucket {parts[1]}; names of buckets are of "
      'lower-case letters, digits, "-", "_" and ".", three at least, and begin '
      "and end with a letter or digit"
    )


def metadata(order: Order, point: points_lib.Point) -> dict[str, str]:
  """What startup.sh asks for."""
  bucket, _, folder = order.root.removeprefix("gs://").partition("/")
  workdir = f"{folder.strip('/')}/{point.name}"
  command = [
    "-m",
    "experiments.train",
    *point.flags,
    f"--workdir={MOUNT}/{workdir}",
    "--distributed",
    # Workers install at different speeds.
    f"--join_timeout_s={JOIN_TIMEOUT_S}",
  ]
  values = {
    "bucket": bucket,
    "workdir": workdir,
    "repository": order.repository,
    "commit": order.commit,
    "install": order.install,
    "command": shlex.join(command),
    "total-steps": str(point.total_steps),
    "resource": order.resource_id(point),
    "zone": order.zone,
    "project": order.project,
  }
  return {f"sweep-{key}": value for key, value in values.items()}


def request(
  order: Order, point: points_lib.Point
) -> tpu.CreateQueuedResourceRequest:
  """The request that queues one point."""
  network = tpu.NetworkConfig(enable_external_ips=not order.internal_ips)
  if order.network:
    network.network = order.network
  if order.subnetwork:
    network.subnetwork = order.subnetwork
  node = tpu.Node(
    runtime_version=order.runtime,
    network_config=network,
    service_account=tpu.ServiceAccount(
      email=order.service_account, scope=[SCOPE]
    ),
    labels=_labels(order),
    metadata=metadata(order, point) | {"startup-script": STARTUP.read_text()},
  )
  if len(order.topology.shape) == 2:
    node.accelerator_type = accelerator_type(order)
  else:  # Several shapes have as many chips.
    node.accelerator_config = tpu.AcceleratorConfig(
      type_=order.topology.chip.name.upper(), topology=order.shape
    )
  resource_id = order.resource_id(point)
  resource = tpu.QueuedResource(
    tpu=tpu.QueuedResource.Tpu(
      node_spec=[
        tpu.QueuedResource.Tpu.NodeSpec(
          parent=order.parent, node_id=resource_id, node=node
        )
      ]
    )
  )
  if order.provisioning == "spot":
    resource.spot = tpu.QueuedResource.Spot()
  elif order.provisioning == "reserved":
    resource.guaranteed = tpu.QueuedResource.Guaranteed(reserved=True)
    if order.reservation:
      resource.reservation_name = order.reservation
  return tpu.CreateQueuedResourceRequest(
    parent=order.parent,
    queued_resource_id=resource_id,
    queued_resource=resource,
  )


def as_json(made: tpu.CreateQueuedResourceRequest) -> str:
  """A request to read: the start-up script stands as the file's name."""
  shown = tpu.CreateQueuedResourceRequest(made)
  node = shown.queued_resource.tpu.node_spec[0].node
  node.metadata["startup-script"] = f"<content of scripts/sweep/{STARTUP.name}>"
  return tpu.CreateQueuedResourceRequest.to_json(
    shown, always_print_fields_with_no_presence=False
  )


def accelerator_type(order: Order) -> str:
  """Such as v5litepod-16."""
  chip = TYPES[order.topology.chip.name]
  return f"{chip}-{order.topology.num_chips}"


def own_labels(order: Order) -> dict[str, str]:
  """By which all nodes of a sweep are found, whatever points it has now."""
  of = names.digest((order.root, order.config))
  return {"sweep": order.sweep, "sweep-of": of}


def _labels(order: Order) -> dict[str, str]:
  return own_labels(order) | dict(order.labels)


def gcloud_line(order: Order, point: points_lib.Point) -> str:
  """The command that asks for the same."""
  is_flat = len(order.topology.shape) == 2
  chip = order.topology.chip.name
  # The stable command knows chips up to v4 by --type, and no named reservations
  # (memory, of Cloud SDK 528).
  is_alpha = bool(order.reservation) or (not is_flat and chip != "v4")
  line = ["gcloud", *(["alpha"] if is_alpha else []), "compute", "tpus"]
  line += ["queued-resources", "create", order.resource_id(point)]
  line += [f"--node-id={order.resource_id(point)}"]
  line += [f"--project={order.project}", f"--zone={order.zone}"]
  if is_flat:
    line += [f"--accelerator-type={accelerator_type(order)}"]
  else:
    line += [f"--type={TYPES[chip]}", f"--topology={order.shape}"]
  line += [f"--runtime-version={order.runtime}"]
  if order.provisioning != "on_demand":
    line += [f"--{order.provisioning}"]
  for flag in ("reservation", "network", "subnetwork", "service_account"):
    if value := getattr(order, flag):
      line += [f"--{flag.replace('_', '-')}={value}"]
  if order.internal_ips:
    line += ["--internal-ips"]
  line += [f"--scopes={SCOPE}"]
  labels = ",".join(f"{key}={value}" for key, value in _labels(order).items())
  line += [f"--labels={labels}"]
  # Values have commas: gcloud takes another separator between carets.
  pairs = [f"{key}={value}" for key, value in metadata(order, point).items()]
  mark = next(c for c in "|;#~!" if c not in "".join(pairs))
  line += [f"--metadata=^{mark}^{mark.join(pairs)}"]
  line += ["--metadata-from-file=startup-script=scripts/sweep/startup.sh"]
  return shlex.join(line)
