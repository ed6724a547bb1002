# SPDX-License-Identifier: Apache-2.0
"""Table 2 by the loss of small networks, seed by seed against the cosine's."""

import math

from configs import photographs
from scripts import photograph_runs
from scripts import results

# By name the references at the noisy end and at the other, by images' size.
# A shift to 32 is by another factor at each size, one to its half is not.
SCHEDULES = {
  "shifted to half": lambda size: (size / 2, size / 2),
  "shifted to 32": lambda size: (32.0, 32.0),
  "interpolated": lambda size: (32.0, float(size)),
}


def ratios(size: int, found: list[dict]) -> dict:
  """By schedule {(low, high): loss against the cosine's, of each shared seed}.

  Of photographs of clothes; a schedule is there if it and the cosine were run.
  """
  by_name = {
    name: {r["config"]["train"]["seed"]: r for r in runs}
    for name, runs in photograph_runs.by_name(
      f"{size},table2,small", found
    ).items()
  }
  cosine = by_name.get("cosine", {})
  of_schedule = {}
  for name, references in SCHEDULES.items():
    other = by_name.get(
      photograph_runs.schedule_name(size, *references(size)), {}
    )
    seeds = sorted(cosine.keys() & other.keys())
    if seeds:
      of_schedule[name] = against(
        [other[seed] for seed in seeds], [cosine[seed] for seed in seeds]
      )
  return of_schedule


def against(runs: list[dict], base: list[dict]) -> dict:
  """{(low, high): v-MSE of each run by that of its base}, of shared bins."""
  mine, theirs = map(photograph_runs.v_mse_by_logsnr, (runs, base))
  return {
    bin_: [a / b for a, b in zip(mine[bin_], theirs[bin_], strict=True)]
    for bin_ in mine
    if bin_ in theirs
  }


def photographs_table2_small_ratios() -> str:
  """A row a bin of log-SNR, by schedule and size."""
  found = results.lines("photographs")
  of_size = {size: ratios(size, found) for size in photographs.PATCHING}
  columns = {
    f"{size}: {name}": of_size[size][name]
    for name, references in SCHEDULES.items()
    for size in photographs.PATCHING
    # Half of 64 is 32: one column.
    if name in of_size[size]
    and (name == "shifted to half" or references(size) != (size / 2,) * 2)
  }
  if not columns:
    return "Not yet run."
  bins = sorted({bin_ for column in columns.values() for bin_ in column})
  rows = [
    (
      f"{low:g} to {high:g}",
      *(
        _percent(column[low, high]) if (low, high) in column else ""
        for column in columns.values()
      ),
    )
    for low, high in bins
  ]
  seeds = (str(len(next(iter(of.values())))) for of in columns.values())
  return (
    results.markdown(("log-SNR", *columns), [("seeds", *seeds), *rows])
    + "\n\nv-MSE against that of the cosine schedule and the same seed, with "
    "the standard error over seeds."
  )


def _percent(ratios) -> str:
  mean, error = photograph_runs.mean_and_error(ratios)
  text = f"{mean - 1:+.1%}"
  return text if math.isnan(error) else f"{text} ± {error:.1%}"


MAKERS = (photographs_table2_small_ratios,)
