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


def row(size: str, data: str, name: str, runs: list[dict]) -> tuple[str, ...]:
  """A point of a study, its seeds together."""
  return (
    data,
    size,
    name,
    str(len(runs)),
    f"{runs[0]['checkpoint_step']:,}",
    *(
      photograph_runs.cell([r["samples"][side][key] for r in runs], digits)
      for _, side, key, digits in COLUMNS
    ),
  )


def table(study: str, sizes=tuple(photographs.PATCHING), **changes) -> str:
  """A study's points at all sizes; changes of the model as in `studies`."""
  points = photograph_runs.studies(
    {f"{size},{study}": changes for size in sizes},
    photograph_runs.with_samples(),
  )
  if not points:
    return "Not yet run."
  rows, newest = [], {}
  for arg, data, name, runs in points:
    size = arg.partition(",")[0]
    rows.append(row(size, data, name, runs))
    newest[f"{data}, {size} pixels"] = runs[-1]
  header = (
    "photographs",
    "pixels",
    "setting",
    "seeds",
    "steps",
    *(name for name, *_ in COLUMNS),
  )
  *_, last = newest.values()
  where = results.where(*(r["environment"] for *_, of in points for r in of))
  return (
    f"{results.markdown(header, rows)}\n\nBy {protocols.sampler(last)}. "
    f"{protocols.measures(newest)} {where}."
  )


def _maker(study):
  def make():
    return table(study)

  make.__name__ = f"photographs_{study}"
  return make


def photographs_table2_narrow() -> str:
  """Table 2 at 256 pixels by a network too narrow for its patches."""
  return table("table2", (256,), **photograph_runs.NARROW)


MAKERS = (*map(_maker, photographs.STUDIES), photographs_table2_narrow)
