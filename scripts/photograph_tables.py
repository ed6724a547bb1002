# SPDX-License-Identifier: Apache-2.0
"""Tables of the ablations on photographs, by samples."""

from configs import photographs
from scripts import photograph_runs
from scripts import protocols
from scripts import results

COLUMNS = (
  ("kernel distance, held out", "held_out", "kernel", 3),
  ("to training images", "train", "kernel", 3),
  ("Frechet, held out", "held_out", "frechet", 0),
  ("Frechet, to training images", "train", "frechet", 0),
  ("precision, training images", "train", "precision", 2),
  ("recall, training images", "train", "recall", 3),
)


def kernel_ratios(runs: list[dict], base_runs: list[dict]) -> list[float]:
  """Of kernel distances to held-out photographs, one for each shared seed."""
  kernels, base_kernels = (
    [r["samples"]["held_out"]["kernel"] for r in side]
    for side in photograph_runs.paired(runs, base_runs)
  )
  return [a / b for a, b in zip(kernels, base_kernels, strict=True)]


def cells(runs: list[dict]) -> tuple[str, ...]:
  """Mean and standard error over runs, one a seed, of each of COLUMNS."""
  return tuple(
    photograph_runs.cell([r["samples"][side][key] for r in runs], digits)
    for _, side, key, digits in COLUMNS
  )


def _row(
  size: str, data: str, name: str, runs: list[dict], own_runs: list[dict]
) -> tuple[str, ...]:
  """A point of a study, its seeds together.

  Args:
    size: of the images.
    data: of which photographs.
    name: the point's.
    runs: of the point, one a seed.
    own_runs: of the config's own point, if this is another.
  """
  against = kernel_ratios(runs, own_runs)
  return (
    data,
    size,
    name,
    str(len(runs)),
    f"{runs[0]['checkpoint_step']:,}",
    *cells(runs),
    photograph_runs.percent(against) if against else "",
  )


def table(study: str, sizes=tuple(photographs.PATCHING), **changes) -> str:
  """A study's points at all sizes.

  Args:
    study: with its form, if any, after a comma.
    sizes: of the images.
    **changes: of the model, as in `photograph_runs.studies`.
  """
  points = photograph_runs.studies(
    {f"{size},{study}": changes for size in sizes},
    photograph_runs.with_samples(),
  )
  if not points:
    return "Not yet run."
  rows, newest = [], {}
  # One kind of photographs after the other, each by size.
  points.sort(key=lambda point: point[1])
  of_point = {tuple(point): runs for *point, runs in points}
  own_names = {arg: photograph_runs.own_name(arg) for arg, *_ in of_point}
  for (arg, data, name), runs in of_point.items():
    size, own_name = arg.partition(",")[0], own_names[arg]
    own_runs = of_point.get((arg, data, own_name), [])
    rows.append(
      _row(size, data, name, runs, own_runs if name != own_name else [])
    )
    newest[f"{data}, {size} pixels"] = runs[-1]
  header = (
    "photographs",
    "pixels",
    "setting",
    "seeds",
    "steps",
    *(name for name, *_ in COLUMNS),
    "kernel, held out, against the config's",
  )
  *_, last = newest.values()
  where = results.where(
    *(r["environment"] for of in of_point.values() for r in of)
  )
  return (
    f"{results.markdown(header, rows)}\n\nBy {protocols.sampler(last)}. "
    f"{protocols.measures(newest)} {where}."
  )


def _maker(study):
  def make():
    return table(study)

  make.__name__ = f"photographs_{study.replace(',', '_')}"
  return make


def photographs_table2_narrow() -> str:
  """Table 2 at 256 pixels by a network too narrow for its patches."""
  return table("table2", (256,), **photograph_runs.NARROW)


MAKERS = (
  *map(_maker, photographs.STUDIES),
  *(_maker(f"{study},sampled") for study in photograph_runs.SIZES_OF_SAMPLED),
  photographs_table2_narrow,
)
