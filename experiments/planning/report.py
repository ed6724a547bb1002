# SPDX-License-Identifier: Apache-2.0
"""A plan as text."""

GIB = 2**30


def gib(num_bytes: float) -> str:
  """Such as "1.89 GiB"."""
  return f"{num_bytes / GIB:.2f} GiB"


def si(value: float, unit: str) -> str:
  """With a decimal prefix, such as "26.4 TFLOP"."""
  for scale, prefix in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
    if abs(value) >= scale:
      return f"{value / scale:.3g} {prefix}{unit}"
  return f"{value:.3g} {unit}"


def _lines(rows) -> list[str]:
  width = max(len(name) for name, _ in rows)
  return [f"  {name:<{width}}  {value}" for name, value in rows]


def _memory(answer, usable, *, training) -> list[str]:
  parts = answer["device_bytes"]
  names = ("parameters", "ema", "optimizer", "batch") if training else ("ema",)
  rows = [(name, gib(parts[name])) for name in names]
  if "memory" not in answer:
    needed = answer["needed"]
    rows.append(("needed", gib(needed) if needed else "more than there is"))
    rows.append(("of", f"{gib(usable)}: does not fit"))
    return _lines(rows)
  peak = answer["memory"]["peak"]
  rest = peak - answer["memory"]["arguments"]
  name = "activations, gradients" if training else "activations"
  rows += [
    (name, gib(rest)),
    ("peak", f"{gib(peak)} of {gib(usable)}, {answer['spare']:.0%} to spare"),
  ]
  return _lines(rows)


def _work(answer, num_devices) -> list[str]:
  num = answer["num_images"]
  speed = answer["speed"]
  chips_flops = answer["flops"] * num_devices
  model = answer["model_flops_per_image"]
  seconds = speed["seconds"]
  rows = [
    (
      "FLOPs of the model",
      f"{si(model, 'FLOP')} per image, {si(model * num, 'FLOP')} in all",
    ),
    (
      "FLOPs compiled",
      f"{si(chips_flops / num, 'FLOP')} per image, "
      f"{si(answer['flops'], 'FLOP')} per device "
      f"({chips_flops / num / model:.2f} of the model's)",
    ),
    ("HBM traffic", f"{si(answer['hbm_bytes'], 'B')} per device"),
    (
      "compute, HBM, links",
      f"{seconds['compute']:.4g} s, {seconds['hbm']:.4g} s, "
      f"{seconds['interconnect']:.4g} s",
    ),
    (
      "at best",
      f"{speed['step_seconds']:.4g} s, {1 / speed['step_seconds']:.3g} /s, "
      f"bound by {speed['bound_by']}",
    ),
    ("images/s/chip", f"{speed['images_per_second_per_chip']:.3g}"),
    ("MFU that this allows", f"{speed['mfu']:.0%}"),
  ]
  if answer["unknown_loops"]:
    rows.append(("loops of unknown length", f"{answer['unknown_loops']}, as 1"))
  return _lines(rows)


def _collectives(answer) -> list[str]:
  found = answer["collectives"]
  lines = [
    f"  {row['kind']:<20}{row['axes']:<12}{row['count']:>8} x "
    f"{si(row['bytes'], 'B'):>10}  {row['seconds']:.4f} s"
    for row in found["by_kind"]
  ] or ["  none"]
  share = found["of_batch_bytes"] / max(1, found["bytes"])
  lines.append(
    f"  of these, not of parameters: {si(found['of_batch_bytes'], 'B')} "
    f"({share:.1%})"
  )
  if share > 0.02:
    lines.append("  part of the batch travels:")
    lines += [
      f"    {row['kind']} {row['array']} {si(row['bytes'], 'B')} for "
      f"{row['source'] or 'no named operation'}"
      for row in found["of_batch"]
    ]
  return lines


def _compilation(answer) -> str:
  return (
    f"  compiled in {answer['compile_seconds']:.0f} s, with "
    f"{gib(answer['host_bytes'])} of this machine's memory"
  )


def _program(title, plan, name) -> list[str]:
  answer = plan[name]
  num_devices = plan["num_chips"] * plan["chip"]["devices"]
  usable = plan["chip"]["usable_bytes"]
  lines = ["", title, " memory of a device"]
  lines += _memory(answer, usable, training=name == "train_step")
  if "speed" in answer:
    lines += [
      " work",
      *_work(answer, num_devices),
      " collectives, bytes of whole arrays",
    ]
    lines += _collectives(answer)
  return [*lines, _compilation(answer)]


def _fsdp(traffic) -> list[str]:
  if not traffic or traffic["ratio"] is None:
    return []
  return [
    f"  fsdp moves {si(traffic['bytes'], 'B')}, {traffic['ratio']:.2f} of the "
    f"textbook's {si(traffic['textbook_bytes'], 'B')} (3 x parameters)"
  ]


def _cost(cost) -> list[str]:
  if not cost:
    return []
  price = "price not known; give --price_per_chip_hour"
  if cost["usd"] is not None:
    price = f"${cost['usd']:,.0f} at ${cost['usd_per_chip_hour']} a chip-hour"
  return [
    "",
    f"{cost['num_steps']:,} steps at best: {cost['hours']:,.1f} hours, "
    f"{cost['chip_hours']:,.0f} chip-hours, {price}",
  ]


def _sampler_remedy(plan) -> list[str]:
  if plan["sample"]["fits"]:
    return []
  return [
    "",
    "The sampler leaves less than a tenth of the memory: lower "
    f"eval.batch_size={plan['sample']['num_images']}, or raise "
    f"mesh.fsdp={plan['overrides']['mesh.fsdp']}.",
  ]


def _remedies(plan) -> list[str]:
  if plan["train_step"]["fits"]:
    return []
  lines = ["", "The step leaves less than a tenth of the memory."]
  if not plan["remedies"]:
    return [*lines, "  What would make it fit was not tried (--search)."]
  for row in plan["remedies"]:
    peak = gib(row["peak"]) if row["peak"] else "too large to compile"
    verdict = "fits" if row["fits"] else "does not fit"
    lines.append(f"  {verdict}: {row['flags']} ({peak})")
  last = plan["remedies"][-1]
  if not last["fits"]:
    return [*lines, "  None of these fits; use a larger slice."]
  if parts := last["overrides"].get("train.accum_steps"):
    batch = plan["overrides"]["train.batch_size"] // parts
    lines.append(f"  A batch of {batch:,} in one part takes about as much.")
  return lines


def text(plan: dict) -> str:
  """The report of what `planner.plan` returns."""
  mesh = plan["train_step"]["mesh"]
  batch = plan["overrides"]["train.batch_size"]
  devices = plan["num_chips"] * plan["chip"]["devices"]
  local = batch / devices
  o = plan["overrides"]
  lines = [
    f"{plan['topology']}: {plan['num_chips']} chips, mesh data={mesh['data']} "
    f"fsdp={mesh['fsdp']}, remat {o['model.remat']}, batch {batch} "
    f"({local:g} a device, in {o['train.accum_steps']} parts)",
    f"{plan['train_step']['num_parameters']:,} parameters",
  ]
  lines += _program("Training step", plan, "train_step")
  lines += _fsdp(plan["fsdp"])
  num = plan["sample"]["num_images"]
  lines += _program(f"Sampling of {num} images", plan, "sample")
  lines += _cost(plan["cost"])
  lines += _remedies(plan)
  lines += _sampler_remedy(plan)
  lines += [
    "",
    f"Compiled with effort {plan['effort']:g} (a run uses 0): memory within a "
    "few percent, HBM traffic up to twice.",
  ]
  return "\n".join(lines)
