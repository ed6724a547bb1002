# SPDX-License-Identifier: Apache-2.0
"""Names in sentences and few labels, from experiments/results."""

from configs import loss_few_labels
from configs import loss_spans
from experiments.loss_studies import selection
from scripts import loss_span_tables
from scripts import loss_study_tables
from scripts import results
from scripts.figures import canvas as canvas_lib
from scripts.figures import loss_studies
from scripts.figures import measured
from scripts.figures import plots


def draw_heads():
  return loss_studies.dots(
    loss_spans,
    loss_span_tables.heads(loss_span_tables.spans()),
    "f1",
    "token_ce",
    "test F1 of names minus that of tags, points",
    (-20, 3),
  )


def draw_r_drop():
  return loss_studies.dots(
    loss_spans,
    loss_span_tables.only(loss_span_tables.spans(), loss_span_tables.R_DROP),
    "f1",
    "gp_two_passes",
    "test F1 of names minus that of two passes, points",
    (-7, 2),
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


STEPS = (
  (("vat",), "VAT", canvas_lib.VERMILION, "D"),
  (("noise", "noise_large"), "random step", canvas_lib.BLUE, "o"),
)


def draw_few_labels():
  """Test accuracy over the norm of the step, one panel a data set."""
  found = {}
  for arg, (config, chosen) in loss_span_tables.few_labels().items():
    lines = results.lines(config["study"])
    records = loss_study_tables.finished(config, lines)
    if any(name in records for names, *_ in STEPS for name in names):
      found[arg] = (records, chosen)
  measured.some(found, loss_few_labels)
  canvas = canvas_lib.blank(410)
  for i, (arg, (records, chosen)) in enumerate(found.items()):
    axes = canvas.add_axes((0.08 + 0.49 * i, 0.15, 0.41, 0.67))
    ticks = set()
    for names, label, colour, mark in STEPS:
      of = by_epsilon([r for name in names for r in records.get(name, [])])
      if not of:
        continue
      values = [r["test"]["accuracy"] for r in of.values()]
      axes.errorbar(
        list(of),
        [100 * selection.mean(v) for v in values],
        yerr=[100 * selection.standard_error(v) for v in values],
        marker=mark,
        color=colour,
        markersize=7,
        linewidth=1.8,
        label=label,
      )
      ticks.update(of)
    if "supervised" in chosen:
      axes.axhline(
        100 * selection.mean(chosen["supervised"]["test"]["accuracy"]),
        color=canvas_lib.BLACK,
        linestyle=":",
        linewidth=1.8,
        label="labels alone",
      )
    axes.set_xscale("log")
    axes.set_xticks(sorted(ticks), [f"{t:g}" for t in sorted(ticks)])
    axes.minorticks_off()
    axes.set_title(f"{arg}: test accuracy, %", size=15)
    axes.set_xlabel("norm of the step", size=14)
    axes.tick_params(labelsize=13)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
  plots.shared_legend(canvas, loc="upper center", ncols=3)
  return canvas
