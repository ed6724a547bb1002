# SPDX-License-Identifier: Apache-2.0
"""Names in sentences and few labels, from experiments/results."""

from experiments.loss_studies import selection
from scripts import loss_span_tables
from scripts import loss_study_tables
from scripts import results
from scripts.figures import canvas as canvas_lib
from scripts.figures import loss_studies


def draw_spans():
  return loss_studies.dots(
    loss_span_tables.spans(),
    "f1",
    "token_ce",
    "test F1 of names minus that of tags, points",
    (-15, 5),
  )


def by_epsilon(records: list[dict]) -> dict[float, dict]:
  """The record of each epsilon that validation chooses, by epsilon."""
  epsilons = sorted({r["point"]["epsilon"] for r in records})
  return {
    epsilon: selection.best(
      [r for r in records if r["point"]["epsilon"] == epsilon], "accuracy"
    )
    for epsilon in epsilons
  }


def draw_few_labels():
  """Test accuracy over the norm of the step, one panel a data set."""
  columns = loss_span_tables.few_labels()
  canvas = canvas_lib.blank(410)
  for i, (arg, (config, chosen)) in enumerate(columns.items()):
    axes = canvas.add_axes((0.08 + 0.49 * i, 0.15, 0.41, 0.67))
    lines = results.lines(config["study"])
    records = loss_study_tables.finished(config, lines)
    for names, label, colour, mark in (
      (("vat",), "VAT", canvas_lib.VERMILION, "D"),
      (("noise", "noise_large"), "random step", canvas_lib.BLUE, "o"),
    ):
      found = by_epsilon([r for name in names for r in records.get(name, [])])
      values = [r["test"]["accuracy"] for r in found.values()]
      axes.errorbar(
        list(found),
        [100 * selection.mean(v) for v in values],
        yerr=[100 * selection.standard_error(v) for v in values],
        marker=mark,
        color=colour,
        markersize=7,
        linewidth=1.8,
        label=label,
      )
    alone = 100 * selection.mean(chosen["supervised"]["test"]["accuracy"])
    axes.axhline(
      alone,
      color=canvas_lib.BLACK,
      linestyle=":",
      linewidth=1.8,
      label="labels alone",
    )
    ticks = list(found)
    axes.set_xscale("log")
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.minorticks_off()
    axes.set_title(f"{arg}: test accuracy, %", size=15)
    axes.set_xlabel("norm of the step", size=14)
    axes.tick_params(labelsize=13)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
  canvas.legend(
    *axes.get_legend_handles_labels(),
    ncols=3,
    fontsize=13,
    frameon=False,
    loc="upper center",
  )
  return canvas
