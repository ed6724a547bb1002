# SPDX-License-Identifier: Apache-2.0
"""Samplers and guidance of two networks on photographs, from results.

The paper's table 9, and its choice of 512 ancestral steps, at a small scale.
"""

import json
import math

from configs import photographs
from experiments import workdir
from scripts import photograph_loss_tables
from scripts import photograph_protocols
from scripts import photograph_runs
from scripts import photograph_tables
from scripts import protocols
from scripts import results

SAMPLER = (
  "method",
  "num_steps",
  "spacing",
  "gamma",
  "guidance_scale",
  "guidance_interval",
)


# Each network's config, and what differs between its trainings.
TRAININGS = {
  "uvit": (
    "128,uvit",
    (
      "objective.loss_space",
      "objective.weighting",
      "model.transformer_dropout",
      "train.ema_decay",
    ),
  ),
  "unet": ("64,unet", ()),
}


def is_of(record: dict, network: str) -> bool:
  """Whether a record is of the network's config, by whatever sampler."""
  if "samples" not in record:
    return False
  arg, tuned = TRAININGS[network]
  config = workdir.as_json(photographs.get_config(arg))
  apart = (*photograph_runs.SAME_POINT, *tuned, "sample")
  return results.is_of(record, config, apart=apart)


def records(network: str) -> list[dict]:
  """The newest of each training and sampler, the newest of all last.

  Of the photographs, seed and features that most have, and of a training by the
  protocol that most of its records have.
  """
  found = photograph_protocols.most(
    [r for r in results.lines("photographs") if is_of(r, network)], key=shared
  )
  of_trainings = photograph_protocols.parts(found, key=training)
  kept = {
    id(r) for part in of_trainings for r in photograph_protocols.most(part)
  }
  newest = {}
  for r in found:
    if id(r) in kept:
      sampler = [r["samples"][setting] for setting in SAMPLER]
      key = json.dumps([training(r), *sampler])
      newest.pop(key, None)  # Back at the end.
      newest[key] = r
  return list(newest.values())


def shared(record: dict) -> tuple:
  """What trainings must share to stand in one table."""
  features = record["samples"]["features"]
  return (
    photograph_runs.folder(record),
    record["config"]["train"]["seed"],
    record["held_out_split"],
    features["name"],
    features["weights_hash"],
    features["resize"],
    *(
      record["samples"][side]["reference_hash"]
      for side in ("train", "held_out")
    ),
  )


def training(record: dict) -> str:
  """How long a training was, and with what."""
  config = record["config"]
  objective, model = config["objective"], config["model"]
  loss = f"{objective['loss_space']}-MSE"
  if objective["weighting"] != "constant":
    loss = objective["weighting"]
  dropout = model.get("transformer_dropout", model.get("dropout"))
  return (
    f"{record['checkpoint_step']:,}, {loss}, dropout {dropout:g}, EMA "
    f"{config['train']['ema_decay']:g}"
  )


def place(record: dict) -> tuple:
  """Where a row stands: longest training first, by guidance, slowest first."""
  s = record["samples"]
  return (
    -record["checkpoint_step"],
    s["guidance_scale"],
    s["guidance_interval"] is not None,
    -s["num_network_evaluations"],
    s["method"],
  )


def row(record: dict) -> tuple[str, ...]:
  s = record["samples"]
  return (
    training(record),
    protocols.evaluations(s),
    s["method"],
    s["spacing"],
    protocols.guidance(s),
    *(
      f"{s[side]['kernel']:.3f} ± {s[side]['kernel_standard_error']:.3f}"
      for side in ("held_out", "train")
    ),
    *(f"{s[side]['frechet']:.0f}" for side in ("held_out", "train")),
    f"{s['train']['precision']:.2f}",
    f"{s['train']['recall']:.3f}",
  )


def samplers(network: str) -> str:
  """A row for each sampler and guidance of a network's trainings."""
  found = records(network)
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
  rows = [row(r) for r in sorted(found, key=place)]
  r = found[-1]
  t, real = r["config"]["train"], r["samples"]["real"]
  return (
    f"{results.markdown(header, rows)}\n\n"
    f"{photograph_runs.folder(r)}, one training of each length with "
    f"{t['batch_size']} images a step. ± is the jackknife's, over images. The "
    "held-out photographs' own kernel distance to training ones is "
    f"{real['kernel']:.3f} ± {real['kernel_standard_error']:.3f}. "
    f"{captions(found)} {results.where(*(r['environment'] for r in found))}."
  )


def captions(found: list[dict]) -> str:
  """What rows share, of each protocol that some of them have."""
  parts = photograph_protocols.parts(found)
  texts = []
  for part in parts:
    r = part[-1]
    size = r["config"]["data"]["image_size"]
    text = protocols.measures(
      {f"{photograph_runs.folder(r)}, {size} pixels": r}
    )
    if len(parts) > 1:
      text = f"{' and '.join(sorted(set(map(training, part))))}: {text}"
    texts.append(text)
  return " ".join(texts)


def more(mine: dict, reference: dict) -> str:
  """How much larger a kernel distance is, with its error, in percent.

  As if the two were independent. They share the held-out images, so the error
  is likely too large.
  """
  key, error = "kernel", "kernel_standard_error"
  ratio = mine[key] / reference[key]
  relative = math.hypot(*(d[error] / d[key] for d in (mine, reference)))
  return f"{ratio - 1:+.1%} ± {ratio * relative:.1%}"


def fast(network: str) -> str:
  """A sentence: what 32 evaluations lose against 512 ancestral ones.

  Of the longest training that has both.
  """
  of_training = {}
  for r in sorted(records(network), key=place):
    if r["samples"]["guidance_scale"] == 1:
      of_training.setdefault(training(r), []).append(r)
  for found in of_training.values():  # the longest first
    unguided = [r["samples"] for r in found]
    slow = [
      s
      for s in unguided
      if s["method"] == "ancestral" and s["num_network_evaluations"] == 512
    ]
    few = [s for s in unguided if 30 <= s["num_network_evaluations"] <= 33]
    if not slow or not few:
      continue
    reference = slow[-1]["held_out"]
    few.sort(key=lambda s: s["held_out"]["kernel"])
    return (
      f"512 ancestral steps (steps of training: {training(found[0])}) are at a "
      f"kernel distance of {reference['kernel']:.3f} ± "
      f"{reference['kernel_standard_error']:.3f} from held-out photographs. "
      "With about 32 evaluations: "
      + ", ".join(
        f"{s['method']} in {s['spacing']} {more(s['held_out'], reference)}"
        for s in few
      )
      + "."
    )
  return "Not yet run."


def photographs_uvit_loss() -> str:
  """Of the U-ViT's trainings, by their newest evaluations."""
  newest = {training(r): [r] for r in records("uvit")}
  if not newest:
    return "Not yet run."
  return photograph_loss_tables.by_logsnr(list(newest.items()))


def photographs_samplers_uvit() -> str:
  return samplers("uvit")


def photographs_samplers_unet() -> str:
  return samplers("unet")


def photographs_fast_uvit() -> str:
  return fast("uvit")


def photographs_fast_unet() -> str:
  return fast("unet")


MAKERS = (
  photographs_uvit_loss,
  photographs_samplers_uvit,
  photographs_samplers_unet,
  photographs_fast_uvit,
  photographs_fast_unet,
)
