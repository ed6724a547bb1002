# SPDX-License-Identifier: Apache-2.0
"""The units of a study of language models: each is measured once.

A unit is a method at a point, or a reference, with all seeds; it is one line of
the file of results, in the form that `selection` reads.
"""

from collections.abc import Callable
import pathlib
import time

import tqdm

from experiments import records
from experiments import workdir
from experiments.loss_studies import language_methods
from experiments.loss_studies import selection
from experiments.loss_studies import study

METHODS = language_methods.METHODS


def of_config(config: dict, references: tuple[str, ...]):
  """All (method, point): the references first, whose point is empty.

  Raises:
    ValueError: if the methods are not known, or there are too few seeds.
  """
  if len(config["seeds"]) < 2:
    raise ValueError(
      f"seeds={config['seeds']}: an error needs at least two seeds"
    )
  searched = study.checked_points(config, METHODS)
  points = [(name, p) for name, tried in searched.items() for p in tried]
  return [(name, {}) for name in references] + points


def run(config: dict, units, trial: Callable, path: pathlib.Path) -> list[dict]:
  """Measures what the file has not, appends it; the records of all units.

  Args:
    config: a plain tree.
    units: [(method, point)].
    trial: trial(method, point, seed) -> {part: {measure: number}}.
    path: file of results.
  """
  done = selection.read(path)
  environment = workdir.environment()
  found = []
  bar = tqdm.tqdm(total=len(units) * len(config["seeds"]), unit="training")
  for method, point in units:
    bar.set_description(method)
    record = study.record_of(config, method, point)
    if selection.key(record) in done:
      bar.update(len(config["seeds"]))
    else:
      began = time.perf_counter()
      of_seeds = []
      for seed in config["seeds"]:
        of_seeds.append(trial(method, point, seed))
        bar.update()
      record |= {
        part: {
          name: [round(float(each[part][name]), 6) for each in of_seeds]
          for name in of_seeds[0][part]
        }
        for part in of_seeds[0]
      }
      seconds = time.perf_counter() - began
      record |= {"seconds": round(seconds, 3), "environment": environment}
      records.append_result(path, record)
      done[selection.key(record)] = record
    found.append(done[selection.key(record)])
  bar.close()
  return found
