# SPDX-License-Identifier: Apache-2.0
"""Rows of the ablations' tables are made of the right runs."""

import json

import pytest

from experiments import workdir
from scripts import photograph_tables
from scripts.sweep import points as points_lib


def record(arg, overrides, *, kernel, step=2_000):
  """A line as evaluate would write it; the numbers alone are made up."""
  config = points_lib.parse_config(f"configs/photographs.py:{arg}", overrides)
  distances = dict(kernel=kernel, frechet=100.0, precision=0.5, recall=0.25)
  return {
    "config": workdir.as_json(config),
    "checkpoint_step": step,
    "samples": {"train": distances, "held_out": distances},
  }


def shifted(ref, seed, **kwargs):
  overrides = {
    "schedule.ref_at_noise": ref,
    "schedule.ref_at_data": ref,
    "train.seed": seed,
    "data.data_dir": "somewhere",
  }
  return record("128,table2", overrides, **kwargs)


@pytest.fixture
def results(tmp_path, monkeypatch):
  monkeypatch.setattr(photograph_tables, "RESULTS", tmp_path)

  def write(records):
    lines = "".join(json.dumps(r) + "\n" for r in records)
    (tmp_path / "photographs.jsonl").write_text(lines)

  return write


def test_seeds_of_a_row_come_together(results):
  results(
    [
      shifted(128.0, 0, kernel=9.0),  # evaluated again below
      shifted(128.0, 0, kernel=2.0),
      shifted(128.0, 1, kernel=4.0, step=1_500),
      shifted(32.0, 0, kernel=1.5),
      {"config": {}, "held_out_loss": []},  # without samples
    ]
  )
  (first, second) = photograph_tables.study_rows(
    128, "table2", photograph_tables.records()
  )
  # Mean 3, and sqrt(((2 - 3)^2 + (4 - 3)^2) / 1 / 2) = 1.
  assert first[1] == "ref_at_noise 128.0, ref_at_data 128.0"
  assert first[2:5] == ("2", "1,500", "3.000 ± 1.000")
  assert second[2:5] == ("1", "2,000", "1.500")


def test_other_runs_stay_out(results):
  other = shifted(128.0, 0, kernel=7.0)
  other["config"]["optim"]["lr"] = 5e-4
  guided = shifted(128.0, 1, kernel=7.0)
  guided["config"]["sample"]["guidance_scale"] = 3.0
  results([other, guided])
  found = photograph_tables.records()
  assert photograph_tables.study_rows(128, "table2", found) == []
  by_name = {make.__name__: make for make in photograph_tables.MAKERS}
  assert by_name["photographs_table2"]() == "Not yet run."
