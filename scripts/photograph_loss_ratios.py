# SPDX-License-Identifier: Apache-2.0
"""Losses of small networks against those of one point, seed by seed.

All points of a study with one seed see the same images and noise, so most of
what differs between seeds is not in these ratios.
"""

import math

from configs import photographs
from scripts import photograph_runs
from scripts import results

# Table 2: by name the references at the noisy end and at the other, by images'
# size. A shift to 32 is by another factor at each size, one to its half is not.
SCHEDULES = {
  "shifted to half": lambda size: (size / 2, size / 2),
  "shifted to 32": lambda size: (32.0, 32.0),
  "interpolated": lambda size: (32.0, float(size)),
}

# The study of width: the first level twice as wide as the config's at 128.
WIDE = "channel_multiplier (2, 2, 4, 8)"


def ratios(
  arg: str, base: str, found: list[dict], data=photograph_runs.CLOTHING
) -> dict:
  """By point {(low, high): loss against the base's, of each shared seed}.

  Args:
    arg: of configs/photographs.py, a study.
    base: name of the point that the others are compared with.
    found: records.
    data: of which photographs.
  """
  of_name = photograph_runs.by_name(arg, found, data)
  base_runs = of_name.pop(base, [])
  return {
    name: bins
    for name, runs in of_name.items()
    if (bins := against(runs, base_runs))
  }


def against(runs: list[dict], base: list[dict]) -> dict:
  """{(low, high): v-MSE of runs by that of their seed's base}, if any share."""
  runs, base = (
    {r["config"]["train"]["seed"]: r for r in side} for side in (runs, base)
  )
  seeds = sorted(runs.keys() & base.keys())
  if not seeds:
    return {}
  mine, theirs = (
    photograph_runs.v_mse_by_logsnr([side[seed] for seed in seeds])
    for side in (runs, base)
  )
  # Not those that the end of one schedule cuts and that of another doesn't.
  return {
    bin_: [a / b for a, b in zip(mine[bin_], theirs[bin_], strict=True)]
    for bin_ in mine
    if bin_ in theirs
  }


def schedules(
  size: int, found: list[dict], data=photograph_runs.CLOTHING
) -> dict:
  """`ratios` of table 2 to the cosine, by the names of SCHEDULES."""
  of_name = ratios(f"{size},table2,small", "cosine", found, data)
  names = {
    schedule: photograph_runs.schedule_name(size, *references(size))
    for schedule, references in SCHEDULES.items()
  }
  return {
    schedule: of_name[name]
    for schedule, name in names.items()
    if name in of_name
  }


def photographs_table2_small_ratios() -> str:
  return _of_schedules(photograph_runs.CLOTHING)


def photographs_table2_small_ratios_flowers() -> str:
  return _of_schedules(photograph_runs.FLOWERS)


def _of_schedules(data: str) -> str:
  found = results.lines("photographs")
  of_size = {
    size: schedules(size, found, data) for size in photographs.PATCHING
  }
  columns = {
    f"{size}: {name}": of_size[size][name]
    for name, references in SCHEDULES.items()
    for size in photographs.PATCHING
    # Half of 64 is 32: one column.
    if name in of_size[size]
    and (name == "shifted to half" or references(size) != (size / 2,) * 2)
  }
  return _table(columns, "of the cosine schedule", data)


def patchings(found: list[dict]) -> dict:
  """`ratios` of table 5 to the pixels themselves, by size and patching.

  Besides, at 128 pixels, the wavelet before a first level twice as wide.
  """
  base = "patching none"
  columns = _by_size("table5", base, found)
  wide = against(
    photograph_runs.by_name("128,width,small", found).get(WIDE, []),
    photograph_runs.by_name("128,table5,small", found).get(base, []),
  )
  return columns | ({f"128: patching dwt_1, {WIDE}": wide} if wide else {})


def photographs_table5_small_ratios() -> str:
  return _table(
    patchings(results.lines("photographs")),
    "without patching",
    photograph_runs.CLOTHING,
  )


def photographs_table6_small_ratios() -> str:
  return _table(
    _by_size("table6", "the config", results.lines("photographs")),
    "without the multiscale loss",
    photograph_runs.CLOTHING,
  )


def _by_size(study: str, base: str, found: list[dict]) -> dict:
  """`ratios` of a study of small networks, of all sizes."""
  return {
    f"{size}: {name}": bins
    for size in photographs.PATCHING
    for name, bins in ratios(f"{size},{study},small", base, found).items()
  }


def _table(columns: dict[str, dict], base: str, data: str) -> str:
  """A row a bin of log-SNR."""
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
    + f"\n\nv-MSE of held-out photographs of {data} against that {base} and of "
    "the same seed, with the standard error over seeds."
  )


def _percent(ratios) -> str:
  mean, error = photograph_runs.mean_and_error(ratios)
  text = f"{mean - 1:+.1%}"
  return text if math.isnan(error) else f"{text} ± {error:.1%}"


MAKERS = (
  photographs_table2_small_ratios,
  photographs_table2_small_ratios_flowers,
  photographs_table5_small_ratios,
  photographs_table6_small_ratios,
)
