# SPDX-License-Identifier: Apache-2.0
"""Tables and figures of names in sentences and of few labels."""

import json

from configs import loss_few_labels
from configs import loss_spans
from experiments import workdir
from experiments.loss_studies import study
from scripts import loss_span_tables
from scripts import results
from scripts.figures import loss_spans as figures

ENVIRONMENT = {
  "devices": ["cpu"],
  "num_cores": 2,
  "versions": {"jax": "0"},
  "git_sha": "0",
}


def write(folder, config, measured):
  """What a finished config leaves: measured(method, point) at all seeds."""
  with open(folder / f"{config['study']}.jsonl", "w") as file:
    for method in config["methods"]:
      for point in study.points(config, method):
        values = {
          name: [measured(method, point)] * 5 for name in config["measures"]
        }
        record = {
          **study.record_of(config, method, point),
          "validation": values,
          "test": values,
          "environment": ENVIRONMENT,
        }
        file.write(json.dumps(record) + "\n")


def test_tables_of_heads_and_of_r_drop(tmp_path, monkeypatch):
  monkeypatch.setattr(results, "FOLDER", tmp_path)
  makers = (*loss_span_tables.GLOBAL_POINTER, *loss_span_tables.CONSISTENCY)
  assert {make() for make in makers} == {"Not yet run."}

  f1 = {"token_ce": 0.2, "gp": 0.25, "gp_two_passes": 0.3, "gp_r_drop": 0.28}
  config = workdir.as_json(loss_spans.get_config("planted"))
  write(tmp_path, config, lambda method, _: f1.get(method, 0.1))
  heads, r_drop = (
    loss_span_tables.loss_spans_f1(),
    loss_span_tables.loss_spans_r_drop(),
  )
  assert "| GlobalPointer | 5.00 ± 0.00 |" in heads  # minus tags
  of_efficient = heads.partition("| minus GlobalPointer |")[2].splitlines()[2:]
  assert of_efficient[:3] == [
    "| Efficient GlobalPointer | -15.00 ± 0.00 |",
    "| Efficient GlobalPointer, no RoPE | -15.00 ± 0.00 |",
    "",
  ]
  assert "R-Drop" not in heads and "two passes" not in heads
  assert "RoPE" not in r_drop
  assert "| R-Drop, multi-label KL | -2.00 ± 0.00 |" in r_drop
  assert "| GlobalPointer | -5.00 ± 0.00 |" in r_drop
  assert "4 points a method" in heads and "5 seeds" in r_drop
  for make in (
    loss_span_tables.loss_spans_precision,
    loss_span_tables.loss_spans_recall,
  ):
    assert "| Efficient GlobalPointer, no RoPE | 10.0 ± 0.0 |" in make()


def test_few_labels(tmp_path, monkeypatch):
  monkeypatch.setattr(results, "FOLDER", tmp_path)
  config = workdir.as_json(loss_few_labels.get_config("digits"))

  def measured(method, point):
    epsilon = point.get("epsilon", 0)
    best = {"vat": 1.0, "noise": 2.0}.get(method, 0.0)
    return 0.9 - 0.1 * abs(epsilon - best) - point["lr"]

  write(tmp_path, config, measured)
  table = loss_span_tables.loss_few_labels_accuracy()
  assert "| VAT | 89.9 ± 0.0 |" in table
  canvas = figures.draw_few_labels()
  assert len(canvas.legends[0].get_texts()) == 3
  # The smallest rate of each epsilon was chosen.
  records = results.lines("loss_few_labels")
  of_vat = [r for r in records if r["method"] == "vat"]
  found = figures.by_epsilon(of_vat)
  assert list(found) == [0.25, 0.5, 1.0, 2.0, 4.0]
  for epsilon, record in found.items():
    rates = [
      r["point"]["lr"] for r in of_vat if r["point"]["epsilon"] == epsilon
    ]
    assert record["point"]["lr"] == min(rates)
