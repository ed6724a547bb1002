# SPDX-License-Identifier: Apache-2.0
"""The least time that a compiled program needs on a chip, and what it costs.

  step_s = max(FLOPs / peak, HBM bytes / bandwidth, sent bytes / links)

each of one device. Compute, memory and links would have to overlap perfectly:
a real step takes longer, so what follows from step_s is the best case.
"""

from experiments import chips

SPARE = 0.1  # of the memory: below, a plan counts as too tight


def _limits(answer, chip) -> dict:
  seconds = {
    "compute": answer["flops"] * chip.devices_per_chip / chip.peak_flops,
    "hbm": answer["hbm_bytes"] * chip.devices_per_chip / chip.hbm_bandwidth,
    "interconnect": sum(
      row["seconds"] for row in answer["collectives"]["by_kind"]
    ),
  }
  return {"seconds": seconds, "bound_by": max(seconds, key=seconds.get)}


def speed(answer: dict, topology: chips.Topology) -> dict:
  """Step time, images/s/chip and MFU that the program allows.

  Args:
    answer: of `child.answer`.
    topology: that it was compiled for.

  Returns:
    seconds of each limit, which one binds, step_seconds, images per second and
    chip, and mfu: the share of the chips' peak that the model's FLOPs (without
    recomputation) would use.
  """
  chip = topology.chip
  limits = _limits(answer, chip)
  step_s = limits["seconds"][limits["bound_by"]]
  images_per_s = answer["num_images"] / step_s / topology.num_chips
  mfu = images_per_s * answer["model_flops_per_image"] / chip.peak_flops
  return {
    **limits,
    "step_seconds": step_s,
    "images_per_second_per_chip": images_per_s,
    "mfu": mfu,
  }


def spare(answer: dict, topology: chips.Topology) -> float:
  """Share of a device's usable memory that the program leaves."""
  return 1 - answer["memory"]["peak"] / topology.chip.usable_bytes


def cost(
  *, step_seconds: float, num_steps: int, num_chips: int, usd_per_hour
) -> dict:
  """Hours and dollars of a run at the roofline.

  Args:
    step_seconds: of one step.
    num_steps: of the run.
    num_chips: rented.
    usd_per_hour: per chip, or None if unknown.
  """
  hours = step_seconds * num_steps / 3600
  chip_hours = hours * num_chips
  return {
    "num_steps": num_steps,
    "hours": hours,
    "chip_hours": chip_hours,
    "usd_per_chip_hour": usd_per_hour,
    "usd": None if usd_per_hour is None else chip_hours * usd_per_hour,
  }


def fsdp_traffic(answer: dict, *, dtype_bytes: int, accum_steps: int) -> dict:
  """Bytes that fsdp moves against the least that it could.

  Least: each part of the batch gathers every split parameter for the forward
  and for the backward pass, and scatters its gradient, in the dtype of the
  computation. What is moved counts every collective along fsdp, an all-reduce
  twice.

  Returns:
    bytes, textbook_bytes, and their ratio; None without fsdp.
  """
  if answer["mesh"]["fsdp"] == 1:
    return {"bytes": 0, "textbook_bytes": 0, "ratio": None}
  moved = sum(
    row["bytes"] * (1 + (row["kind"] == "all-reduce"))
    for row in answer["collectives"]["by_kind"]
    if "fsdp" in row["axes"].split(",")
  )
  least = 3 * answer["sharded_parameters"] * dtype_bytes * accum_steps
  return {
    "bytes": moved,
    "textbook_bytes": least,
    "ratio": moved / least if least else None,
  }
