# SPDX-License-Identifier: Apache-2.0
"""Samplers and guidance of one U-ViT on photographs, from results of evaluate.

The paper's table 9, and its choice of 512 ancestral steps, at a small scale.
"""

import json

from configs import photographs
from experiments import workdir
from scripts import photograph_tables
from scripts import results

SAMPLER = (
  "method",
  "num_steps",
  "spacing",
  "gamma",
  "guidance_scale",
  "guidance_interval",
)


def is_of_uvit(record: dict) -> bool:
  """Whether a record is of the U-ViT at 128 pixels, by whatever sampler."""
  config = workdir.as_json(photographs.get_config("128,uvit"))
  config["sample"] = record["config"]["sample"]
  return results.is_of(record, config, apart=photograph_tables.SAME_ROW)


def records() -> list[dict]:
  """The newest of each sampler, of the newest checkpoint, slowest first."""
  found = [r for r in photograph_tables.records() if is_of_uvit(r)]
  newest = {}
  for r in found:
    if r["checkpoint_step"] == found[-1]["checkpoint_step"]:
      newest[json.dumps([r["samples"][name] for name in SAMPLER])] = r
  return sorted(
    newest.values(),
    key=lambda r: (
      r["samples"]["guidance_scale"],
      -r["samples"]["num_network_evaluations"],
    ),
  )


def row(record: dict) -> tuple[str, ...]:
  s = record["samples"]
  guidance = f"{s['guidance_scale']:g}"
  if interval := s["guidance_interval"]:
    guidance += f", log-SNR {interval[0]:g} to {interval[1]:g}"
  return (
    str(s["num_network_evaluations"]),
    s["method"],
    s["spacing"],
    guidance,
    *(
      f"{s[side]['kernel']:.3f} ± {s[side]['kernel_standard_error']:.3f}"
      for side in ("held_out", "train")
    ),
    f"{s['train']['frechet']:.0f}",
    f"{s['train']['precision']:.2f}",
    f"{s['train']['recall']:.2f}",
  )


def photographs_samplers() -> str:
  found = records()
  if not found:
    return "Not yet run."
  header = (
    "evaluations",
    "sampler",
    "steps uniform in",
    "guidance",
    *(name for name, *_ in photograph_tables.COLUMNS),
  )
  r = found[-1]
  t = r["config"]["train"]
  return (
    f"{results.markdown(header, map(row, found))}\n\n"
    f"{photograph_tables.folder(r)}, step {r['checkpoint_step']:,} of "
    f"{t['total_steps']:,} ({r['checkpoint_step'] * t['batch_size']:,} images "
    "seen); the held-out photographs' own kernel distance to training ones is "
    f"{r['samples']['real']['kernel']:.3f}. ± is the jackknife's. "
    f"{photograph_tables.caption(r)}"
  )


def photographs_fast() -> str:
  """A sentence: what 32 evaluations lose against 512 ancestral ones."""
  unguided = [r for r in records() if r["samples"]["guidance_scale"] == 1]
  by_cost = {
    (r["samples"]["method"], r["samples"]["num_network_evaluations"]): r
    for r in unguided
  }
  slow = by_cost.get(("ancestral", 512))
  fast = [r for (_, cost), r in by_cost.items() if 30 <= cost <= 33]
  if not slow or not fast:
    return "Not yet run."
  best = min(fast, key=lambda r: r["samples"]["held_out"]["kernel"])
  s, kernels = best["samples"], []
  for r in (best, slow):
    kernels.append(r["samples"]["held_out"]["kernel"])
  return (
    f"Of {len(fast)} sampler(s) with about 32 evaluations the best is "
    f"{s['method']}, at {kernels[0]:.3f} from held-out photographs: "
    f"{kernels[0] / kernels[1] - 1:+.1%} against {kernels[1]:.3f} of 512 "
    "ancestral steps."
  )


MAKERS = (photographs_samplers, photographs_fast)
