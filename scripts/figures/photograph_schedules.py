# SPDX-License-Identifier: Apache-2.0
"""Table 2 on photographs: what a shift gains at each size, and where."""

from configs import photographs
from scripts import photograph_runs
from scripts.figures import canvas as canvas_lib
from scripts.figures import measured
from scripts.figures import plots

COMMAND = (
  "python -m scripts.sweep run --config=configs/photographs.py:128,table2 "
  "--config.data.data_dir=data/clothing --root=runs/table2_128"
)

# By the name that table 2 has: colour, mark.
SCHEDULES = {
  "cosine": (canvas_lib.VERMILION, "o"),
  "shifted to 32": (canvas_lib.BLUE, "s"),
}


def runs(size: int, found: list[dict], **changes) -> dict:
  """Each schedule's runs on photographs of clothes, if there are of all.

  Args:
    size: of the images.
    found: records.
    **changes: of the model, in which the runs differ from the config.
  """
  by_name = photograph_runs.by_name(f"{size},table2", found, **changes)
  if not by_name.keys() >= SCHEDULES.keys():
    return {}
  return {name: by_name[name] for name in SCHEDULES}


def panels(found: list[dict]) -> dict:
  """Titles, with the runs of each schedule."""
  by_title = {}
  for size in photographs.PATCHING:
    by_title[f"{size}"] = runs(size, found)
  if not by_title["256"]:
    narrow = runs(256, found, **photograph_runs.NARROW)
    by_title["256, narrow"] = narrow
  return {title: of for title, of in by_title.items() if of}


def draw_seeds(axes, x, values, **style):
  """Mean and standard error of each point's seeds; of one seed no bar."""
  means, errors = zip(*map(photograph_runs.mean_and_error, values), strict=True)
  axes.errorbar(x, means, yerr=errors, **style)


def draw_by_size(axes, by_size, **style):
  """Kernel distance to held-out photographs over the images' size."""
  distances = [
    [r["samples"]["held_out"]["kernel"] for r in of_size] for of_size in by_size
  ]
  draw_seeds(axes, range(len(by_size)), distances, capsize=4, **style)


def draw_by_logsnr(axes, bins, **style):
  """Of {(low, high): values of seeds}, in the middle of each bin."""
  middles = [(low + high) / 2 for low, high in bins]
  draw_seeds(axes, middles, bins.values(), **style)


def draw():
  found = panels(photograph_runs.with_samples())
  if not found:
    raise measured.NotYetRun(COMMAND)
  canvas = canvas_lib.blank(330)
  by_size = plots.panel(
    canvas,
    (0.075, 0.19, 0.25, 0.63),
    title="distance to held-out",
    x="pixels",
    y="kernel distance",
  )
  by_size.set_xticks(range(len(found)), [t.split(",")[0] for t in found])
  by_size.set_xlim(-0.3, len(found) - 0.7)
  losses = {}
  for i, title in enumerate(found):
    losses[title] = axes = plots.panel(
      canvas,
      (0.4 + 0.202 * i, 0.19, 0.18, 0.63),
      title=f"{title} pixels" if title.isdigit() else title,
      x="log-SNR",
      y="" if i else "held-out v-MSE",
    )
    axes.set_ylim(0, 1.1)
    axes.set_xlim(-20, 16)
    axes.set_xticks([-15, 0, 15])
    if i:
      axes.tick_params(labelleft=False)
  for name, (colour, mark) in SCHEDULES.items():
    of_sizes = [of_schedule[name] for of_schedule in found.values()]
    style = dict(color=colour, marker=mark)
    draw_by_size(by_size, of_sizes, label=name, **style)
    for title, axes in losses.items():
      bins = photograph_runs.v_mse_by_logsnr(found[title][name])
      draw_by_logsnr(axes, bins, markersize=4, **style)
  plots.shared_legend(
    canvas, loc="upper center", ncols=2, bbox_to_anchor=(0.5, 1.02)
  )
  return canvas
