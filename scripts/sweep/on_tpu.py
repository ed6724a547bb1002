# SPDX-License-Identifier: Apache-2.0
"""The action on Cloud TPU; the only one that needs Google's client."""

import sys

from absl import flags

from experiments import chips
from scripts.sweep import cloud_tpu
from scripts.sweep import cost
from scripts.sweep import points as points_lib
from scripts.sweep import queued
from scripts.sweep import rented
from scripts.sweep import states
from scripts.sweep import watch as watch_lib

FLAGS = flags.FLAGS


def act(action: str, points, root: str) -> int:
  """Launches on Cloud TPU, or looks after what was launched."""
  # Who only asks or deletes may have changed files.
  spends = action in ("launch", "watch")
  order = _order(points, root, with_code=spends)
  cloud_tpu.check(order)
  if spends:
    points_lib.check_data(points, cloud_tpu.MOUNT)
    points_lib.check_devices(
      points, order.topology.num_devices, order.topology.text
    )
  if spends and FLAGS.dry_run:
    text = _cost(order, points)  # Before requests, since it may be refused.
    for point in points:
      print(cloud_tpu.as_json(cloud_tpu.request(order, point)))
      print(f"{cloud_tpu.gcloud_line(order, point)}\n")
    print(f"of all points, done or not:\n{text}")
    return 0
  if spends:
    left = [p for p in points if states.state(root, p) != states.DONE]
    print(_cost(order, left))
    if not FLAGS.yes:
      print("nothing was sent; the same command with --yes spends this")
      return 0
  return _act(action, order, points)


def _act(action, order, points) -> int:
  pool = queued.Pool(queued.connect(FLAGS.endpoint), order, points)
  if action == "launch":
    pool.launch(sys.stdout)
    print(f"logs: {order.root}/POINT/logs; `tpu watch` recreates and deletes")
  elif action == "status":
    print(watch_lib.status_table(pool))
  elif action == "delete":
    _delete(pool)
  else:
    pool.check_zone()
    watch = watch_lib.Watch(
      pool,
      max_recreations=FLAGS.max_recreations,
      hung_after_s=60 * FLAGS.hung_after_minutes,
      out=sys.stdout,
    )
    return watch.run(every_s=FLAGS.watch_every_s)
  return 0


def _delete(pool) -> None:
  existing = pool.existing()
  found = [
    (p.name, f"{pool.order.resource_id(p)}, ", existing[p.name])
    for p in pool.points
    if p.name in existing
  ]
  for resource in pool.strays():
    id_ = resource.name.rpartition("/")[2]
    found.append((f"{id_}, {watch_lib.STRAY}", "", resource))
  is_meant = FLAGS.yes and not FLAGS.dry_run
  for what, which, resource in found:
    if is_meant:
      pool.delete_named(resource.name)
      print(f"{what}: deleted; its folder stays")
    else:
      print(f"{what}: {which}{resource.state.state.name.lower()}")
  if found and not is_meant:
    how = "without --dry_run and with --yes" if FLAGS.dry_run else "with --yes"
    print(f"nothing was deleted; the same command {how} deletes these")


def _cost(order, points) -> str:
  if FLAGS.plan and FLAGS.hours_per_point is not None:
    raise ValueError(
      f"--plan={FLAGS.plan} and --hours_per_point={FLAGS.hours_per_point:g} "
      "both say the hours; drop one"
    )
  hours = None
  if FLAGS.hours_per_point is not None:
    hours = [FLAGS.hours_per_point] * len(points)
  elif FLAGS.plan:
    hours = cost.planned_hours(FLAGS.plan, order.topology, points)
  return cost.estimate(
    order.topology,
    num_points=len(points),
    hours=hours,
    usd_per_chip_hour=FLAGS.price_per_chip_hour,
    provisioning=order.provisioning,
  )


def _order(points, root: str, *, with_code: bool) -> cloud_tpu.Order:
  if not FLAGS.topology:
    raise ValueError("--topology is needed for Cloud TPU, such as v5e:4x4")
  labels = tuple(
    (key, value)
    for key, _, value in (label.partition("=") for label in FLAGS.labels)
  )
  return cloud_tpu.Order(
    sweep=rented.name(root),
    root=root,
    config=rented.config(),
    topology=chips.parse_topology(FLAGS.topology),
    project=FLAGS.project,
    zone=FLAGS.zone,
    repository=rented.repository() if with_code else "-",
    commit=rented.commit() if with_code else "-",
    provisioning=FLAGS.provisioning,
    install=FLAGS.install or rented.install(points, "tpu"),
    runtime_version=FLAGS.runtime_version,
    network=FLAGS.network,
    subnetwork=FLAGS.subnetwork,
    internal_ips=FLAGS.internal_ips,
    service_account=FLAGS.service_account,
    reservation=FLAGS.reservation,
    labels=labels,
  )
