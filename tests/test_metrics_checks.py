# SPDX-License-Identifier: Apache-2.0
"""The program that checks metrics, and its tables."""

import json

import numpy as np
import PIL.Image
import pytest

from scripts import metrics_tables
from scripts import results as results_lib
from scripts.metric_checks import real_images
from scripts.metric_checks import rows


def test_differences_are_relative_unless_given():
  row = rows.row("a", 1.1, 1.0, against="known", allowed=0.05)
  np.testing.assert_allclose(row["difference"], 0.1)
  given = rows.row("b", 1, 2, against="known", difference=0.2, allowed=0.3)
  assert given["difference"] == 0.2
  nan = rows.row("c", np.nan, 2, against="known", allowed=0.3)
  without = {"check": "d"}
  assert rows.beyond_what_is_allowed([row, given, nan, without]) == ["a", "c"]


def test_what_was_recorded_is_within_what_is_allowed():
  for part in ("distances", "pytorch"):
    newest = results_lib.newest("metrics", part=part)
    assert 2 * newest["num_images"] >= 1_000
    assert rows.beyond_what_is_allowed(newest["rows"]) == []
    assert any("allowed" in row for row in newest["rows"])


def test_images_are_found_in_the_order_of_their_paths(tmp_path):
  for name in ("b/1.jpg", "a/2.jpg", "a/10.jpg"):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    PIL.Image.new("L", (len(name), 3)).save(tmp_path / name)
  found = rows.read_images(tmp_path)
  assert [image.size[0] for image in found] == [8, 7, 7]
  assert {image.mode for image in found} == {"RGB"}
  with pytest.raises(ValueError, match="no .*jpg"):
    rows.read_images(tmp_path / "c")


def test_halves_share_no_image():
  a, b = real_images.halves(list(range(10)), 4)
  assert len(a) == len(b) == 4 and not set(a) & set(b)
  # random.Random(0).shuffle, whose order Python keeps since 3.2.
  assert a + b == [7, 8, 1, 5, 3, 4, 2, 0]


@pytest.fixture
def results(tmp_path, monkeypatch):
  monkeypatch.setattr(results_lib, "FOLDER", tmp_path)

  def write(*records):
    environment = {"versions": {"jax": "0.0"}, "git_sha": "abc"}
    lines = [
      json.dumps({**record, "num_images": 1500, "environment": environment})
      for record in records
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")

  return write


def test_tables_of_nothing(results):
  for make in metrics_tables.MAKERS:
    assert make() == "Not yet run."
  results({"part": "another"})
  for make in metrics_tables.MAKERS:
    assert make() == "Not yet run."


def test_table_of_distances(results):
  kernel = rows.row(
    "kernel distance to clothing",
    1.23456,
    1.2,
    against="known",
    difference=0.1,
    allowed=1,
  )
  frechet = rows.row(
    "Frechet distance to clothing", 99.96, 100.0, against="known", allowed=1
  )
  newest = [kernel | {"standard_error": 0.01}, frechet]
  part = {"part": "distances", "images": "lilies", "weights": "0123"}
  results({**part, "rows": []}, {**part, "rows": newest})
  table = metrics_tables.metrics_distances()
  assert table.startswith("| lilies against | kernel distance | known |")
  assert "| clothing | 1.2346 ± 0.0100 | 1.2 | 100.0 | 100.0 |" in table
  assert table.endswith(
    "1,500 images a side, weights 0123, jax 0.0; commit abc."
  )


def test_table_of_copies(results):
  row = {
    "check": "same images as PNG",
    "kernel_distance": -0.015,
    "standard_error": 0.0004,
    "frechet_distance": -1e-10,
  }
  part = {"part": "copies", "images": "lilies", "weights": "0123"}
  results({**part, "rows": [row]})
  table = metrics_tables.metrics_copies()
  assert table.startswith("| lilies against the | kernel distance |")
  assert "| same images as PNG | -0.0150 ± 0.0004 | 0.00 |" in table


def test_table_of_what_pytorch_gives(results):
  largest = rows.row(
    "features, largest difference",
    0.5,
    0.5,
    against="torch-fidelity",
    difference=2e-5,
    allowed=1,
  )
  recall = rows.row("recall", 0.2, 0.25, against="prdc", allowed=1)
  results(
    {"part": "pytorch", "rows": [largest, recall], "references": {"torch": "1"}}
  )
  table = metrics_tables.metrics_pytorch()
  assert "| features | torch-fidelity |  |  | 2.0e-05 |" in table
  assert "| recall | prdc | 0.2 | 0.25 | 2.0e-01 of it |" in table
  assert "jax 0.0, torch 1; commit abc." in table
