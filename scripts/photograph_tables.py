# SPDX-License-Identifier: Apache-2.0
"""Tables of the ablations on photographs, from results of evaluate."""

import json
import math
import pathlib

from configs import photographs
from experiments import workdir
from scripts.sweep import points as points_lib

RESULTS = pathlib.Path(__file__).parent.parent / "experiments" / "results"

# What may differ between the runs of one row.
SAME_ROW = ("data.data_dir", "train.seed")

COLUMNS = (
  ("kernel distance, held out", "held_out", "kernel", 3),
  ("to training images", "train", "kernel", 3),
  ("Frechet, to training images", "train", "frechet", 0),
  ("precision", "train", "precision", 2),
  ("recall", "train", "recall", 2),
)


def records() -> list[dict]:
  """All records with samples, oldest first."""
  path = RESULTS / "photographs.jsonl"
  if not path.exists():
    return []
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  return [r for r in lines if "samples" in r]


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
    rows.append(
      (
        f"{size}",
        name or "the config",
        str(len(runs)),
        f"{min(r['checkpoint_step'] for r in runs):,}",
        *(
          mean_and_error([r["samples"][against][key] for r in runs], digits)
          for _, against, key, digits in COLUMNS
        ),
      )
    )
  return rows


def _study(study: str) -> str:
  found = records()
  rows = [
    row
    for size in photographs.PATCHING
    for row in study_rows(size, study, found)
  ]
  if not rows:
    return "Not yet run."
  header = ("pixels", study, "seeds", "steps", *(name for name, *_ in COLUMNS))
  lines = [header, ["---"] * len(header), *rows]
  return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _maker(study):
  def make():
    return _study(study)

  make.__name__ = f"photographs_{study}"
  return make


MAKERS = tuple(map(_maker, photographs.STUDIES))
