# SPDX-License-Identifier: Apache-2.0
"""Two tasks on real data: losses and conflicts in the course of training.

Means over the seeds, of the points that validation chose; errors of what is
reached at the end, seed by seed, are in the tables.
"""

import numpy as np

from configs import loss_multitask
from experiments.loss_studies import multitask_methods
from scripts import loss_multitask_tables
from scripts.figures import canvas as canvas_lib
from scripts.figures import measured
from scripts.figures import plots

DATA = "mnist"

# (colour, dashes) of each method; those that follow one task alone are dashed.
# Losses over their first values are left out; the page says where they end.
STYLES = {
  "primary_alone": (canvas_lib.BLACK, "--"),
  "secondary_alone": (canvas_lib.GREY, "--"),
  "weighted": (canvas_lib.GREY, "-"),
  "equal": (canvas_lib.SKY, "-"),
  "real_time": (canvas_lib.ORANGE, "-"),
  "normalized": (canvas_lib.ORANGE, ":"),
  "min_norm": (canvas_lib.VERMILION, "-"),
  "upgrad": (canvas_lib.GREEN, "-"),
  "primary_secondary": (canvas_lib.BLUE, "-"),
}
# What is drawn of each setting; how it falls before is much the same.
LIMITS = {
  "parity": (0.25, 0.5),
  "digit": (0.45, 1.4),
  "clean": (0.9, 2.3),
  "decay": (1.0, 2.4),
}


def _times(curve) -> np.ndarray:
  """Share of the training at which each window ends."""
  return (1 + np.arange(len(curve))) / len(curve)


def _mean(record: dict, name: str) -> np.ndarray:
  """A curve, which is recorded as its sum over the seeds."""
  return np.array(record["training"][name]) / len(record["seeds"])


def _chosen(methods) -> dict[str, dict]:
  """{tasks: {method: record}} of what is finished, in the tables' order."""
  found = {}
  for (data, tasks), records in loss_multitask_tables.chosen().items():
    of = {name: records[name] for name in methods if name in records}
    if data == DATA and of:
      found[tasks] = of
  return measured.some(found, loss_multitask)


def draw_losses():
  """The primary loss on test examples, a panel for each setting."""
  found = _chosen(STYLES)
  canvas = canvas_lib.blank(640)
  for i, (tasks, of) in enumerate(found.items()):
    title = loss_multitask_tables.TASKS[tasks]
    left, bottom = 0.07 + 0.49 * (i % 2), 0.6 - 0.42 * (i // 2)
    axes = plots.panel(canvas, (left, bottom, 0.42, 0.34), title=title)
    for name, record in of.items():
      colour, dashes = STYLES[name]
      curve = _mean(record, "test_loss")
      axes.plot(_times(curve), curve, dashes, color=colour, linewidth=2.2)
    axes.set_ylim(*LIMITS[tasks])
    axes.set_xlim(0, 1)
  for name, (colour, dashes) in STYLES.items():
    if any(name in of for of in found.values()):
      title = multitask_methods.METHODS[name].title
      axes.plot([], [], dashes, color=colour, linewidth=2.5, label=title)
  canvas_lib.write(canvas, 415, 555, "share of the training", size=15)
  handles, labels = axes.get_legend_handles_labels()
  canvas.legend(
    handles, labels, loc="lower center", ncols=3, fontsize=13, frameon=False
  )
  return canvas


def draw_conflicts():
  """How often the gradients oppose each other, of primary / secondary."""
  found = _chosen(("primary_secondary",))
  canvas = canvas_lib.blank(330, 640)
  axes = plots.panel(
    canvas,
    (0.1, 0.18, 0.88, 0.7),
    title="steps whose gradients oppose each other, %",
    x="share of the training",
  )
  colours = ("BLUE", "SKY", "ORANGE", "VERMILION")
  marks = "osD^"
  for i, (tasks, title) in enumerate(loss_multitask_tables.TASKS.items()):
    if tasks not in found:
      continue
    curve = _mean(found[tasks]["primary_secondary"], "conflict")
    axes.plot(
      _times(curve),
      100 * curve,
      marker=marks[i],
      color=getattr(canvas_lib, colours[i]),
      linewidth=2,
      markersize=6,
      label=title,
    )
  axes.set_ylim(0, 100)
  axes.set_xlim(0, 1.02)
  plots.legend(axes, loc="upper left", bbox_to_anchor=(0.0, 0.8), ncols=2)
  return canvas
