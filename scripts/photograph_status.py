# SPDX-License-Identifier: Apache-2.0
"""Which of the studies on photographs were run: their points and seeds."""

from configs import photographs
from scripts import photograph_runs
from scripts import results


def _seeds(arg: str, found: list[dict]) -> dict[str, list[int]]:
  """By data set the number of seeds of each point that has others beside it."""
  by_data = {}
  for _, data, _, runs in photograph_runs.studies({arg: {}}, found):
    by_data.setdefault(data, []).append(len(runs))
  return by_data


def _cell(arg: str, seeds: list[int]) -> str:
  """So many of a study's points, and of how many seeds."""
  if not seeds:
    return "-"
  few, many = min(seeds), max(seeds)
  count = f"{few} to {many}" if few != many else f"{many}"
  points = len(photograph_runs.points_of(arg))
  return f"{len(seeds)} of {points}, {count} seed{'s' * (many > 1)}"


def photographs_status() -> str:
  """A row a study, by samples and by the loss of networks half as wide."""
  sampled = photograph_runs.with_samples()
  of_loss_alone = [
    r for r in results.lines("photographs") if "samples" not in r
  ]
  sizes_of_sampled = sorted(
    set().union(*photograph_runs.SIZES_OF_SAMPLED.values())
  )
  columns = [
    (kind, size, form, records)
    for kind, form, sizes, records in (
      ("samples", "", photographs.PATCHING, sampled),
      ("samples, half width", ",sampled", sizes_of_sampled, sampled),
      ("loss, half width", ",small", photographs.PATCHING, of_loss_alone),
    )
    for size in sizes
  ]
  rows, of_flowers = [], []
  for study in photographs.STUDIES:
    cells = []
    for _, size, form, records in columns:
      arg = f"{size},{study}{form}"
      seeds = _seeds(arg, records)
      cells.append(_cell(arg, seeds.get(photograph_runs.CLOTHING, [])))
      if photograph_runs.FLOWERS in seeds:
        of_flowers.append(
          f"{arg} ({_cell(arg, seeds[photograph_runs.FLOWERS])})"
        )
    rows.append((study, *cells))
  header = ("points of", *(f"{kind}, {size}" for kind, size, *_ in columns))
  return (
    f"{results.markdown(header, rows)}\n\n"
    f"Of {photograph_runs.CLOTHING}, by the configs' networks, of half the "
    "width the forms `sampled` and `small`; - where fewer than two points were "
    "run, and nothing can be compared. On "
    f"{photograph_runs.FLOWERS}: {'; '.join(of_flowers) or 'no study yet'}."
  )


MAKERS = (photographs_status,)
