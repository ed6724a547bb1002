# SPDX-License-Identifier: Apache-2.0
"""What the points of a sweep came to: a table, JSON lines and a plot."""

import itertools
import json
import pathlib

from scripts.sweep import states
from scripts.sweep import store

# Okabe and Ito, "Color universal design" (2008): told apart by everyone.
# Their yellow is left out: it is too light for a line on white.
COLOURS = (
  "#0072B2",
  "#D55E00",
  "#009E73",
  "#CC79A7",
  "#E69F00",
  "#56B4E9",
  "#000000",
)
DASHES = ("-", "--", ":", "-.")
MAX_PANELS = 4  # swept keys that are drawn


def curves(root: str, points) -> dict[str, list[dict]]:
  """The records of each point, by name."""
  return {
    point.name: parse(store.read(root, f"{point.name}/metrics.jsonl"))
    for point in points
  }


def parse(content: bytes | None) -> list[dict]:
  """Records of JSON lines; a line that is being written is left out."""
  *lines, _ = (content or b"").split(b"\n")
  return [json.loads(line) for line in lines]


def rows(root: str, points, records: dict, metric: str) -> list[dict]:
  """One record for each point: state, overrides, last step, loss and metric."""
  made = []
  for point in points:
    last = (records[point.name] or [{}])[-1]
    row = {
      "point": point.name,
      "state": states.state(root, point),
      "overrides": point.overrides,
      "step": last.get("step", 0),
      "total_steps": point.total_steps,
      "loss": last.get("loss"),
    }
    made.append(row | {metric: last.get(metric)})
  return made


def table(made: list[dict], metric: str, *, maximise: bool) -> str:
  """The rows as text, lowest or highest first, those without numbers last."""
  names = ["point", "state", "step", *dict.fromkeys(("loss", metric))]

  def order(row):
    sign = -1 if maximise else 1
    return (row[metric] is None, sign * (row[metric] or 0.0))

  def text(value):
    if value is None:
      return "-"
    return f"{value:.5g}" if isinstance(value, float) else str(value)

  cells = [names]
  cells += [[text(r[n]) for n in names] for r in sorted(made, key=order)]
  widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
  return "\n".join(
    "  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip()
    for line in cells
  )


def swept_numbers(made: list[dict]) -> dict[str, list[float]]:
  """Values over the points of the keys that are numbers and differ."""
  keys = dict.fromkeys(key for row in made for key in row["overrides"])
  found = {}
  for key in keys:
    values = [row["overrides"].get(key) for row in made]
    is_numeric = all(
      isinstance(v, int | float) and not isinstance(v, bool) for v in values
    )
    # Zipped keys often carry the same values: one panel is enough.
    # A seed is a number that nothing is a function of.
    is_numeric &= not key.endswith("seed")
    if is_numeric and len(set(values)) > 1 and values not in found.values():
      found[key] = values
  return found


def draw(made, records, metric: str, path: pathlib.Path) -> None:
  """The metric against steps, and its last value against each swept number."""
  from matplotlib import figure  # Only to develop with; training does without.

  swept = dict(itertools.islice(swept_numbers(made).items(), MAX_PANELS))
  num_panels = 1 + len(swept)
  canvas = figure.Figure(
    figsize=(1.5 + 4.5 * num_panels, 4.2), dpi=110, layout="constrained"
  )
  axes = canvas.subplots(1, num_panels, squeeze=False)[0]
  styles = itertools.product(DASHES, COLOURS)
  colours = []
  for row, (dashes, colour) in zip(made, itertools.cycle(styles), strict=False):
    colours.append(colour)
    seen = [r for r in records[row["point"]] if r.get(metric) is not None]
    axes[0].plot(
      [r["step"] for r in seen],
      [r[metric] for r in seen],
      dashes,
      color=colour,
      label=row["point"],
    )
  axes[0].set(xlabel="step", ylabel=metric)
  if len(made) <= 20:  # More would hide the curves.
    axes[0].legend(fontsize=7)
  for panel, (key, values) in zip(axes[1:], swept.items(), strict=True):
    for row, value, colour in zip(made, values, colours, strict=True):
      if row[metric] is not None:
        panel.plot(value, row[metric], "o", color=colour)
    panel.set(xlabel=key, ylabel=f"{metric} at the last step")
    if min(values) > 0 and max(values) / min(values) >= 8:
      panel.set_xscale("log")
  for panel in axes:
    panel.grid(alpha=0.3)
  canvas.savefig(path)


def write(
  root: str, points, *, metric: str, out: pathlib.Path, maximise: bool = False
) -> str:
  """Writes sweep.jsonl and sweep.png into `out`; returns the table.

  Raises:
    ValueError: if points have recorded something, but not the metric.
  """
  records = curves(root, points)
  known = dict.fromkeys(n for rs in records.values() for r in rs for n in r)
  if known and metric not in known:
    raise ValueError(
      f"--metric={metric} is in no record; there are {', '.join(known)}"
    )
  made = rows(root, points, records, metric)
  out.mkdir(parents=True, exist_ok=True)
  lines = "".join(json.dumps(row) + "\n" for row in made)
  (out / "sweep.jsonl").write_text(lines)
  written = f"written: {out}/sweep.jsonl"
  try:
    draw(made, records, metric, out / "sweep.png")
    written += f", {out}/sweep.png"
  except ImportError:
    written += "; for a plot pip install matplotlib"
  return f"{table(made, metric, maximise=maximise)}\n{written}"
