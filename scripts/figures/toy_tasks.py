# SPDX-License-Identifier: Apache-2.0
"""The toys of ZLPR, several labels, and of directions for several tasks."""

import textwrap

import matplotlib.patches
import numpy as np

from experiments.loss_studies import toy_task_directions
from scripts import loss_toy_task_tables
from scripts.figures import canvas as canvas_lib
from scripts.figures import measured as measured_lib
from scripts.figures import plots


def draw_zlpr():
  record = measured_lib.toy("zlpr_imbalance")
  rows = loss_toy_task_tables.best_first(record["measured"]["rows"])
  canvas = canvas_lib.blank(360, 640)
  axes = plots.panel(
    canvas,
    (0.1, 0.17, 0.88, 0.73),
    title="3 labels of 1,000: F1 of test examples",
  )
  for shift, name, label, colour, hatch in (
    (-0.2, "at_0", "at threshold 0", canvas_lib.BLUE, None),
    (0.2, "at_best", "at a tuned threshold", canvas_lib.ORANGE, "//"),
  ):
    mean, error = np.array([row[name] for _, row in rows]).T
    axes.bar(
      np.arange(len(rows)) + shift,
      mean,
      0.38,
      yerr=error,
      capsize=4,
      color=colour,
      hatch=hatch,
      edgecolor="white",
      label=label,
    )
  titles = [
    textwrap.fill(title, 14, break_on_hyphens=False) for title, _ in rows
  ]
  axes.set_xticks(range(len(rows)), titles)
  axes.grid(visible=False, axis="x")
  axes.set_ylim(0, 0.65)
  plots.legend(axes, loc="upper right", ncols=2)
  return canvas


# (rule, name, colour).
RULES = (
  ("equal", "mean", canvas_lib.GREY),
  ("normalized", "of unit gradients", canvas_lib.ORANGE),
  ("min_norm", "min-norm", canvas_lib.VERMILION),
  ("primary_secondary", "1 primary", canvas_lib.BLUE),
  ("upgrad", "UPGrad = PCGrad", canvas_lib.GREEN),
)
ANGLES = (60.0, 120.0, 150.0)


def _arrow(axes, end, colour, width):
  axes.annotate(
    "",
    xy=end,
    xytext=(0, 0),
    arrowprops=dict(
      arrowstyle="-|>", color=colour, linewidth=width, shrinkA=0, shrinkB=0
    ),
  )


def draw_directions():
  record = measured_lib.toy("task_directions")
  length = record["config"]["length"]
  canvas = canvas_lib.blank(270)
  for index, angle in enumerate(ANGLES):
    axes = canvas.add_axes((0.01 + 0.335 * index, 0.14, 0.31, 0.75))
    axes.set_title(f"{angle:.0f} degrees apart", size=16)
    # Where neither loss gets worse: within 90 degrees of both gradients.
    axes.add_patch(
      matplotlib.patches.Wedge(
        (0, 0), 9, angle - 90, 90, color=canvas_lib.GREEN, alpha=0.15
      )
    )
    for g, name in zip(
      toy_task_directions.pair(angle, length), "12", strict=True
    ):
      _arrow(axes, g, canvas_lib.BLACK, 3)
      axes.text(*(g * (1 + 0.15 / np.linalg.norm(g))), f"$g_{name}$", size=15)
    for rule, name, colour in RULES:
      (row,) = (
        row
        for row in record["measured"]["plane"]
        if row["rule"] == rule and row["angle"] == angle
      )
      _arrow(axes, row["u"], colour, 2.5)
      axes.plot([], [], color=colour, linewidth=3, label=name)
    axes.set_xlim(-1.95, 1.55)
    axes.set_ylim(-0.45, 2.05)
    axes.set_aspect("equal")
    axes.axis("off")
  handles, labels = axes.get_legend_handles_labels()
  canvas.legend(
    handles,
    labels,
    loc="lower center",
    ncols=len(RULES),
    fontsize=14,
    frameon=False,
    columnspacing=1.2,
    handlelength=1.2,
  )
  return canvas
