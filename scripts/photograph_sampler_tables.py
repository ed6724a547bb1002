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


# What differs between trainings of the U-ViT.
TUNED = ("model.transformer_dropout", "train.ema_decay")


def is_of_uvit(record: dict) -> bool:
  """Whether a record is of the U-ViT at 128 pixels, by whatever sampler."""
  config = workdir.as_json(photographs.get_config("128,uvit"))
  config["sample"] = record["config"]["sample"]
  apart = photograph_tables.SAME_ROW + TUNED
  return results.is_of(record, config, apart=apart)


def records() -> list[dict]:
  """The newest of each sampler and step, of the newest one's data and seed."""
  found = [r for r in photograph_tables.records() if is_of_uvit(r)]
  newest = {}
  for r in found:
    if run(r) == run(found[-1]):
      sampler = [r["samples"][name] for name in SAMPLER]
      key = json.dumps([training(r), *sampler])
      newest.pop(key, None)  # Back at the end.
      newest[key] = r
  return list(newest.values())


def run(record: dict) -> tuple:
  """Of which photographs and seed a record is."""
  return photograph_tables.folder(record), record["config"]["train"]["seed"]


def training(record: dict) -> str:
  """How long a training was, and with what."""
  config = record["config"]
  return (
    f"{record['checkpoint_step']:,}, dropout "
    f"{config['model']['transformer_dropout']:g}, EMA "
    f"{config['train']['ema_decay']:g}"
  )


def place(record: dict) -> tuple:
  """Where a row stands: longest training first, by guidance, slowest first."""
  s = record["samples"]
  return (
    -record["checkpoint_step"],
    s["guidance_scale"],
    -s["num_network_evaluations"],
  )


def row(record: dict) -> tuple[str, ...]:
  s = record["samples"]
  guidance = f"{s['guidance_scale']:g}"
  if interval := s["guidance_interval"]:
    guidance += f", log-SNR {interval[0]:g} to {interval[1]:g}"
  return (
    training(record),
    f"{s['num_network_evaluations']}" + " x 2" * (s["guidance_scale"] != 1),
    s["method"],
    s["spacing"],
    guidance,
    *(
      f"{s[side]['kernel']:.3f} ± {s[side]['kernel_standard_error']:.3f}"
      for side in ("held_out", "train")
    ),
    f"{s['train']['frechet']:.0f}",
    f"{s['train']['precision']:.2f}",
    f"{s['train']['recall']:.3f}",
  )


def photographs_samplers() -> str:
  found = records()
  if not found:
    return "Not yet run."
  header = (
    "steps of training",
    "evaluations",
    "sampler",
    "steps uniform in",
    "guidance",
    *(name for name, *_ in photograph_tables.COLUMNS),
  )
  r = found[-1]
  t = r["config"]["train"]
  return (
    f"{results.markdown(header, map(row, sorted(found, key=place)))}\n\n"
    f"{photograph_tables.folder(r)}, a training step sees {t['batch_size']} "
    "images; the held-out photographs' own kernel distance to training ones is "
    f"{r['samples']['real']['kernel']:.3f}. ± is the jackknife's. Newest row: "
    f"{photograph_tables.caption(r)}"
  )


def photographs_fast() -> str:
  """A sentence: what 32 evaluations lose against 512 ancestral ones."""
  of_training = {}
  for r in sorted(records(), key=place):
    if r["samples"]["guidance_scale"] == 1:
      of_training.setdefault(training(r), []).append(r)
  for found in of_training.values():  # the longest first
    step = found[0]["checkpoint_step"]
    unguided = [r["samples"] for r in found]
    slow = [
      s
      for s in unguided
      if s["method"] == "ancestral" and s["num_network_evaluations"] == 512
    ]
    fast = [s for s in unguided if 30 <= s["num_network_evaluations"] <= 33]
    if not slow or not fast:
      continue
    kernels = {
      f"{s['method']} in {s['spacing']}": s["held_out"]["kernel"] for s in fast
    }
    best = min(kernels, key=kernels.get)
    reference = slow[-1]["held_out"]["kernel"]
    return (
      f"After {step:,} steps of training and with 32 evaluations {best} is at "
      f"{kernels[best]:.3f} from held-out photographs, "
      f"{kernels[best] / reference - 1:+.1%} against {reference:.3f} of 512 "
      f"ancestral steps (tried: {', '.join(kernels)})."
    )
  return "Not yet run."


MAKERS = (photographs_samplers, photographs_fast)
