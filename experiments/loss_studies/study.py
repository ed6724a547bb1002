# SPDX-License-Identifier: Apache-2.0
"""Every method, hyper-parameters and seed of a comparison: what is trained.

A point is one combination of the values that a config lists for a method. All
methods must have equally many, or the better searched one would win.
"""

import itertools
import pathlib
import time

import numpy as np
import tqdm

from experiments import records
from experiments import workdir
from experiments.loss_studies import classification
from experiments.loss_studies import images
from experiments.loss_studies import many_way
from experiments.loss_studies import many_way_task
from experiments.loss_studies import multilabel
from experiments.loss_studies import multilabel_task
from experiments.loss_studies import networks
from experiments.loss_studies import selection
from experiments.loss_studies import splits
from experiments.loss_studies import tabular
from experiments.loss_studies import training

# kind of data -> (how it is read, what is trained on it)
KINDS = {
  "tabular": (tabular.load, classification),
  "images": (images.load, classification),
  "multilabel": (multilabel.load, multilabel_task),
  "many_way": (many_way.load, many_way_task),
}


def grid(options: dict) -> list[dict]:
  """The points of a method: all combinations of its values."""
  return [
    dict(zip(options, values, strict=True))
    for values in itertools.product(*options.values())
  ]


def checked_grids(config, known: dict) -> dict[str, list[dict]]:
  """The points of every method of a config.

  Raises:
    ValueError: if a method is not known, or they have not equally many points.
  """
  grids = {name: grid(options) for name, options in config["methods"].items()}
  for name in grids:
    if name not in known:
      raise ValueError(
        f"config.methods has {name!r}, which is none of {', '.join(known)}"
      )
  sizes = {name: len(points) for name, points in grids.items()}
  if len(set(sizes.values())) > 1:
    raise ValueError(
      "methods have budgets of "
      f"{', '.join(f'{size} ({name})' for name, size in sizes.items())} "
      "points; give each the same number, or the comparison favours one"
    )
  return grids


def settings(config: dict) -> dict:
  """What all trials of a study on one data set share."""
  return {name: config[name] for name in ("data", "network", "train")}


def columns(measured: dict, i: int, names) -> dict:
  """Plain numbers by seed of point i; a diagram is the sum over the seeds."""
  found = {}
  for name in names:
    of_point = np.float64(measured[name][i])
    if of_point.ndim > 1:
      of_point = of_point.sum(0)
    found[name] = np.round(of_point, 6).tolist()
  return found


def run(config: dict, data: splits.Data, task, path: pathlib.Path) -> dict:
  """Trains what the file has not and appends it, method by method.

  Args:
    config: a plain tree.
    data: what is trained on.
    task: the module of one trial.
    path: file of results.

  Returns:
    The records of each method, all its points.
  """
  grids = checked_grids(config, task.METHODS)
  network = networks.make(config["network"], data.num_outputs)
  done = selection.read(path)
  seeds = task.prepare(data, config["seeds"], config["train"])
  shared = {"x": data.x, "y": data.y}
  environment = workdir.environment()
  found = {}
  bar = tqdm.tqdm(total=sum(map(len, grids.values())), unit="point")
  for name, points in grids.items():
    bar.set_description(f"{config['data']['name']}, {name}")
    run_points = training.every(
      task.make_trial(network, task.METHODS[name]), at_once=config["at_once"]
    )
    lines = [
      {
        "settings": settings(config),
        "method": name,
        "point": point,
        "seeds": config["seeds"],
      }
      for point in points
    ]
    missing = [r for r in lines if selection.key(r) not in done]
    bar.update(len(lines) - len(missing))
    # Slow ones one by one, so that little is lost and the bar moves.
    size = max(len(missing), 1) if config["at_once"] else 1
    for start in range(0, len(missing), size):
      batch = missing[start : start + size]
      began = time.perf_counter()
      measured = run_points([r["point"] for r in batch], seeds, shared)
      seconds = (time.perf_counter() - began) / len(batch)
      for i, record in enumerate(batch):
        record |= {
          part: columns(measured[part], i, config["measures"])
          for part in ("validation", "test")
        }
        record |= {"seconds": round(seconds, 3), "environment": environment}
        records.append_result(path, record)
        done[selection.key(record)] = record
      bar.update(len(batch))
    found[name] = [done[selection.key(r)] for r in lines]
  bar.close()
  return found
