# SPDX-License-Identifier: Apache-2.0
"""The toys of EXACT (arXiv 2205.09615): three points, and five."""

import numpy as np

from experiments.loss_studies import toy_exact_3_points
from experiments.loss_studies import toy_exact_5_points
from scripts.figures import canvas as canvas_lib
from scripts.figures import measured as measured_lib
from scripts.figures import plots

# (objective, scale, name, colour, dashes).
CURVES = (
  ("cross_entropy", 1.0, "cross-entropy", canvas_lib.BLACK, "-"),
  ("hinge", 1.0, "hinge", canvas_lib.GREY, "--"),
  ("exact", 0.5, r"EXACT, $\sigma$ = 0.5", canvas_lib.SKY, "-"),
  ("exact", 0.3, r"EXACT, $\sigma$ = 0.3", canvas_lib.ORANGE, "-"),
  ("exact", 0.1, r"EXACT, $\sigma$ = 0.1", canvas_lib.VERMILION, "-"),
)


def _minimiser(rows, name, scale):
  (row,) = (
    row
    for row in rows
    if row["objective"] == name and scale in (row.get("k"), row.get("sigma"))
  )
  return row


def draw_3_points():
  measured = measured_lib.toy("exact_3_points")["measured"]
  canvas = canvas_lib.blank(380)
  axes = plots.panel(
    canvas, (0.07, 0.15, 0.45, 0.75), title="Mean loss", x="threshold b"
  )
  b = np.linspace(-0.2, 1.3, 301)
  axes.axvspan(0, 0.25, color=canvas_lib.GREEN, alpha=0.2, linewidth=0)
  axes.text(0.125, 1.0, "all\nright", ha="center", va="top", size=13)
  for name, scale, label, colour, dash in CURVES:
    loss, _ = toy_exact_3_points.compiled(name)
    axes.plot(b, loss(b, scale), dash, color=colour, linewidth=2, label=label)
    row = _minimiser(measured["minimisers"], name, scale)
    ends = np.array([row["low"], row["high"]])
    axes.plot(ends, [row["loss"]] * 2, "o-", color=colour, linewidth=4)
  axes.set_xlim(b[0], b[-1])
  axes.set_ylim(0, 1.02)
  plots.legend(axes, fontsize=12, loc="upper right", bbox_to_anchor=(1.02, 1))

  axes = plots.panel(
    canvas,
    (0.6, 0.15, 0.36, 0.75),
    title=r"EXACT, descent on b and log $\sigma$",
    x="step",
  )
  axes.axhspan(0, 0.25, color=canvas_lib.GREEN, alpha=0.2, linewidth=0)
  learned = measured["learned"]
  step = [0] + [row["step"] for row in learned]
  for name, start, label, colour, dash in (
    ("b", 0.0, "b", canvas_lib.BLUE, "-"),
    ("sigma", 1.0, r"$\sigma$", canvas_lib.VERMILION, "--"),
  ):
    values = [start] + [row[name] for row in learned]
    axes.plot(step, values, dash, color=colour, linewidth=2.5, label=label)
  axes.set_xlim(0, step[-1])
  axes.set_ylim(0, 1.02)
  plots.legend(axes, fontsize=15, loc="upper right")
  return canvas


def draw_5_points():
  record = measured_lib.toy("exact_5_points")
  paths = record["measured"]["from_zero"]
  canvas = canvas_lib.blank(360, 640)
  axes = plots.panel(
    canvas,
    (0.1, 0.15, 0.87, 0.75),
    title="Threshold b while the five points are learned",
    x="step",
    y="x and b",
  )
  axes.axhspan(-6, -5, color=canvas_lib.GREEN, alpha=0.2, linewidth=0)
  num_steps = record["config"]["num_steps"]
  for name, label, colour, dash in (
    ("cross_entropy", "cross-entropy", canvas_lib.BLACK, "--"),
    ("exact", r"EXACT, $\sigma = 100 \cdot 0.99^{step}$", canvas_lib.BLUE, "-"),
  ):
    step = np.arange(1, len(paths[name]) + 1) * 10
    axes.plot(step, paths[name], dash, color=colour, linewidth=2.5, label=label)
  for name, label, marker in ((0, "class 0", "x"), (1, "class 1", "o")):
    x = toy_exact_5_points.X[name == toy_exact_5_points.LABELS]
    axes.plot(
      np.full(len(x), num_steps * 1.02),
      x,
      marker,
      color=canvas_lib.VERMILION,
      markersize=10,
      markeredgewidth=2.5,
      clip_on=False,
      label=label,
    )
  axes.text(num_steps * 0.02, -5.5, "b right of 4 points", size=13, va="center")
  axes.set_xlim(0, num_steps * 1.04)
  axes.set_ylim(-6.5, 2.5)
  plots.legend(axes, loc="upper center", ncols=2)
  return canvas
