# SPDX-License-Identifier: Apache-2.0
"""Tables of the ablations on photographs, by samples."""

from configs import photographs
from scripts import photograph_runs
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
    f"{results.markdown(header, rows)}\n\nBy {sampler(last)}. "
    f"{caption(newest)} {where}."
  )


def caption(newest: dict[str, dict]) -> str:
  """What the numbers of a table share, and their references.

  Args:
    newest: a record of each reference that the table has.
  """
  *_, record = newest.values()
  s = record["samples"]
  references = "; ".join(
    f"{name}: {r['samples']['train']['num_images']:,} training images "
    f"({r['samples']['train']['reference_hash']}), "
    f"{r['samples']['held_out']['num_images']:,} held out "
    f"({r['samples']['held_out']['reference_hash']})"
    for name, r in newest.items()
  )
  return (
    f"{s['num_samples']:,} samples of seed {s['seed']}, features of "
    f"{s['features']['name']} ({s['features']['weights_hash']}) of images "
    f"resized {s['features']['resize']}, crop "
    f"{record['config']['data']['crop']}; {references}."
  )


def sampler(record: dict) -> str:
  """How the samples of a study were made."""
  s = record["samples"]
  guidance = s["guidance_scale"]
  guided = "no guidance" if guidance == 1 else f"guidance {guidance:g}"
  return (
    f"{s['num_network_evaluations']} evaluations of {s['method']} uniform in "
    f"{s['spacing']}, {guided}, EMA "
    f"{record['ema_decay']:g}"
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
