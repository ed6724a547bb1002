# SPDX-License-Identifier: Apache-2.0
"""How far photographs, noisy ones and noise are from photographs."""

from scripts import photograph_runs
from scripts import results


def newest() -> dict[tuple[str, int], dict]:
  """The records by photographs and size, in that order."""
  found = {
    (photograph_runs.folder(r), r["config"]["data"]["image_size"]): r
    for r in results.lines("photograph_yardsticks")
  }
  return dict(sorted(found.items()))


def _cell(row: dict | None) -> str:
  if row is None:
    return ""
  kernel = round(row["kernel"], 2) + 0.0  # Not -0.00.
  return f"{kernel:.2f} ({row['precision']:.2f})"


def photographs_yardsticks() -> str:
  """Kernel distance, and precision, of what is not a model's samples."""
  of = newest()
  if not of:
    return "Not yet run."
  of_set = {
    key: {row["what"]: row for row in r["rows"]} for key, r in of.items()
  }
  names = dict.fromkeys(name for by_name in of_set.values() for name in by_name)
  rows = [
    (name, *(_cell(by_name.get(name)) for by_name in of_set.values()))
    for name in names
  ]
  header = (
    "measured as samples",
    *(f"{data}, {size}" for data, size in of),
  )
  (name, weights, resize, crop, split, seed), *others = {
    (
      *r["features"].values(),
      r["config"]["data"]["crop"],
      r["held_out_split"],
      r["seed"],
    )
    for r in of.values()
  }
  if others:
    raise ValueError(
      "photograph_yardsticks.jsonl: the newest of each size are of several "
      "features, crops, splits or seeds; measure all of them again"
    )
  largest = max(
    row["kernel_standard_error"] for r in of.values() for row in r["rows"]
  )
  images = "; ".join(
    f"{data}, {size} pixels: {first['num_images']:,} training images "
    f"({first['reference_hash']}), {first['num_samples']:,} held out "
    f"({first['samples_hash']})"
    for (data, size), r in of.items()
    for first in r["rows"][:1]
  )
  return (
    f"{results.markdown(header, rows)}\n\nKernel distance to training images, "
    f"with a standard error over images of {largest:.3f} at most, and in "
    "brackets precision. Features "
    f"of {name} ({weights}) of images resized {resize}, crop {crop}; the "
    f"{split} split, noise of seed {seed}; {images}. "
    f"{results.where(*(r['environment'] for r in of.values()))}."
  )


MAKERS = (photographs_yardsticks,)
