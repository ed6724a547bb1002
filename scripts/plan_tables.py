# SPDX-License-Identifier: Apache-2.0
"""Tables of docs/plans.md, from experiments/results/plans.jsonl."""

from scripts import paper_costs
from scripts import plan_rows
from scripts import results

GIB = 2**30

# The paper's steps/s, by what a plan is of.
PAPER_SPEED = {
  (f"configs/imagenet.py:{size},{network}", s.topology): s.steps_per_second
  for (size, network), s in paper_costs.SPEEDS.items()
}


def newest_plans() -> dict[plan_rows.Row, dict]:
  """Of each row, in order of first planning."""
  return {
    plan_rows.Row(p["config"], p["topology"], p.get("guidance_scale")): p
    for p in results.lines("plans")
  }


def plans() -> list[dict]:
  """Of the headline configs."""
  found = {
    row: plan
    for row, plan in newest_plans().items()
    if row.config in plan_rows.HEADLINES and row.guidance_scale is None
  }
  order = [row.topology for row in found]
  return sorted(found.values(), key=lambda p: order.index(p["topology"]))


def _table(header, rows) -> str:
  if not rows:
    return "Not yet planned."
  return results.markdown(header, rows)


def _name(plan) -> str:
  size, network = plan["config"].partition(":")[2].split(",")
  network = {"uvit": "U-ViT", "unet": "U-Net"}[network]
  return f"{network} {size}, {plan['topology']}"


def _that_compile() -> list[dict]:
  return [plan for plan in plans() if "speed" in plan["train_step"]]


def _gib(num_bytes) -> str:
  return f"{num_bytes / GIB:.1f}"


def compiled_flops(answer, plan) -> float:
  """Per image, over all devices."""
  devices = plan["num_chips"] * plan["chip"]["devices"]
  return answer["flops"] * devices / answer["num_images"]


def _at_best(speed, number: str) -> str:
  """A number that follows from the roofline; ~ where HBM's estimate binds."""
  return f"~{number}" if speed["bound_by"] == "hbm" else number


def plans_summary() -> str:
  """A line for each plan of the U-ViT: does it fit, how fast can it be?"""
  rows = []
  for plan in plans():
    if not plan["config"].endswith(",uvit"):
      continue
    step = plan["train_step"]
    if "speed" not in step:
      rows.append((_name(plan), "**does not fit**", "-", "-", "-"))
      continue
    at_best = 1 / step["speed"]["step_seconds"]
    paper = PAPER_SPEED.get((plan["config"], plan["topology"]))
    rows.append(
      (
        _name(plan),
        f"{step['spare']:.0%}",
        f"{compiled_flops(step, plan) / 1e12:.2f}",
        _at_best(step["speed"], f"{at_best:.1f}"),
        "-" if paper is None else f"{paper}",
      )
    )
  header = (
    "batch of 2048",
    "memory to spare",
    "TFLOP per image",
    "steps/s at best",
    "the paper's steps/s",
  )
  return _table(header, rows)


def plans_memory() -> str:
  """What a device holds while training, and what it leaves."""
  rows = []
  for plan in plans():
    step, o = plan["train_step"], plan["overrides"]
    parts = step["device_bytes"]
    state = sum(parts[k] for k in ("parameters", "ema", "optimizer"))
    fits = "memory" in step
    peak = step["memory"]["peak"] if fits else step["needed"]
    rest = "-"
    if fits:
      rest = _gib(peak - step["memory"]["arguments"])
    rows.append(
      (
        _name(plan),
        f"{o['mesh.data']} x {o['mesh.fsdp']}",
        o["model.remat"],
        f"{o['train.batch_size']:,} / {o['train.accum_steps']}",
        _gib(state),
        rest,
        _gib(peak) if peak else "?",
        _gib(plan["chip"]["usable_bytes"]),
        f"{step['spare']:.0%}" if fits else "**does not fit**",
      )
    )
  header = (
    "GiB per device",
    "data x fsdp",
    "remat",
    "batch / parts",
    "parameters, EMA, Adam",
    "activations, gradients",
    "peak",
    "of",
    "spare",
  )
  return _table(header, rows)


def _compile_seconds(step) -> str:
  """Seconds by the clock, and the compiler's CPU seconds where recorded."""
  text = f"{step['compile_seconds']:.0f}"
  if "compile_cpu_seconds" in step:
    text += f" ({step['compile_cpu_seconds']:.0f})"
  return text


def plans_work() -> str:
  """FLOPs per image, HBM traffic, and what compiling takes."""
  rows = []
  for plan in _that_compile():
    step = plan["train_step"]
    model = step["model_flops_per_image"]
    flops = compiled_flops(step, plan)
    rows.append(
      (
        _name(plan),
        f"{model / 1e12:.2f}",
        f"{flops / 1e12:.2f} ({flops / model:.2f})",
        f"{step['hbm_bytes'] / 1e9:,.0f}",
        _compile_seconds(step),
        _gib(step["host_bytes"]),
        plan.get("code") or "-",
      )
    )
  header = (
    "one training step",
    "TFLOP / image of the model",
    "compiled (ratio)",
    "HBM GB / device",
    "compile, s (CPU s)",
    "host memory, GiB",
    "commit of the code",
  )
  return _table(header, rows)


def plans_sizes() -> str:
  """How the compiled FLOPs per image grow with the image."""
  found = {(p["config"], p["topology"]): p for p in _that_compile()}
  rows = []
  for network, label in (("uvit", "U-ViT"), ("unet", "U-Net")):
    for topology in dict.fromkeys(topology for _, topology in found):
      flops = []
      for size in plan_rows.SIZES:
        plan = found.get((f"configs/imagenet.py:{size},{network}", topology))
        flops.append(plan and compiled_flops(plan["train_step"], plan))
      if not flops[0]:
        continue
      cells = ["-" if f is None else f"{f / flops[0]:.3f}" for f in flops]
      rows.append((f"{label}, {topology}", *cells))
  header = ("compiled FLOPs per image", "128", "256", "512", "1024")
  return _table(header, rows)


def plans_collectives() -> str:
  """What travels, against the least that fsdp needs."""
  rows = []
  for plan in _that_compile():
    found = plan["train_step"]["collectives"]
    kinds = dict.fromkeys(
      ("all-gather", "reduce-scatter", "all-reduce", "others"), 0
    )
    for row in found["by_kind"]:
      kind = row["kind"] if row["kind"] in kinds else "others"
      kinds[kind] += row["bytes"]
    fsdp = plan["fsdp"]
    ratio = "-" if fsdp["ratio"] is None else f"{fsdp['ratio']:.2f}"
    share = found["of_batch_bytes"] / max(1, found["bytes"])
    rows.append(
      (
        _name(plan),
        *(f"{value / 1e9:.2f}" for value in kinds.values()),
        f"{fsdp['textbook_bytes'] / 1e9:.2f}",
        ratio,
        f"{share:.1%}",
      )
    )
  header = (
    "GB of whole arrays, one step",
    "all-gather",
    "reduce-scatter",
    "all-reduce",
    "others",
    "textbook fsdp",
    "ratio",
    "not of parameters",
  )
  return _table(header, rows)


def plans_speed() -> str:
  """The roofline, beside what the paper measured."""
  rows = []
  for plan in _that_compile():
    speed = plan["train_step"]["speed"]
    seconds = speed["seconds"]
    paper = PAPER_SPEED.get((plan["config"], plan["topology"]))
    at_best = 1 / speed["step_seconds"]
    rows.append(
      (
        _name(plan),
        f"{seconds['compute']:.3f}",
        f"{seconds['hbm']:.3f}",
        f"{seconds['interconnect']:.3f}",
        _at_best(speed, f"{at_best:.2f}"),
        _at_best(speed, f"{speed['images_per_second_per_chip']:.1f}"),
        _at_best(speed, f"{speed['mfu']:.0%}"),
        "-" if paper is None else f"{paper} ({paper / at_best:.0%})",
      )
    )
  header = (
    "roofline of one step",
    "compute, s",
    "HBM, s",
    "links, s",
    "steps/s at best",
    "images/s/chip",
    "MFU allowed",
    "paper, steps/s",
  )
  return _table(header, rows)


def plans_cost() -> str:
  """A whole run at the roofline."""
  rows = []
  for plan in _that_compile():
    cost = plan["cost"]
    usd = "?" if cost["usd"] is None else f"{cost['usd']:,.0f}"
    rows.append(
      (
        _name(plan),
        f"{cost['num_steps']:,}",
        _at_best(plan["train_step"]["speed"], f"{cost['hours']:,.0f}"),
        f"{cost['chip_hours']:,.0f}",
        usd,
      )
    )
  header = ("a run, at best", "steps", "hours", "chip-hours", "USD, list price")
  return _table(header, rows)


def plans_sampling() -> str:
  """The sampler, with the training mesh; of some plans guided too."""
  rows = []
  newest = newest_plans()
  guided = [newest[row] for row in plan_rows.guided() if row in newest]
  named = [
    *((_name(plan), plan) for plan in plans()),
    *((f"{_name(plan)}, guided", plan) for plan in guided),
  ]
  for name, plan in named:
    answer = plan["sample"]
    if "speed" not in answer:
      rows.append((name, "does not fit", "", "", "", "", ""))
      continue
    seconds = answer["speed"]["seconds"]
    rows.append(
      (
        name,
        str(answer["num_images"]),
        _gib(answer["memory"]["peak"]),
        f"{seconds['compute']:.1f}",
        f"{seconds['hbm']:.1f}",
        f"{seconds['interconnect']:.1f}",
        _at_best(
          answer["speed"],
          f"{answer['num_images'] / answer['speed']['step_seconds']:.1f}",
        ),
      )
    )
  header = (
    "sampling",
    "images",
    "peak, GiB / device",
    "compute, s",
    "HBM, s",
    "links, s",
    "images/s at best",
  )
  return _table(header, rows)


def plans_settings() -> str:
  """The settings to use: the config's, or what the search has found."""
  rows = []
  for plan in plans():
    step, o = plan["train_step"], plan["overrides"]
    verdict = f"fits, {step['spare']:.0%} to spare" if step["fits"] else "-"
    if plan["remedies"]:
      last = plan["remedies"][-1]
      verdict = f"with `{last['flags']}`" if last["fits"] else "none was found"
    rows.append(
      (
        _name(plan),
        f"{o['mesh.data']} x {o['mesh.fsdp']}",
        o["model.remat"],
        f"{o['train.batch_size']:,}",
        str(o["train.accum_steps"]),
        verdict,
      )
    )
  header = ("plan", "mesh", "remat", "batch", "parts", "memory")
  return _table(header, rows)


def plans_ablations() -> str:
  """Every row of the paper's tables 2 to 6, as its program was compiled."""
  found, topology = newest_plans(), plan_rows.ABLATIONS_TOPOLOGY
  rows = []
  for config, planned in plan_rows.ablations().items():
    plan = found.get(plan_rows.Row(planned, topology))
    if plan is None:
      rows.append((_row(config), "not yet planned", *"----", "-"))
      continue
    step, sample = plan["train_step"], plan["sample"]
    if "speed" not in step:
      cells = ("-", "**does not fit**", "-", "-", "-")
      rows.append((_row(config), *cells, _row(planned)))
      continue
    at_best = 1 / step["speed"]["step_seconds"]
    rows.append(
      (
        _row(config),
        f"{step['num_parameters'] / 1e6:,.0f}",
        f"{_gib(step['memory']['peak'])} ({step['spare']:.0%} to spare)",
        f"{compiled_flops(step, plan) / 1e12:.2f}",
        _at_best(step["speed"], f"{at_best:.1f}"),
        _gib(sample["memory"]["peak"]) if "memory" in sample else "no fit",
        _row(planned),
      )
    )
  header = (
    f"table, row ({topology})",
    "parameters, M",
    "training, GiB / device",
    "TFLOP per image",
    "steps/s at best",
    "sampling, GiB / device",
    "compiled as",
  )
  return _table(header, rows)


def _row(config: str) -> str:
  """A config's argument, with the file's name if that is not the ablations'."""
  file, _, arg = config.partition(":")
  return f"imagenet.py:{arg}" if file == "configs/imagenet.py" else arg


MAKERS = (
  plans_ablations,
  plans_settings,
  plans_memory,
  plans_work,
  plans_sizes,
  plans_collectives,
  plans_speed,
  plans_cost,
  plans_sampling,
)
