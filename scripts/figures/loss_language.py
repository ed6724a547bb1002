# SPDX-License-Identifier: Apache-2.0
"""The studies of language models: all points that were tried, none chosen.

A mark is one point, the mean over its seeds.
"""

from configs import loss_adaptation
from configs import loss_oracle
from experiments.loss_studies import selection
from experiments.loss_studies import study
from scripts import loss_language_tables as tables
from scripts.figures import canvas as canvas_lib
from scripts.figures import measured
from scripts.figures import plots

MARKS = {
  "likelihood": (canvas_lib.BLACK, "P"),
  "temperature": (canvas_lib.GREY, "X"),
  "label_smoothing": (canvas_lib.GREEN, "^"),
  "tailr": (canvas_lib.ORANGE, "s"),
  "emo_mode1_fixed": (canvas_lib.BLUE, "o"),
  "emo_mode1_adaptive": (canvas_lib.SKY, "v"),
  "emo_mode2_fixed": (canvas_lib.VERMILION, "D"),
  "emo_mode2_adaptive": (canvas_lib.GREEN, "^"),
}


def of_measure(record: dict, name: str) -> float:
  """As the tables have it: perplexities, BLEU in percent."""
  values = record["test"][name]
  if name.endswith("log_likelihood"):
    values = tables.perplexity(values)
  return selection.mean(values) * (100 if name.endswith("bleu") else 1)


def scatter(axes, read, x: str, y: str) -> None:
  """Every point of every method; a line at each reference's values."""
  config, references, lines = read
  by_key = {selection.key(r): r for r in lines}
  for method in tables.TITLES:
    if method not in config["methods"]:
      continue
    keys = [
      selection.key(study.record_of(config, method, point))
      for point in study.points(config, method)
    ]
    records = [by_key[key] for key in keys if key in by_key]
    if not records:
      continue
    colour, mark = MARKS[method]
    axes.plot(
      [of_measure(r, x) for r in records],
      [of_measure(r, y) for r in records],
      mark,
      color=colour,
      markersize=8,
      alpha=0.8,
      label=tables.TITLES[method],
    )
  for name, record in references.items():
    if x in record["test"] and y in record["test"]:
      axes.plot(
        of_measure(record, x),
        of_measure(record, y),
        "*",
        color=canvas_lib.BLACK,
        markersize=15,
        fillstyle="none" if name == "pretrained" else "full",
        label=tables.TITLES[name],
      )


def panels(read, *, x: str, y: str, x_label: str, title: str):
  """A canvas: y over x of every point, and beside it BLEU over self-BLEU."""
  canvas = canvas_lib.blank(490)
  left = plots.panel(canvas, (0.09, 0.3, 0.38, 0.63), x=x_label, title=title)
  scatter(left, read, x, y)
  right = plots.panel(
    canvas,
    (0.57, 0.3, 0.38, 0.63),
    x="self-BLEU-4, %",
    title="BLEU-4, %",
  )
  scatter(right, read, "self_bleu", "bleu")
  plots.shared_legend(canvas, loc="lower center", ncols=3)
  return canvas


def _something(read, config):
  """A study as it was read, of which at least one point was trained."""
  measured.some(read[2], config)
  return read


def draw_oracle():
  canvas = panels(
    _something(tables.read_oracle(), loss_oracle),
    x="total_variation",
    y="oracle_log_likelihood",
    x_label="total variation to the oracle, a token",
    title="oracle's perplexity of samples",
  )
  canvas.axes[0].set_yscale("log")
  return canvas


def draw_adaptation():
  return panels(
    _something(tables.read_adaptation(), loss_adaptation),
    x="log_likelihood",
    y="emd",
    x_label="test perplexity",
    title="earth mover's distance",
  )
