# SPDX-License-Identifier: Apache-2.0
"""Which results of photographs belong together: a study's points and seeds."""

import functools
import itertools
import math
import pathlib

import numpy as np

from configs import photographs
from experiments import workdir
from scripts import photograph_protocols
from scripts import results
from scripts.sweep import points as points_lib

# What may differ between the runs of one point; the classes are the folder's.
SAME_POINT = ("model.num_classes", "train.seed")

# The folders that were prepared.
CLOTHING, FLOWERS = "clothing", "flowers"

# Studies of half the width that are compared by samples, and of clothes the
# sizes.
SIZES_OF_SAMPLED = {
  "table2": (64, 128, 256),
  "table3": (64, 128, 256),
  "table4": (64, 128, 256),
  "table5": (64, 128, 256),
  "table6": (128, 256),
  "weighting": (128, 256),
}

# A first level of 32 channels at 256 pixels, as at other sizes; the config had
# it once, and it is too narrow for patches of 48 numbers.
NARROW = dict(channel_multiplier=[1, 2, 4, 8])


def with_samples() -> list[dict]:
  """Records of samples, of whatever step and protocol."""
  return [r for r in results.lines("photographs") if "samples" in r]


def finished(record: dict) -> bool:
  return record["checkpoint_step"] == record["config"]["train"]["total_steps"]


def folder(record: dict) -> str:
  """The data set: the name of the folder that was prepared."""
  return pathlib.PurePath(record["config"]["data"]["data_dir"]).name


def points_of(arg: str) -> list[dict]:
  """The overrides of a study's points, without their seeds, each once."""
  points = []
  for point in photographs.sweep(arg):
    overrides = {k: v for k, v in point.items() if k != "train.seed"}
    if overrides not in points:
      points.append(overrides)
  return points


def schedule_name(size: int, ref_at_noise: float, ref_at_data: float) -> str:
  """As the paper's table 2 says it."""
  if ref_at_noise != ref_at_data:
    return f"interpolated, {ref_at_noise:g} to {ref_at_data:g}"
  return "cosine" if ref_at_data == size else f"shifted to {ref_at_data:g}"


def names(arg: str) -> list[str]:
  """Of a study's points, by as many of their overrides as tell them apart."""
  points = points_of(arg)
  size, study, *_ = arg.split(",")
  if study == "table2":
    return [schedule_name(int(size), *point.values()) for point in points]
  for n in itertools.count(1):
    found = [
      ", ".join(f"{k.partition('.')[2]} {v}" for k, v in list(p.items())[:n])
      for p in points
    ]
    if len(set(found)) == len(points):
      return [name or "the config" for name in found]


def _config(arg: str, overrides: dict) -> dict:
  """configs/photographs.py with an argument and overrides, as plain JSON."""
  return _parsed(arg, tuple(overrides.items()))


@functools.cache  # Most of the tables' time, for many share a study's points.
def _parsed(arg: str, overrides: tuple) -> dict:
  return workdir.as_json(
    points_lib.parse_config(f"configs/photographs.py:{arg}", dict(overrides))
  )


def own_name(arg: str) -> str:
  """Of a study's points the one that the config is."""
  points = [_config(arg, overrides) for overrides in points_of(arg)]
  return names(arg)[points.index(_config(arg, {}))]


def finished_of(
  arg: str, overrides: dict, found: list[dict], *, apart=(), **changes
) -> list[dict]:
  """The records of finished runs of a config, of whatever seed and length.

  Args:
    arg: of configs/photographs.py.
    overrides: of its values, by dotted keys.
    found: records.
    apart: dotted keys whose values may be others.
    **changes: of the model, besides.
  """
  config = _config(arg, overrides)
  config = config | {"model": config["model"] | changes}
  return [
    r
    for r in found
    if finished(r) and results.is_of(r, config, apart=(*SAME_POINT, *apart))
  ]


def by_data_and_seed(found: list[dict]) -> dict:
  """Of a point's records the longest trainings', one a seed, by data set."""
  by_data = {}
  for r in found:
    by_data.setdefault(folder(r), []).append(r)
  for data, runs in by_data.items():
    steps = max(r["checkpoint_step"] for r in runs)
    runs = [r for r in runs if r["checkpoint_step"] == steps]
    # Of a seed the newest.
    by_data[data] = list(
      {r["config"]["train"]["seed"]: r for r in runs}.values()
    )
  return by_data


def studies(args: dict[str, dict], found: list[dict]) -> list[tuple]:
  """(arg, data set, point's name, its runs) of the points that have results.

  By the protocol that has most of them, and of photographs with two such points
  of a study or more: one alone compares nothing.

  Args:
    args: of configs/photographs.py, with the changes of the model in which the
      runs differ from it.
    found: records.

  Raises:
    ValueError: if results of a study are of different images.
  """
  of_point = {
    (arg, name): finished_of(arg, overrides, found, **changes)
    for arg, changes in args.items()
    for name, overrides in zip(names(arg), points_of(arg), strict=True)
  }
  records = [r for runs in of_point.values() for r in runs]
  # By records, one point that many studies share would outvote a study.
  points = max(
    (compared(of_point, part) for part in photograph_protocols.parts(records)),
    key=len,
    default=[],
  )
  of_sets = {}
  for arg, data, _, runs in points:
    of_sets.setdefault(f"{arg} on {data}", []).extend(runs)
  for what, runs in of_sets.items():
    photograph_protocols.require_same_images(runs, what)
  return points


def by_name(
  arg: str, found: list[dict], data=CLOTHING, **changes
) -> dict[str, list[dict]]:
  """A study's points on one data set: names and runs."""
  return {
    name: runs
    for _, of_data, name, runs in studies({arg: changes}, found)
    if of_data == data
  }


def compared(of_point: dict, part: list[dict]) -> list[tuple]:
  """`studies` of a part of the records."""
  part = set(map(id, part))
  points = [
    (arg, data, name, runs)
    for (arg, name), records in of_point.items()
    for data, runs in sorted(
      by_data_and_seed([r for r in records if id(r) in part]).items()
    )
  ]
  sets = [point[:2] for point in points]
  return [point for point in points if sets.count(point[:2]) > 1]


def paired(runs: list[dict], base_runs: list[dict]) -> tuple[list, list]:
  """Those of both with a seed and length that the others have too, in order.

  All points of a study with one seed see the same images and noise.
  """
  sides = [
    {(r["config"]["train"]["seed"], r["checkpoint_step"]): r for r in side}
    for side in (runs, base_runs)
  ]
  shared = sorted(sides[0].keys() & sides[1].keys())
  return tuple([side[key] for key in shared] for side in sides)


def mean_and_error(values) -> tuple:
  """Mean and standard error over the first axis, seeds; of one seed NaN."""
  values = np.array(values)
  n = len(values)
  error = values.std(axis=0, ddof=1) / math.sqrt(n) if n > 1 else math.nan
  return values.mean(axis=0), error


def _text(values, spec: str, sign: str = "") -> str:
  """Mean and standard error as a table has them."""
  mean, error = mean_and_error(values)
  text = f"{mean:{sign}{spec}}"
  return text if math.isnan(error) else f"{text} ± {error:{spec}}"


def cell(values: list[float], digits: int) -> str:
  """Mean and, of more than one value, its standard error."""
  return _text(values, f".{digits}f")


def percent(ratios: list[float]) -> str:
  """By how much ratios differ from one, likewise."""
  return _text(np.array(ratios) - 1, ".1%", sign="+")


def v_mse_by_logsnr(runs: list[dict]) -> dict:
  """{(low, high): v-MSE of each run} of held-out photographs."""
  return {
    tuple(b["logsnr"]): [r["held_out_loss"][i]["v_mse"] for r in runs]
    for i, b in enumerate(runs[0]["held_out_loss"])
  }


def shared_bins(losses: list[dict]) -> list[tuple]:
  """Not those that the end of one schedule cuts and that of another doesn't."""
  return [bin_ for bin_ in losses[0] if all(bin_ in bins for bins in losses)]
