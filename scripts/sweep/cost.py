# SPDX-License-Identifier: Apache-2.0
"""What a launch costs, as far as one can say before it."""

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
      "total: unknown; give --hours_per_point (python -m experiments.plan "
      "estimates steps/s)"
    )
  else:
    total = hourly * hours_per_point
    lines.append(
      f"total: {hours_per_point:g} hours a point, "
      f"{num_points * num_chips * hours_per_point:,.0f} chip-hours, "
      f"${total:,.2f}"
    )
  return "\n".join(lines)
