# SPDX-License-Identifier: Apache-2.0
"""What tables say of the points that were tried and chosen."""

import json

from configs import loss_label_noise
from experiments import workdir
from experiments.loss_studies import study
from scripts import loss_study_tables
from scripts import results


def test_chosen_points_tell_the_ends_of_the_search():
  config = workdir.as_json(loss_label_noise.get_config("digits,20"))
  points = study.points(config, "tailr")
  first = min(points, key=lambda p: p["lr"])
  inside = next(p for p in points if p["gamma"] == 0.1 and p["lr"] > 0.001)
  columns = {
    "digits,20": (config, {"tailr": {"point": first}}),
    "digits,40": (config, {"tailr": {"point": inside}}),
  }
  table = loss_study_tables.points_by_data(columns)
  (row,) = (r for r in table.splitlines() if r.startswith("| TaiLr |"))
  assert f"lr {first['lr']:g}*, weight decay {first['weight_decay']:g}" in row
  assert row.endswith(", gamma 0.1 |")
  assert "| focal | - | - |" in table


def test_gamma_is_compared_at_equal_rates(tmp_path, monkeypatch):
  monkeypatch.setattr(results, "FOLDER", tmp_path)
  config = workdir.as_json(loss_label_noise.get_config("digits,20"))
  lines = []
  for method in ("cross_entropy", "tailr"):
    for i, point in enumerate(study.points(config, method)):
      # Validation likes late points; cross-entropy is best at point 0.
      test = {"cross_entropy": 0.99 if i == 0 else 0.5, "tailr": 0.5 + i / 100}
      lines.append(
        {
          **study.record_of(config, method, point),
          "validation": {"accuracy": [i / 100] * 5},
          "test": {"accuracy": [test[method]] * 5},
        }
      )
  text = "".join(json.dumps(line) + "\n" for line in lines)
  (tmp_path / "loss_label_noise.jsonl").write_text(text)
  table = loss_study_tables.loss_label_noise_gamma()
  points = study.points(config, "tailr")
  for gamma in config["methods"]["tailr"]["gamma"]:
    last = max(i for i, p in enumerate(points) if p["gamma"] == gamma)
    assert f"| {gamma:g} | {last:.2f} ± 0.00 |" in table
