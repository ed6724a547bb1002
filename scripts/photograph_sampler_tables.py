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


def checkpoint(record: dict) -> tuple:
  """Of which run a record is, and of which step."""
  seed = record["config"]["train"]["seed"]
  return photograph_tables.folder(record), seed, record["checkpoint_step"]


def records() -> list[dict]:
  """The newest of each sampler, of the newest record's checkpoint, in order."""
  found = [r for r in photograph_tables.records() if is_of_uvit(r)]
  newest = {}
  for r in found:
    if checkpoint(r) == checkpoint(found[-1]):
      sampler = json.dumps([r["samples"][name] for name in SAMPLER])
      newest.pop(sampler, None)  # Back at the end.
      newest[sampler] = r
  return list(newest.values())


def place(record: dict) -> tuple:
  """Where a row stands: by guidance, then slowest first."""
  s = record["samples"]
  return s["guidance_scale"], -s["num_network_evaluations"]


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
  rows = map(row, sorted(found, key=place))
  return (
    f"{results.markdown(header, rows)}\n\n"
    f"{photograph_tables.folder(r)}, step {r['checkpoint_step']:,} of "
    f"{t['total_steps']:,} ({r['checkpoint_step'] * t['batch_size']:,} images "
    "seen); the held-out photographs' own kernel distance to training ones is "
    f"{r['samples']['real']['kernel']:.3f}. ± is the jackknife's. "
    f"{photograph_tables.caption(r)}"
  )


def photographs_fast() -> str:
  """A sentence: what 32 evaluations lose against 512 ancestral ones."""
  unguided = [
    r["samples"] for r in records() if r["samples"]["guidance_scale"] == 1
  ]
  slow = [
    s
    for s in unguided
    if s["method"] == "ancestral" and s["num_network_evaluations"] == 512
  ]
  fast = [s for s in unguided if 30 <= s["num_network_evaluations"] <= 33]
  if not slow or not fast:
    return "Not yet run."
  kernels = {
    f"{s['method']} in {s['spacing']}": s["held_out"]["kernel"] for s in fast
  }
  best = min(kernels, key=kernels.get)
  reference = slow[-1]["held_out"]["kernel"]
  return (
    f"With 32 evaluations {best} is at {kernels[best]:.3f} from held-out "
    f"photographs, {kernels[best] / reference - 1:+.1%} against "
    f"{reference:.3f} of 512 ancestral steps (tried: {', '.join(kernels)})."
  )


MAKERS = (photographs_samplers, photographs_fast)
