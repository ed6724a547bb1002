# SPDX-License-Identifier: Apache-2.0
"""The toys of TaiLr and EMO: where the mass of a distribution goes."""

import numpy as np
from scipy import stats

from experiments.loss_studies import toy_tailr_mixture
from scripts.figures import canvas as canvas_lib
from scripts.figures import measured as measured_lib
from scripts.figures import plots


def draw_tailr():
  measured = measured_lib.toy("tailr_mixture")["measured"]
  by_gamma = {row["gamma"]: row for row in measured["tailr"]}
  canvas = canvas_lib.blank(380)
  axes = plots.panel(
    canvas, (0.06, 0.15, 0.5, 0.75), title="One Gaussian for the mixture", x="x"
  )
  x = np.linspace(-3, 7, 501)
  data = toy_tailr_mixture.data(x)
  axes.fill_between(
    x, data, color=canvas_lib.GREY, alpha=0.3, linewidth=0, label="data"
  )
  for label, row, colour, dash in (
    ("cross-entropy", measured["kl"], canvas_lib.BLACK, "--"),
    ("total variation", measured["tvd"], canvas_lib.GREEN, "-."),
    (r"TaiLr, $\gamma = 10^{-3}$", by_gamma[1e-3], canvas_lib.BLUE, "-"),
    (r"TaiLr, $\gamma = 0.1$", by_gamma[0.1], canvas_lib.VERMILION, "-"),
  ):
    density = stats.norm.pdf(x, row["mu"], row["sigma"])
    axes.plot(x, density, dash, color=colour, linewidth=2.5, label=label)
  axes.set_xlim(x[0], x[-1])
  axes.set_ylim(0, 1.85)
  plots.legend(axes, loc="upper right")

  axes = plots.panel(
    canvas,
    (0.66, 0.15, 0.32, 0.75),
    title="Total variation to the data",
    x=r"TaiLr's $\gamma$",
  )
  rows = [row for row in measured["tailr"] if row["gamma"] > 0]
  axes.semilogx(
    [row["gamma"] for row in rows],
    [row["total_variation"] for row in rows],
    "o-",
    color=canvas_lib.BLUE,
    linewidth=2.5,
  )
  for name, text in (("kl", "cross-entropy"), ("tvd", "least")):
    value = measured[name]["total_variation"]
    axes.axhline(value, color=canvas_lib.BLACK, linestyle=":")
    axes.text(1e-7, value + 0.02, text, size=13, va="bottom")
  axes.axvline(measured["largest"], color=canvas_lib.ORANGE, linestyle="--")
  axes.text(
    measured["largest"] * 0.7,
    0.95,
    "likeliest\ntoken",
    size=13,
    ha="right",
    va="top",
  )
  axes.set_xticks([1e-7, 1e-5, 1e-3, 1e-1])
  axes.set_ylim(0, 1)
  return canvas


# (method, name, colour, dashes).
METHODS = (
  ("mle", "cross-entropy", canvas_lib.BLACK, "--"),
  ("tailr", "TaiLr", canvas_lib.ORANGE, "-."),
  ("emo_mode1", "EMO, mode 1", canvas_lib.BLUE, "-"),
  ("emo_mode2", "EMO, mode 2", canvas_lib.VERMILION, ":"),
)


def draw_emo():
  measured = measured_lib.toy("emo_synonyms")["measured"]
  curves = measured["curves"]
  canvas = canvas_lib.blank(380)
  for left, name, title in (
    (0.07, "nll", "NLL of new tokens"),
    (0.58, "emd", "Earth mover's distance"),
  ):
    axes = plots.panel(
      canvas, (left, 0.15, 0.39, 0.75), title=title, x="step of Adam"
    )
    for method, label, colour, dash in METHODS:
      axes.plot(
        curves["step"],
        curves[method][name],
        dash,
        color=colour,
        linewidth=2.5,
        label=label,
      )
    truth, _ = measured["truth"][name]
    axes.axhline(truth, color=canvas_lib.GREY, linewidth=1.5)
    axes.text(curves["step"][-1] / 50, truth, "the truth", size=13, va="bottom")
    axes.set_xlim(0, curves["step"][-1])
  plots.legend(axes, loc="upper right")
  return canvas
