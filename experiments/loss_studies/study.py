# SPDX-License-Identifier: Apache-2.0
"""Every method, hyper-parameters and seed of a comparison: what is trained.

All methods are searched with equally many points, or the better searched one
would win, and with the same learning rates and weight decays, or it would be a
comparison of these.
"""

import pathlib
import time

import numpy as np
import tqdm

from experiments import records
from experiments import workdir
from experiments.loss_studies import classification
from experiments.loss_studies import few_labels
from experiments.loss_studies import images
from experiments.loss_studies import many_way
from experiments.loss_studies import many_way_task
from experiments.loss_studies import multilabel
from experiments.loss_studies import multilabel_task
from experiments.loss_studies import multitask_clean
from experiments.loss_studies import multitask_decay
from experiments.loss_studies import multitask_heads
from experiments.loss_studies import networks
from experiments.loss_studies import selection
from experiments.loss_studies import spans
from experiments.loss_studies import spans_task
from experiments.loss_studies import splits
from experiments.loss_studies import tabular
from experiments.loss_studies import training

# kind of data -> (how it is read, what is trained on it)
KINDS = {
  "tabular": (tabular.load, classification),
  "images": (images.load, classification),
  "multilabel": (multilabel.load, multilabel_task),
  "many_way": (many_way.load, many_way_task),
  "spans": (spans.load, spans_task),
  "few_labels": (images.load, few_labels),
  "multitask_heads": (multitask_heads.load, multitask_heads),
  "multitask_clean": (multitask_clean.load, multitask_clean),
  "multitask_decay": (multitask_decay.load, multitask_decay),
}

# Points that are trained side by side: a kill loses no more than these.
AT_ONCE = 6


def points(config: dict, method: str) -> list[dict]:
  """The hyper-parameters that are tried, as many for every method.

  A Halton sequence: learning rate and weight decay log-uniform in their ranges,
  in bases 2 and 3, the same for all methods with the same ranges; then each
  hyper-parameter of the method's own, one of its values, in bases 5 and 7.

  Raises:
    ValueError: if a value of a method is never tried.
  """
  options = {**config["search"]["ranges"], **config["methods"][method]}
  ranges = {name: options.pop(name) for name in config["search"]["ranges"]}
  found = []
  for i in range(1, config["search"]["num_points"] + 1):
    point = {}
    for base, (name, (low, high)) in zip((2, 3), ranges.items(), strict=False):
      value = low * (high / low) ** radical_inverse(i, base)
      point[name] = float(f"{value:.3g}")
    for base, (name, values) in zip((5, 7), options.items(), strict=False):
      point[name] = values[int(len(values) * radical_inverse(i, base))]
    found.append(point)
  for name, values in options.items():
    tried = {point.get(name) for point in found}
    if missing := [v for v in values if v not in tried]:
      raise ValueError(
        f"{len(found)} points never try {name}={missing} of {method}; list "
        "fewer values and at most two hyper-parameters, or raise "
        "search.num_points for all methods"
      )
  return found


def radical_inverse(i: int, base: int) -> float:
  """The digits of i behind the point: of 6 = 110 in base 2, 0.011."""
  value, digit = 0.0, 1 / base
  while i:
    value += digit * (i % base)
    i, digit = i // base, digit / base
  return value


def checked_points(config: dict, known: dict) -> dict[str, list[dict]]:
  """The points of every method of a config.

  Raises:
    ValueError: if a method is not known or has more values than points.
  """
  for name in config["methods"]:
    if name not in known:
      raise ValueError(
        f"config.methods has {name!r}, which is none of {', '.join(known)}"
      )
  return {name: points(config, name) for name in config["methods"]}


def settings(config: dict) -> dict:
  """What all trials of a study on one data set share."""
  return {name: config[name] for name in ("data", "network", "train")}


def record_of(config: dict, method: str, point: dict) -> dict:
  """What a trial is of: all of its record that `selection.key` reads."""
  return {
    "settings": settings(config),
    "method": method,
    "point": point,
    "seeds": config["seeds"],
  }


def check(config: dict, data: splits.Data) -> None:
  """Raises ValueError for what would only be noticed after the training."""
  if config["metric"] not in config["measures"]:
    raise ValueError(
      f"metric={config['metric']} chooses by validation, so it must be one of "
      f"measures={', '.join(config['measures'])}"
    )
  num_buckets = config["network"].get("num_buckets")
  if num_buckets is not None and data.x.max() >= num_buckets:
    raise ValueError(
      f"network.num_buckets={num_buckets}: {config['data']['name']} has "
      f"buckets up to {data.x.max()}; use {data.x.max() + 1} or more"
    )


def columns(measured: dict, i: int, names) -> dict:
  """Plain numbers by seed of point i; a diagram is the sum over the seeds.

  Raises:
    ValueError: if a name is of nothing that is measured.
  """
  found = {}
  if unknown := [name for name in names if name not in measured]:
    raise ValueError(
      f"measures or diagrams have {', '.join(unknown)}; measured are "
      f"{', '.join(measured)}"
    )
  for name in names:
    of_point = np.float64(measured[name][i])
    if of_point.ndim > 1:
      of_point = of_point.sum(0)
    found[name] = np.round(of_point, 6).tolist()
  return found


def run(config: dict, data: splits.Data, task, path: pathlib.Path) -> dict:
  """Trains what the file has not; appends it, a few points at a time.

  Args:
    config: a plain tree.
    data: what is trained on.
    task: the module of one trial.
    path: file of results.

  Returns:
    The records of each method, all its points.
  """
  searched = checked_points(config, task.METHODS)
  check(config, data)
  network = networks.make(config["network"], data.num_outputs)
  done = selection.read(path)
  seeds = task.prepare(data, config["seeds"], config["train"])
  shared = {"x": data.x, "y": data.y}
  environment = workdir.environment()
  found = {}
  bar = tqdm.tqdm(total=sum(map(len, searched.values())), unit="point")
  for name, tried in searched.items():
    bar.set_description(f"{config['data']['name']}, {name}")
    run_points = training.every(
      task.make_trial(network, task.METHODS[name]), at_once=config["at_once"]
    )
    lines = [record_of(config, name, point) for point in tried]
    missing = [r for r in lines if selection.key(r) not in done]
    bar.update(len(lines) - len(missing))
    size = min(AT_ONCE, max(len(missing), 1)) if config["at_once"] else 1
    for start in range(0, len(missing), size):
      batch = missing[start : start + size]
      side_by_side = [r["point"] for r in batch]
      # Filled up: another number of points would be compiled again.
      side_by_side += side_by_side[-1:] * (size - len(batch))
      began = time.perf_counter()
      measured = run_points(side_by_side, seeds, shared)
      seconds = (time.perf_counter() - began) / len(batch)
      for i, record in enumerate(batch):
        names = config["measures"]
        record["validation"] = columns(measured["validation"], i, names)
        names = [*names, *config["diagrams"]]
        record["test"] = columns(measured["test"], i, names)
        if "training" in measured:  # all that there is of its course
          of_training = measured["training"]
          record["training"] = columns(of_training, i, of_training)
        record |= {"seconds": round(seconds, 3), "environment": environment}
        records.append_result(path, record)
        done[selection.key(record)] = record
      bar.update(len(batch))
    found[name] = [done[selection.key(r)] for r in lines]
  bar.close()
  return found
