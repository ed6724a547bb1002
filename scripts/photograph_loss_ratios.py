# SPDX-License-Identifier: Apache-2.0
"""Losses of networks of half the width against one point's, seed by seed.

Points with one seed see the same images and noise, so most of what differs
between seeds is not in a ratio of losses. Ratios are {(low, high) of log-SNR:
[v-MSE divided by the base's, a number for each seed that both have]}.
"""

import itertools

from configs import photographs
from scripts import photograph_runs
from scripts import protocols
from scripts import results

# Table 2: by name the references at the noisy end and at the other, by images'
# size. A shift to 32 is by another factor at each size, one to its half is not.
SCHEDULES = {
  "shifted to half": lambda size: (size / 2, size / 2),
  "shifted to 32": lambda size: (32.0, 32.0),
  "interpolated": lambda size: (32.0, float(size)),
}


def against(runs: list[dict], base_runs: list[dict]) -> dict:
  """Ratios of one point to another; {} if they share no seed."""
  sides = photograph_runs.paired(runs, base_runs)
  if not all(sides):
    return {}
  losses, base_losses = map(photograph_runs.v_mse_by_logsnr, sides)
  return {
    bin_: [a / b for a, b in zip(losses[bin_], base_losses[bin_], strict=True)]
    for bin_ in photograph_runs.shared_bins([losses, base_losses])
  }


def schedules(
  size: int, found: list[dict], data: str = photograph_runs.CLOTHING
) -> dict:
  """Ratios to the cosine's of those of SCHEDULES that were run, by name.

  Args:
    size: of the images.
    found: records.
    data: of which photographs.
  """
  of_name = photograph_runs.by_name(f"{size},table2,small", found, data)
  cosine = of_name.get("cosine", [])
  of_schedule = {
    schedule: against(
      of_name.get(photograph_runs.schedule_name(size, *references(size)), []),
      cosine,
    )
    for schedule, references in SCHEDULES.items()
  }
  return {schedule: bins for schedule, bins in of_schedule.items() if bins}


def is_apart(size: int, schedule: str) -> bool:
  """Whether it is a schedule of its own: at 64 pixels half of it is 32."""
  half = SCHEDULES["shifted to half"](size)
  return schedule == "shifted to half" or SCHEDULES[schedule](size) != half


def patchings(found: list[dict]) -> dict:
  """Ratios to no patching, by size, patching, first level's channels and form.

  Those of table 5 and of the study of width.
  """
  columns = {}
  for form, size in itertools.product(photographs.FORMS, photographs.PATCHING):
    of_name = photograph_runs.by_name(f"{size},table5,{form}", found)
    base_runs = of_name.pop("patching none", [])
    of_width = photograph_runs.by_name(f"{size},width,{form}", found)
    for runs in (*of_name.values(), *of_width.values()):
      model = runs[0]["config"]["model"]
      channels = model["base_channels"] * model["channel_multiplier"][0]
      name = f"{size}: {model['patching']}, {channels} channels"
      if form != "small":
        name = f"{name}, {form}"
      if model["patching"] != "none" and (bins := against(runs, base_runs)):
        columns[name] = bins
  return columns


def photographs_table2_small_ratios() -> str:
  """A column a schedule and size, of clothes."""
  return _of_schedules(photograph_runs.CLOTHING)


def photographs_table2_small_ratios_flowers() -> str:
  """The same of flowers."""
  return _of_schedules(photograph_runs.FLOWERS)


def _of_schedules(data: str) -> str:
  found = results.lines("photographs")
  of_size = {
    size: schedules(size, found, data) for size in photographs.PATCHING
  }
  args = [f"{size},table2,small" for size in photographs.PATCHING]
  columns = {
    f"{size}: {name}": of_size[size][name]
    for name in SCHEDULES
    for size in photographs.PATCHING
    # Half of 64 is 32: one column.
    if name in of_size[size] and is_apart(size, name)
  }
  return _table(
    columns, "of the cosine schedule", data, _runs(args, found, data)
  )


def photographs_table5_ratios() -> str:
  """A column a patching, size, width and form, of clothes."""
  found = results.lines("photographs")
  args = [
    f"{size},{study},{form}"
    for study in ("table5", "width")
    for form, size in itertools.product(photographs.FORMS, photographs.PATCHING)
  ]
  data = photograph_runs.CLOTHING
  columns = patchings(found)
  return _table(columns, "without patching", data, _runs(args, found, data))


def _runs(args: list[str], found: list[dict], data: str) -> list[dict]:
  """Of all points of studies, also of those that no column has."""
  of_args = [photograph_runs.by_name(arg, found, data) for arg in args]
  return [r for names in of_args for runs in names.values() for r in runs]


def _table(
  columns: dict[str, dict], base: str, data: str, runs: list[dict]
) -> str:
  """A row a bin of log-SNR.

  Args:
    columns: ratios by name.
    base: what they are against, in words.
    data: of which photographs.
    runs: what the ratios are of.
  """
  if not columns:
    return "Not yet run."
  bins = sorted({bin_ for column in columns.values() for bin_ in column})
  rows = [
    (
      f"{low:g} to {high:g}",
      *(
        photograph_runs.percent(column[low, high])
        if (low, high) in column
        else ""
        for column in columns.values()
      ),
    )
    for low, high in bins
  ]
  seeds = (str(len(next(iter(of.values())))) for of in columns.values())
  return (
    results.markdown(("log-SNR", *columns), [("seeds", *seeds), *rows])
    + f"\n\nv-MSE against that {base} and of the same seed, with the standard "
    f"error over seeds. Of {protocols.held_out_loss(data, runs)}; "
    f"{results.where(*(r['environment'] for r in runs))}."
  )


MAKERS = (
  photographs_table2_small_ratios,
  photographs_table2_small_ratios_flowers,
  photographs_table5_ratios,
)
