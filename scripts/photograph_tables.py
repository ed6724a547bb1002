# SPDX-License-Identifier: Apache-2.0
"""Tables of the ablations on photographs, from results of evaluate."""

import math
import pathlib

import numpy as np

from configs import photographs
from experiments import workdir
from scripts import results
from scripts.sweep import points as points_lib

# What may differ between the runs of one row; the classes are the folder's.
SAME_ROW = ("model.num_classes", "train.seed")

COLUMNS = (
  ("kernel distance, held out", "held_out", "kernel", 3),
  ("to training images", "train", "kernel", 3),
  ("Frechet, held out", "held_out", "frechet", 0),
  ("Frechet, to training images", "train", "frechet", 0),
  ("precision", "train", "precision", 2),
  ("recall", "train", "recall", 3),
)


def protocol(record: dict) -> tuple:
  """What numbers must share to stand in one table; sizes share no reference."""
  samples = record["samples"]
  return (
    samples["features"]["name"],
    samples["features"]["weights_hash"],
    samples["num_samples"],
    samples["seed"],
    samples.get("labels"),
    record["held_out_split"],
  )


def same_protocol(found: list[dict]) -> list[dict]:
  """Those of the newest one's protocol."""
  return [r for r in found if protocol(r) == protocol(found[-1])]


def records() -> list[dict]:
  """Records with samples by the newest one's protocol, of whatever step."""
  return same_protocol(
    [r for r in results.lines("photographs") if "samples" in r]
  )


def finished(record: dict) -> bool:
  return record["checkpoint_step"] == record["config"]["train"]["total_steps"]


def folder(record: dict) -> str:
  """The data set: the name of the folder that was prepared."""
  return pathlib.PurePath(record["config"]["data"]["data_dir"]).name


def mean_and_error(values) -> tuple:
  """Mean and standard error over the first axis, seeds; of one seed NaN."""
  values = np.array(values)
  n = len(values)
  error = values.std(axis=0, ddof=1) / math.sqrt(n) if n > 1 else math.nan
  return values.mean(axis=0), error


def _cell(values: list[float], digits: int) -> str:
  mean, error = mean_and_error(values)
  if math.isnan(error):
    return f"{mean:.{digits}f}"
  return f"{mean:.{digits}f} ± {error:.{digits}f}"


def points_of(arg: str) -> list[dict]:
  """The overrides of a study's points, without their seeds, each once."""
  points = []
  for point in photographs.sweep(arg):
    overrides = {k: v for k, v in point.items() if k != "train.seed"}
    if overrides not in points:
      points.append(overrides)
  return points


def v_mse_by_logsnr(runs: list[dict]) -> tuple[list, list]:
  """Bins of log-SNR, (low, high), and the held-out v-MSE [runs, bins]."""
  bins = [b["logsnr"] for b in runs[0]["held_out_loss"]]
  return bins, [[b["v_mse"] for b in r["held_out_loss"]] for r in runs]


def runs_of(arg: str, overrides: dict, found: list[dict], **changes) -> dict:
  """The finished runs of a config, one a seed, by data set.

  Args:
    arg: of configs/photographs.py.
    overrides: of its values, by dotted keys.
    found: records.
    **changes: of the model, besides.
  """
  config = workdir.as_json(
    points_lib.parse_config(f"configs/photographs.py:{arg}", overrides)
  )
  config["model"] |= changes
  by_data = {}
  for r in found:
    if finished(r) and results.is_of(r, config, apart=SAME_ROW):
      by_data.setdefault(folder(r), []).append(r)
  for data, runs in by_data.items():
    # The longest trainings, and of a seed the newest.
    steps = max(r["checkpoint_step"] for r in runs)
    runs = [r for r in runs if r["checkpoint_step"] == steps]
    by_seed = {r["config"]["train"]["seed"]: r for r in runs}
    by_data[data] = list(by_seed.values())
  return by_data


def study_rows(
  size: int, study: str, found: list[dict], **changes
) -> list[tuple]:
  """A row for each point of a study that has results, seeds together.

  Of photographs with two such points or more: one alone compares nothing.

  Args:
    size: of the images.
    study: of configs/photographs.py.
    found: records.
    **changes: of the model, in which the runs differ from the config.
  """
  arg = f"{size},{study}"
  rows = []
  for overrides in points_of(arg):
    name = ", ".join(
      f"{key.partition('.')[2]} {value}" for key, value in overrides.items()
    )
    by_data = runs_of(arg, overrides, found, **changes)
    for data, runs in sorted(by_data.items()):
      rows.append(
        (
          data,
          f"{size}",
          name or "the config",
          str(len(runs)),
          f"{runs[0]['checkpoint_step']:,}",
          *(
            _cell([r["samples"][against][key] for r in runs], digits)
            for _, against, key, digits in COLUMNS
          ),
        )
      )
  names = [row[0] for row in rows]
  return [row for row in rows if names.count(row[0]) > 1]


def _study(study: str, sizes=tuple(photographs.PATCHING), **changes) -> str:
  found = records()
  if not found:
    return "Not yet run."
  rows = [
    row for size in sizes for row in study_rows(size, study, found, **changes)
  ]
  if not rows:
    return "Not yet run."
  header = (
    "photographs",
    "pixels",
    study,
    "seeds",
    "steps",
    *(name for name, *_ in COLUMNS),
  )
  return f"{results.markdown(header, rows)}\n\n{caption(found[-1])}"


def photographs_width() -> str:
  """v-MSE of held-out photographs by log-SNR, by the first level's width."""
  found = results.lines("photographs")
  rows, header = [], None
  for overrides in points_of("64,width"):
    for runs in runs_of("64,width", overrides, found).values():
      bins, losses = v_mse_by_logsnr(runs)
      header = [f"{low:g} to {high:g}" for low, high in bins]
      first, *_ = overrides["model.channel_multiplier"]
      base = runs[0]["config"]["model"]["base_channels"]
      cells = [_cell(of_bin, 3) for of_bin in zip(*losses, strict=True)]
      rows.append((f"{first * base}", str(len(runs)), *cells))
  if not rows:
    return "Not yet run."
  return results.markdown(("channels", "seeds", *header), rows)


def caption(record: dict) -> str:
  """What the numbers of a table share, of its newest record."""
  s = record["samples"]
  return (
    f"{s['num_samples']:,} samples of seed {s['seed']}, features of "
    f"{s['features']['name']} ({s['features']['weights_hash']}) of images "
    f"resized {s['features']['resize']}; "
    f"{results.where(record['environment'])}."
  )


def _maker(study):
  def make():
    return _study(study)

  make.__name__ = f"photographs_{study}"
  return make


# A first level of 32 channels, as at other sizes.
NARROW = dict(channel_multiplier=[1, 2, 4, 8])


def photographs_table2_narrow() -> str:
  """Table 2 at 256 pixels by a network too narrow for its patches."""
  return _study("table2", (256,), **NARROW)


MAKERS = (
  *map(_maker, photographs.STUDIES),
  photographs_table2_narrow,
  photographs_width,
)
