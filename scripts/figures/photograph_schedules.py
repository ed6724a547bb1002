# SPDX-License-Identifier: Apache-2.0
"""Table 2 on photographs: what a shift gains at each size, and where."""

import numpy as np

from configs import photographs
from scripts import photograph_tables
from scripts.figures import canvas as canvas_lib
from scripts.figures import measured
from scripts.figures import plots

# Of the schedule, as a function of the size: colour, mark.
SCHEDULES = {
  "cosine": (float, canvas_lib.VERMILION, "o"),
  "shifted to 32": (lambda size: 32.0, canvas_lib.BLUE, "s"),
}


def runs(size: int, reference: float, found: list[dict]) -> list[dict]:
  """A schedule's runs on the newest one's photographs."""
  overrides = {
    "schedule.ref_at_noise": reference,
    "schedule.ref_at_data": reference,
  }
  data = photograph_tables.folder(found[-1])
  arg = f"{size},table2"
  by_data = photograph_tables.runs_of(arg, overrides, found)
  if data not in by_data and size == 256:
    narrow = photograph_tables.NARROW
    by_data = photograph_tables.runs_of(arg, overrides, found, **narrow)
  return by_data.get(data, [])


def mean_and_error(values) -> tuple:
  """Mean and standard error over the first axis, seeds."""
  values = np.array(values)
  error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
  return values.mean(axis=0), error


def draw_by_size(axes, name, by_size, colour, mark):
  """Kernel distance to held-out photographs over the images' size."""
  distances = [
    mean_and_error([r["samples"]["held_out"]["kernel"] for r in of_size])
    for of_size in by_size.values()
  ]
  means, errors = zip(*distances, strict=True)
  axes.errorbar(
    range(len(by_size)),
    means,
    yerr=errors,
    color=colour,
    marker=mark,
    capsize=4,
    label=name,
  )


def draw_by_logsnr(axes, of_size, colour, mark):
  """Held-out v-MSE in bins of log-SNR."""
  bins = [b["logsnr"] for b in of_size[0]["held_out_loss"]]
  values = [[b["v_mse"] for b in r["held_out_loss"]] for r in of_size]
  means, errors = mean_and_error(values)
  axes.errorbar(
    [(low + high) / 2 for low, high in bins],
    means,
    yerr=errors,
    color=colour,
    marker=mark,
    markersize=4,
  )


def draw():
  found = measured.some(photograph_tables.records(), photographs)
  canvas = canvas_lib.blank(330)
  sizes = [
    size
    for size in photographs.PATCHING
    if all(
      len(runs(size, reference(size), found)) > 1
      for reference, _, _ in SCHEDULES.values()
    )
  ]
  measured.some(sizes, photographs)
  by_size = plots.panel(
    canvas,
    (0.075, 0.19, 0.25, 0.63),
    title="distance to held-out",
    x="pixels",
    y="kernel distance",
  )
  by_size.set_xticks(range(len(sizes)), [str(size) for size in sizes])
  by_size.set_xlim(-0.3, len(sizes) - 0.7)
  losses = {
    size: plots.panel(
      canvas,
      (0.4 + 0.202 * i, 0.19, 0.18, 0.63),
      title=f"{size} pixels",
      x="log-SNR",
      y="" if i else "held-out v-MSE",
    )
    for i, size in enumerate(sizes)
  }
  for i, axes in enumerate(losses.values()):
    axes.set_ylim(0, 1.1)
    axes.set_xlim(-20, 16)
    axes.set_xticks([-15, 0, 15])
    if i:
      axes.tick_params(labelleft=False)
  for name, (reference, colour, mark) in SCHEDULES.items():
    of_schedule = {size: runs(size, reference(size), found) for size in sizes}
    draw_by_size(by_size, name, of_schedule, colour, mark)
    for size, axes in losses.items():
      draw_by_logsnr(axes, of_schedule[size], colour, mark)
  plots.shared_legend(
    canvas, loc="upper center", ncols=2, bbox_to_anchor=(0.5, 1.02)
  )
  return canvas
