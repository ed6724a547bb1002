# SPDX-License-Identifier: Apache-2.0
"""Tables of the ablations on photographs, from results of evaluate."""

import math

from configs import photographs
from experiments import workdir
from scripts import results
from scripts.sweep import points as points_lib

# What may differ between the runs of one row; the classes are the folder's.
SAME_ROW = ("model.num_classes ", "train.seed ")

COLUMNS = (
  ("kernel distance, held out", "held_out", "kernel", 3),
  ("to training images", "train", "kernel", 3),
  ("Frechet, to training images", "train", "frechet", 0),
  ("precision", "train", "precision", 2),
  ("recall", "train", "recall", 2),
)


def protocol(record: dict) -> tuple:
  """What numbers must share to stand in one table; sizes share no reference."""
  samples = record["samples"]
  return (
    samples["features"]["name"],
    samples["features"]["weights_hash"],
    samples["num_samples"],
    samples["seed"],
    record["held_out_split"],
  )


def records() -> list[dict]:
  """Records with samples of finished runs, by the newest one's protocol."""
  found = [
    r
    for r in results.lines("photographs")
    if "samples" in r
    and r["checkpoint_step"] == r["config"]["train"]["total_steps"]
  ]
  return [r for r in found if protocol(r) == protocol(found[-1])]


def is_of(record: dict, config: dict) -> bool:
  """Whether a record is of a run and sampler of this config, of any seed."""
  if record["config"]["sample"] != config["sample"]:
    return False
  differences = workdir.differences(
    workdir.immutable(record["config"]),
    workdir.immutable(config),
    there="",
    here="",
  )
  return all(text.startswith(SAME_ROW) for text in differences)


def mean_and_error(values: list[float], digits: int) -> str:
  """Mean and standard error over seeds; of one seed the value alone."""
  n = len(values)
  mean = sum(values) / n
  if n == 1:
    return f"{mean:.{digits}f}"
  variance = sum((v - mean) ** 2 for v in values) / (n - 1)
  return f"{mean:.{digits}f} ± {math.sqrt(variance / n):.{digits}f}"


def study_rows(size: int, study: str, found: list[dict]) -> list[tuple]:
  """A row for each point of a study that has results, seeds together."""
  arg = f"{size},{study}"
  rows, seen = [], set()
  for point in photographs.sweep(arg):
    overrides = {k: v for k, v in point.items() if k != "train.seed"}
    name = ", ".join(
      f"{key.partition('.')[2]} {value}" for key, value in overrides.items()
    )
    if name in seen:
      continue
    seen.add(name)
    config = workdir.as_json(
      points_lib.parse_config(f"configs/photographs.py:{arg}", overrides)
    )
    by_seed = {
      r["config"]["train"]["seed"]: r for r in found if is_of(r, config)
    }
    if not by_seed:
      continue
    runs = list(by_seed.values())
    # Longer trainings are rows of their own.
    steps = max(r["checkpoint_step"] for r in runs)
    runs = [r for r in runs if r["checkpoint_step"] == steps]
    rows.append(
      (
        f"{size}",
        name or "the config",
        str(len(runs)),
        f"{steps:,}",
        *(
          mean_and_error([r["samples"][against][key] for r in runs], digits)
          for _, against, key, digits in COLUMNS
        ),
      )
    )
  return rows


def _study(study: str) -> str:
  found = records()
  if not found:
    return "Not yet run."
  rows = [
    row
    for size in photographs.PATCHING
    for row in study_rows(size, study, found)
  ]
  if not rows:
    return "Not yet run."
  header = ("pixels", study, "seeds", "steps", *(name for name, *_ in COLUMNS))
  s, where = found[-1]["samples"], results.where(found[-1]["environment"])
  return (
    f"{results.markdown(header, rows)}\n\n{s['num_samples']:,} samples of seed "
    f"{s['seed']}, features of {s['features']['name']} "
    f"({s['features']['weights_hash']}); {where}."
  )


def _maker(study):
  def make():
    return _study(study)

  make.__name__ = f"photographs_{study}"
  return make


MAKERS = tuple(map(_maker, photographs.STUDIES))
