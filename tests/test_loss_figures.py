# SPDX-License-Identifier: Apache-2.0
"""Figures of the losses: of what is measured, however little that is."""

import matplotlib.text
import numpy as np
import pytest

from configs import loss_few_labels
from configs import loss_label_noise
from configs import loss_tabular
from experiments import workdir
from scripts import loss_multitask_tables
from scripts import loss_span_tables
from scripts import loss_study_tables
from scripts import results
from scripts.figures import __main__ as figures
from scripts.figures import loss_multitask
from scripts.figures import loss_spans
from scripts.figures import loss_studies
from scripts.figures import measured

# What is drawn of closed forms, programs and photographs.
NOT_OF_LOSSES = {
  "logsnr",
  "noisy_photograph",
  "wavelet",
  "unet",
  "uvit",
  "flowers",
  "clothing",
  "clothing_schedules",
  "clothing_patchings",
  "clothing_multiscale",
  "photograph_schedules",
  "small_schedules",
}


def test_without_results_there_are_commands(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(results, "FOLDER", tmp_path)
  names = [name for name in figures.DRAW if name not in NOT_OF_LOSSES]
  assert figures.draw(tmp_path, ["logsnr", *names]) == ["logsnr"]
  lines = capsys.readouterr().err.splitlines()
  assert [line.split()[1] for line in lines] == [f"{n}.png" for n in names]
  for line in lines:
    program = line.partition(": ")[2].split()
    assert program[:2] == ["python", "-m"]
    assert program[3].startswith("--config=configs/loss_")
  text = "\n".join(lines)
  assert "configs/loss_tabular.py:letter --data_dir=data/tabular\n" in text
  assert "configs/loss_toys.py:zlpr_imbalance\n" in text
  # Neither drawn nor committed is no difference; committed alone is one.
  neither = tmp_path / "loss_tabular.png"
  assert figures.difference(neither, neither) is None
  found = figures.difference(tmp_path / "logsnr.png", neither)
  assert found == "is of results that are not there"


def record(accuracy, **others):
  test = {"accuracy": [accuracy, accuracy + 0.01]} | others
  return {"seeds": [0, 1], "test": test}


def labels_of(canvas):
  found = []
  for axes in canvas.axes:
    found += axes.get_legend_handles_labels()[1]
  return set(found)


def tabular(**found):
  config = workdir.as_json(loss_tabular.get_config("iris"))
  return {
    arg: (config, {name: record(value) for name, value in of.items()})
    for arg, of in found.items()
  }


def dots(columns):
  return loss_studies.dots(
    loss_tabular, columns, "accuracy", "cross_entropy", "points", (-4, 4)
  )


def test_dots_leave_out_what_is_not_finished():
  columns = tabular(
    iris=dict(cross_entropy=0.9, hinge=0.91, tailr=0.92),
    wine=dict(hinge=0.9, tailr=0.9),  # minus what?
    digits=dict(cross_entropy=0.9, tailr=0.93),
    adult=dict(cross_entropy=0.9),  # what minus it?
  )
  (axes,) = dots(columns).axes
  assert [text.get_text() for text in axes.get_yticklabels()] == [
    "iris",
    "digits",
  ]
  hinge, tailr = axes.containers
  assert [c.get_label() for c in axes.containers] == ["hinge", "TaiLr"]
  np.testing.assert_allclose(hinge.lines[0].get_xdata(), [1, np.nan])
  np.testing.assert_allclose(tailr.lines[0].get_xdata(), [2, 3])
  # A method looks alike, whoever else is there.
  titles = [title for _, title in loss_study_tables.methods_of(columns)][1:]
  colour, _ = loss_studies.MARKS[titles.index("TaiLr")]
  assert tailr.lines[0].get_color() == colour
  with pytest.raises(measured.NotYetRun, match=r"configs/loss_tabular\.py"):
    dots(tabular(wine=dict(hinge=0.9)))


def test_what_is_beyond_either_end_has_an_arrow():
  columns = tabular(
    iris=dict(cross_entropy=0.5, hinge=0.44, sigmoid=0.43, tailr=0.48),
    wine=dict(cross_entropy=0.5, hinge=0.57, sigmoid=0.52, tailr=0.53),
  )
  canvas = dots(columns)
  (axes,) = canvas.axes
  arrows = {
    text.get_text(): text
    for text in axes.texts
    if isinstance(text, matplotlib.text.Annotation)
  }
  assert {t: a.xy[0] for t, a in arrows.items()} == {"-6": -4, "-7": -4, "7": 4}
  canvas.draw_without_rendering()
  boxes = {
    name: matplotlib.text.Text.get_window_extent(arrow)
    for name, arrow in arrows.items()
  }
  assert not boxes["-6"].overlaps(boxes["-7"])
  inside = axes.get_window_extent()
  for box in boxes.values():
    assert inside.x0 < box.x0 < box.x1 < inside.x1


def test_label_noise_of_some(monkeypatch):
  reliability = [[50, 50], [20, 40], [25, 45]]
  config = workdir.as_json(loss_label_noise.get_config("digits,0"))

  def column(**values):
    return config, {
      name: record(value, reliability=reliability)
      for name, value in values.items()
    }

  columns = {
    "digits,0": column(cross_entropy=0.9, tailr=0.9, focal=0.9),
    "digits,40": column(cross_entropy=0.7, tailr=0.8),
    "mnist,0": column(cross_entropy=0.9),
  }
  monkeypatch.setattr(loss_study_tables, "label_noise", lambda: columns)
  canvas = loss_studies.draw_label_noise()
  left, right = canvas.axes  # mnist has nothing at 40 %.
  assert [c.get_label() for c in left.containers] == [
    "cross-entropy",
    "TaiLr",
    "focal",
  ]
  assert [len(c.lines[0].get_xdata()) for c in left.containers] == [2, 2, 1]
  assert len(right.get_lines()) == 2 + 1  # and the diagonal


def test_two_tasks_of_some(monkeypatch):
  def of(**values):
    return {
      "seeds": [0, 1],
      "training": {name: [value] * 4 for name, value in values.items()},
    }

  found = {
    ("mnist", "digit"): {
      "equal": of(test_loss=2.0),
      "primary_secondary": of(test_loss=1.0, conflict=0.5),
    },
    ("mnist", "decay"): {"equal": of(test_loss=3.0)},
    ("digits", "digit"): {"equal": of(test_loss=2.0)},
  }
  monkeypatch.setattr(loss_multitask_tables, "chosen", lambda: found)
  canvas = loss_multitask.draw_losses()
  titles = {axes.get_title() for axes in canvas.axes}
  assert titles == {"digit; parity", "noisy labels; decay"}
  texts = [text.get_text() for text in canvas.legends[0].get_texts()]
  assert texts == ["mean", "primary / secondary"]
  (axes,) = loss_multitask.draw_conflicts().axes
  (curve,) = axes.get_lines()
  np.testing.assert_allclose(curve.get_ydata(), [25] * 4)


def test_few_labels_of_some(monkeypatch):
  config = workdir.as_json(loss_few_labels.get_config("digits"))
  of_vat = [
    record(0.9)
    | {"point": {"epsilon": epsilon}, "validation": {"accuracy": [0.9]}}
    for epsilon in (0.5, 2.0)
  ]
  columns = {"digits": (config, {"vat": of_vat[0]}), "mnist": (config, {})}
  finished = iter([{"vat": of_vat}, {}])
  monkeypatch.setattr(loss_span_tables, "few_labels", lambda: columns)
  monkeypatch.setattr(
    loss_study_tables, "finished", lambda config, lines: next(finished)
  )
  canvas = loss_spans.draw_few_labels()
  (axes,) = canvas.axes
  assert [t.get_text() for t in axes.get_xticklabels()] == ["0.5", "2"]
  assert labels_of(canvas) == {"VAT"}
