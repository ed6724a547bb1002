# SPDX-License-Identifier: Apache-2.0
"""What a launch costs, as far as one can say before it."""

import json
import pathlib

from experiments import chips


def estimate(
  topology: chips.Topology,
  *,
  num_points: int,
  hours_per_point: float | None,
  usd_per_chip_hour: float | None,
  provisioning: str,
) -> str:
  """Lines with chips, hours and money.

  Args:
    topology: of each point.
    num_points: that are not done yet.
    hours_per_point: None if nobody knows.
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
  if hours_per_point is None:
    lines.append(
      "total: unknown; give --hours_per_point, or --plan=FILE of python -m "
      "experiments.plan --json"
    )
  else:
    total = hourly * hours_per_point
    lines.append(
      f"total: {hours_per_point:g} hours a point, "
      f"{num_points * num_chips * hours_per_point:,.0f} chip-hours, "
      f"${total:,.2f}"
    )
  return "\n".join(lines)


def planned_hours(path: str, topology: chips.Topology) -> float:
  """Hours of a run by `experiments.plan --json`: at the roofline, so at least.

  Raises:
    ValueError: if the plan is of another topology, or says no hours.
  """
  plan = json.loads(pathlib.Path(path).read_text())
  if plan.get("topology") != topology.text:
    raise ValueError(
      f"--plan={path} is of topology {plan.get('topology')}, not of "
      f"{topology.text}; plan that one"
    )
  if not plan["cost"]:
    raise ValueError(f"--plan={path}: by this plan the step does not fit")
  return plan["cost"]["hours"]
