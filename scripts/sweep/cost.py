# SPDX-License-Identifier: Apache-2.0
"""What a launch costs, as far as one can say before it."""

import json
import pathlib

import jax

from experiments import chips
from scripts.sweep import points as points_lib
from simple_diffusion import programs as programs_lib
from simple_diffusion import sharding


def estimate(
  topology: chips.Topology,
  *,
  num_points: int,
  hours: list[float] | None,
  usd_per_chip_hour: float | None,
  provisioning: str,
) -> str:
  """Lines with chips, hours and money.

  Args:
    topology: of each point.
    num_points: that are not done yet.
    hours: of each of these points; None if nobody knows.
    usd_per_chip_hour: None for the list price.
    provisioning: spot, on_demand or reserved.

  Raises:
    ValueError: if there is no price.
  """
  chip, num_chips = topology.chip, topology.num_chips
  price, source = usd_per_chip_hour, "as given"
  if price is None:
    price, source = chip.usd_per_hour, "list price on demand"
    if provisioning == "spot":
      source += "; spot is cheaper"
  if price is None:
    raise ValueError(
      f"no price of {chip.name} is known; give --price_per_chip_hour"
    )
  hourly = num_points * num_chips * price
  lines = [
    f"{num_points} points on {topology.text}: {num_chips} chips each, "
    f"{num_points * num_chips} together",
    f"price: ${price:,.2f} for a chip and hour ({source}): ${hourly:,.2f} an "
    "hour while all points run",
  ]
  if hours is None:
    lines.append(
      "total: unknown; give --hours_per_point, or --plan=FILE of python -m "
      "experiments.plan --json"
    )
  else:
    chip_hours = sum(hours) * num_chips
    least, most = min(hours, default=0), max(hours, default=0)
    each = f"{least:.4g}" if least == most else f"{least:.4g} to {most:.4g}"
    lines.append(
      f"total: {each} hours a point, {chip_hours:,.0f} chip-hours, "
      f"${chip_hours * price:,.2f}"
    )
  return "\n".join(lines)


def planned_hours(path: str, topology: chips.Topology, points) -> list[float]:
  """Hours of each point by a plan: at the roofline, so at least.

  Points may run for other numbers of steps than the plan's; for the rest they
  must be what was planned.

  Args:
    path: what `experiments.plan --json` has written.
    topology: of each point.
    points: of the sweep.

  Raises:
    ValueError: if the plan is of another topology or network, of another
      batch, mesh or rematerialisation, or says no hours.
  """
  plan = _read_plan(path)
  planned_on = plan["topology"]
  if planned_on != topology.text:
    raise ValueError(
      f"--plan={path} is of topology {planned_on}, not of "
      f"{topology.text}; plan that one"
    )
  if not plan["cost"]:
    raise ValueError(f"--plan={path}: by this plan the step does not fit")
  known, errors = {}, []
  for number, point in enumerate(points, 1):
    found = _differences(plan, point.config, topology, known)
    if found:
      errors.append((number, point.name, "; ".join(found)))
  if errors:
    raise ValueError(
      "\n".join(
        f"--plan={path} is not of {who}: {found}. Plan its config, or give "
        "--hours_per_point"
        for who, found in points_lib.grouped(errors, len(points))
      )
    )
  hours_per_step = plan["cost"]["hours"] / plan["cost"]["num_steps"]
  return [hours_per_step * point.total_steps for point in points]


def _read_plan(path: str) -> dict:
  remedy = "write it with python -m experiments.plan --json > FILE"
  try:
    plan = json.loads(pathlib.Path(path).read_text())
    _ = plan["topology"], plan["train_step"]["num_parameters"]
    _ = dict(plan["overrides"])
    if plan["cost"]:
      _ = plan["cost"]["hours"] / plan["cost"]["num_steps"]
  except OSError as error:
    raise ValueError(
      f"--plan={path} can't be read ({error.strerror}); {remedy}"
    ) from error
  except KeyError as error:
    raise ValueError(
      f"--plan={path} is no plan, it has no {error}; {remedy}"
    ) from error
  except (ValueError, TypeError, ZeroDivisionError) as error:
    raise ValueError(f"--plan={path} is no plan; {remedy}") from error
  return plan


def _differences(plan, config, topology, known) -> list[str]:
  """Such as "train.batch_size is 512 there, 256 here"."""
  config = config.copy_and_resolve_references()
  if config.model.num_classes is None:
    config.model.num_classes = 1  # As the plan has it.
  # Which devices they are does not matter for the shape of a mesh.
  devices = jax.devices()[:1]
  mesh = sharding.make_mesh(
    **config.mesh, devices=devices * topology.num_devices
  )
  ours = {f"mesh.{axis}": mesh.shape[axis] for axis in ("data", "fsdp")}
  ours |= {
    "model.remat": config.model.remat,
    "train.batch_size": config.train.batch_size,
    "train.accum_steps": config.train.accum_steps,
  }
  theirs = dict(plan["overrides"])
  kind = str((config.model, config.data.image_size, config.data.num_channels))
  if kind not in known:
    config.train.batch_size = config.train.accum_steps  # on one device
    one = sharding.make_mesh(data=1, fsdp=1, devices=devices)
    params = programs_lib.make_programs(config, one).state.params
    known[kind] = sum(leaf.size for leaf in jax.tree.leaves(params))
  ours["the number of parameters"] = known[kind]
  theirs["the number of parameters"] = plan["train_step"]["num_parameters"]
  return [
    f"{key} is {theirs.get(key)} there, {value} here"
    for key, value in ours.items()
    if theirs.get(key) != value
  ]
