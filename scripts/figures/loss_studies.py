# SPDX-License-Identifier: Apache-2.0
"""The comparisons of losses on real data, from experiments/results.

Differences are seed by seed, of the points that validation chose, with their
standard error: see scripts/loss_study_tables.py.
"""

import numpy as np

from configs import loss_images
from configs import loss_label_noise
from configs import loss_many_way
from configs import loss_multilabel
from configs import loss_tabular
from experiments.loss_studies import selection
from scripts import loss_study_tables
from scripts.figures import canvas as canvas_lib
from scripts.figures import measured
from scripts.figures import plots

# One for each method but the one that is subtracted.
MARKS = (
  (canvas_lib.SKY, "o"),
  (canvas_lib.ORANGE, "s"),
  (canvas_lib.GREEN, "^"),
  (canvas_lib.VERMILION, "D"),
  (canvas_lib.BLUE, "v"),
  (canvas_lib.BLACK, "P"),
  (canvas_lib.GREY, "X"),
)


def differences(columns: dict, metric: str, minus: str):
  """(title, means [sets], errors [sets]) of each method; NaN if not run."""
  for name, title in loss_study_tables.methods_of(columns):
    if name == minus:
      continue
    means, errors = [], []
    for _, of_arg in columns.values():
      if name in of_arg and minus in of_arg:
        values = selection.differences(of_arg[name], of_arg[minus], metric)
        means.append(100 * selection.mean(values))
        errors.append(100 * selection.standard_error(values))
      else:
        means.append(np.nan)
        errors.append(np.nan)
    yield title, np.array(means), np.array(errors)


def dots(module, columns: dict, metric: str, minus: str, label: str, limits):
  """Rows of data sets, a mark for each method; what is beyond has an arrow.

  Args:
    module: of configs, of the study.
    columns: of loss_study_tables; what is not finished is left out.
    metric: of test examples.
    minus: the method that is subtracted.
    label: of the axis.
    limits: of the axis, in points.
  """
  columns = {
    arg: (config, of_arg)
    for arg, (config, of_arg) in columns.items()
    if minus in of_arg and len(of_arg.keys() & config["methods"].keys()) > 1
  }
  measured.some(columns, module)
  height = 130 + 48 * len(columns)
  canvas = canvas_lib.blank(height)
  axes = canvas.add_axes((0.14, 60 / height, 0.55, (height - 80) / height))
  found = list(differences(columns, metric, minus))
  for i, (title, means, errors) in enumerate(found):
    if np.isnan(means).all():
      continue
    colour, mark = MARKS[i]
    y = np.arange(len(columns)) + 0.8 * ((i + 0.5) / len(found) - 0.5)
    axes.errorbar(
      means,
      y,
      xerr=errors,
      fmt=mark,
      color=colour,
      markersize=7,
      linewidth=1.8,
      label=title,
    )
    for row, value in enumerate(means):
      if limits[0] <= value <= limits[1] or np.isnan(value):
        continue
      end = (limits[int(value > limits[1])], y[row])
      # Numbers of neighbours side by side: one below the other they overlap.
      _arrow(axes, value, end, 28 + 24 * (i % 2), colour)
  for i in range(len(columns)):
    if i % 2:
      axes.axhspan(i - 0.5, i + 0.5, color="#f2f2f2", zorder=0)
  axes.axvline(0, color=canvas_lib.BLACK, linewidth=1)
  axes.set_xlim(*limits)
  axes.set_ylim(len(columns) - 0.5, -0.5)
  axes.set_yticks(
    range(len(columns)), [loss_study_tables.title_of(arg) for arg in columns]
  )
  axes.tick_params(labelsize=13)
  axes.set_xlabel(label, size=14)
  axes.spines[["top", "right"]].set_visible(False)
  axes.legend(
    fontsize=12.5, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0)
  )
  return canvas


def _arrow(axes, value: float, end, length: int, colour: str) -> None:
  """An arrow of a length in pixels to an end of the axis, from the value."""
  inwards = 1 if value < end[0] else -1
  axes.annotate(
    f"{value:.0f}",
    end,
    xytext=(length * inwards, 0),
    textcoords="offset points",
    arrowprops={"arrowstyle": "->", "color": colour},
    color=colour,
    ha="left" if inwards > 0 else "right",
    va="center",
    size=11,
  )


def draw_tabular():
  return dots(
    loss_tabular,
    loss_study_tables.tabular(),
    "accuracy",
    "cross_entropy",
    "test accuracy minus that of cross-entropy, points",
    (-4, 4),
  )


def draw_multilabel():
  return dots(
    loss_multilabel,
    loss_study_tables.multilabel(),
    "micro_f1",
    "binary",
    "test micro F1 minus that of binary cross-entropy, points",
    (-5, 13),
  )


def draw_many_way():
  return dots(
    loss_many_way,
    loss_study_tables.many_way(),
    "macro_f1",
    "cross_entropy",
    "test macro F1 minus that of cross-entropy, points",
    (-4, 4),
  )


def draw_images():
  return dots(
    loss_images,
    loss_study_tables.images(),
    "accuracy",
    "cross_entropy",
    "test accuracy minus that of cross-entropy, points",
    (-4, 4),
  )


def draw_label_noise(noise: int = 40):
  """Accuracy over the share of wrong labels; reliability at one share.

  A data set with nothing at that share is left out.
  """
  by_set = {}
  found = loss_study_tables.label_noise()
  for arg, column in found.items():
    data = arg.split(",")[0]
    if f"{data},{noise}" in found:
      by_set.setdefault(data, {})[arg] = column
  measured.some(by_set, loss_label_noise)
  canvas = canvas_lib.blank(360 * len(by_set) + 50)
  grid = canvas.subplots(
    len(by_set),
    2,
    squeeze=False,
    gridspec_kw={
      "left": 0.08,
      "right": 0.96,
      "top": 1 - 40 / (360 * len(by_set) + 50),
      "bottom": 60 / (360 * len(by_set) + 50),
      "hspace": 0.3,
      "wspace": 0.2,
    },
  )
  for (data, columns), (left, right) in zip(by_set.items(), grid, strict=True):
    _accuracy_over_noise(left, columns)
    _reliability(right, columns, f"{data},{noise}")
    left.set_title(f"{data}: test accuracy, %", size=15)
    right.set_title(
      f"{data}: share that is right, {noise} % wrong labels", size=15
    )
    for axes in (left, right):
      axes.tick_params(labelsize=13)
      axes.grid(alpha=0.3)
      axes.spines[["top", "right"]].set_visible(False)
  plots.shared_legend(canvas, grid[0, 0], fontsize=12, loc="lower left")
  grid[-1, 0].set_xlabel("wrong labels in training, %", size=14)
  grid[-1, 1].set_xlabel("confidence", size=14)
  return canvas


def _lines(columns):
  """(name, what a plot of one method needs)."""
  marks = ((canvas_lib.BLACK, "P"), *MARKS)
  methods = loss_study_tables.methods_of(columns)
  for (name, title), (colour, mark) in zip(methods, marks, strict=False):
    yield (
      name,
      dict(color=colour, marker=mark, label=title, linewidth=1.8, markersize=7),
    )


def _accuracy_over_noise(axes, columns):
  shares = {arg: int(arg.split(",")[1]) for arg in columns}
  for i, (name, line) in enumerate(_lines(columns)):
    of = {
      shares[arg]: records[name]["test"]["accuracy"]
      for arg, (_, records) in columns.items()
      if name in records
    }
    if not of:
      continue
    axes.errorbar(
      np.array(list(of)) + 0.6 * (i - 2),
      [100 * selection.mean(v) for v in of.values()],
      yerr=[100 * selection.standard_error(v) for v in of.values()],
      **line,
    )
  axes.set_xticks(list(shares.values()))


def _reliability(axes, columns, arg):
  _, chosen = columns[arg]
  for name, line in _lines(columns):
    if name not in chosen:
      continue
    reliability = chosen[name]["test"]["reliability"]
    count, confidence, correct = np.array(reliability)
    # Bins of a few predictions say nothing.
    some = count >= 20
    axes.plot(
      confidence[some] / count[some], correct[some] / count[some], **line
    )
  axes.plot([0, 1], [0, 1], ":", color=canvas_lib.GREY)
  axes.set_xlim(0, 1.02)
  axes.set_ylim(0, 1.02)
