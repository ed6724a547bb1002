# SPDX-License-Identifier: Apache-2.0
"""Every row of the paper is in its table, with our FID where there is one."""

import json

import pytest

from experiments import workdir
from scripts import paper_results
from scripts import paper_rows
from scripts import paper_tables
from scripts import readme_tables
from scripts import results as results_lib

MAKERS = {make.__name__: make for make in paper_tables.MAKERS}


def row_of(table, config, **match):
  """The one row of a table with this config."""
  (row,) = (
    row
    for row in paper_rows.of_table(table)
    if row.config == config
    and all(getattr(row, k) == v for k, v in match.items())
  )
  return row


def record(row, overrides=None, *, frechet=(1.234, 5.678), **changes):
  """A line as evaluate would write it; the numbers alone are made up.

  Args:
    row: whose config it is of.
    overrides: of the config, by dotted key.
    frechet: to training and held-out images.
    **changes: of the record.
  """
  config = paper_rows.load(row)
  config.sample.guidance_scale = row.guidance_scale or 1.0
  steps = config.train.total_steps
  with config.unlocked(), config.ignore_type():
    config.update_from_flattened_dict(overrides or {})
  return {
    "config": workdir.as_json(config),
    "checkpoint_step": steps,
    "ema_decay": config.train.ema_decay,
    "held_out_split": "validation",
    "samples": {
      **config.sample.to_dict(),
      "num_samples": 50_000,
      "num_network_evaluations": config.sample.num_steps,
      "seed": 3,
      "labels": "in turn",
      "features": {
        "name": "inception_fid",
        "weights_hash": "f" * 4,
        "resize": "bilinear",
      },
      "inception_score": [171.64, 3.1],
      "train": {
        "frechet": frechet[0],
        "num_images": 1_281_167,
        "reference_hash": "aa",
      },
      "held_out": {
        "frechet": frechet[1],
        "num_images": 50_000,
        "reference_hash": "bb",
      },
    },
    "environment": {
      "devices": ["TPU"],
      "num_cores": 8,
      "versions": {"jax": "0.9"},
      "git_sha": "abc",
    },
  } | changes


@pytest.fixture
def results(tmp_path, monkeypatch):
  monkeypatch.setattr(results_lib, "FOLDER", tmp_path)

  def write(*records):
    lines = "".join(json.dumps(r) + "\n" for r in records)
    (tmp_path / "imagenet2012.jsonl").write_text(lines)

  return write


ROW = row_of(2, "configs/imagenet_ablations.py:2,256,shift64")
MEASURED = "1.23 / 5.68, IS 171.6, 50,000 samples, inception_fid"


def samples(**changes):
  return {"samples": record(ROW)["samples"] | changes}


# What a run may be that is nearly the row's.
@pytest.mark.parametrize(
  "overrides, changes",
  [
    ({"optim.lr": 1e-4}, {}),
    ({"schedule.ref_at_data": 32.0}, {}),
    ({"model.num_classes": 0}, {}),
    ({"sample.num_steps": 256}, {}),
    ({"sample.guidance_scale": 1.1}, {}),
    ({}, {"checkpoint_step": 1_000_000}),
    ({}, {"held_out_split": "train"}),
    ({}, samples(features={"name": "mobilenet_v2"})),
  ],
)
def test_almost_is_not_the_row(results, overrides, changes):
  other = record(ROW, overrides, frechet=(9.0, 9.0))
  results(other | changes)
  assert paper_results.measured(ROW) == "not yet run"
  # Nor does it hide what was measured before.
  results(record(ROW), other | changes)
  assert paper_results.measured(ROW) == MEASURED


# What differs without being another measurement of the paper's row.
@pytest.mark.parametrize(
  "overrides",
  [
    {},
    {"train.seed": 7},
    {"train.total_steps": 3_000_000},  # goes on after the row's step
    {"data.data_dir": "gs://bucket/tfds", "mesh.fsdp": 8, "eval.batch_size": 8},
  ],
)
def test_the_row(results, overrides):
  results(record(ROW, overrides), {"held_out_split": "validation"})
  assert paper_results.measured(ROW) == MEASURED


def test_the_nearest_to_the_papers_protocol_counts_and_says_its_own(results):
  few = record(ROW, frechet=(10.0, 11.0)) | samples(
    num_samples=5_000,
    features={"name": "inception_pytorch_fid"},
    train={"frechet": 10.0},
    held_out={"frechet": 11.0},
  )
  results(few)
  assert paper_results.measured(ROW) == (
    "10.00 / 11.00, IS 171.6, 5,000 samples, inception_pytorch_fid"
  )
  # Of more samples, then of the original resize, then the newest.
  resized = samples(features={"name": "inception_pytorch_fid"})
  first = record(ROW, frechet=(9.0, 9.0))
  results(first, record(ROW), record(ROW) | resized, few)
  assert paper_results.measured(ROW) == MEASURED


def test_below_a_table_is_the_protocol_of_what_was_measured(results):
  results(record(ROW))
  table, _, notes = MAKERS["paper_table_2"]().partition("\n\n")
  assert MEASURED in table
  assert notes == (
    f"* ours, `{ROW.config}`: step 2,000,000, 512 evaluations of "
    "ancestral uniform in time, no guidance, EMA 0.9999. 50,000 samples of "
    "seed 3, classes in turn, features of inception_fid (ffff) of images "
    "resized bilinear, crop center; 256 pixels: 1,281,167 training "
    "images (aa), 50,000 held out (bb). TPU, 8 cores, jax 0.9, commit abc."
  )
  guided = row_of(9, "configs/imagenet.py:128,uvit", guidance_scale=1.05)
  results(record(guided, {"sample.guidance_interval": (-4.0, 2.0)}))
  # Another sampler than the paper's row has.
  assert "\n\n" not in MAKERS["paper_table_9"]()
  results(record(guided))
  _, _, notes = MAKERS["paper_table_9"]().partition("\n\n")
  assert notes.startswith("* ours, ") and "512 x 2 evaluations" in notes
  assert "guidance 1.05, EMA 0.9999" in notes


def test_a_config_has_a_row_for_each_guidance(results):
  config = "configs/imagenet.py:128,uvit"
  results(record(row_of(9, config, guidance_scale=1.05)))
  for row in paper_rows.of_table(9):
    measured = row.config == config and row.guidance_scale == 1.05
    assert (paper_results.measured(row) == MEASURED) == measured
  assert MEASURED not in readme_tables.imagenet()  # unguided
  results(record(row_of(7, config)))
  (line,) = (
    line for line in readme_tables.imagenet().splitlines() if MEASURED in line
  )
  assert line.startswith(f"| U-ViT 2B, 128 x 128 | `--config={config}` |")
  unguided = row_of(9, config, guidance_scale=1.0)
  assert paper_results.measured(unguided) == MEASURED


def test_steps_tell_table_3_from_table_4(results):
  short = row_of(3, "configs/imagenet_ablations.py:3,16")
  whole = row_of(4, "configs/imagenet_ablations.py:4,12")
  results(record(short))
  assert paper_results.measured(short) == MEASURED
  assert paper_results.measured(whole) == "not yet run"
  # The longer run's checkpoint of 700,000 steps is that of the shorter.
  results(record(whole, checkpoint_step=700_000))
  assert paper_results.measured(short) == MEASURED


def lines_of(table):
  """Its lines as {column: cell}."""
  header, _, *lines = (
    [cell.strip(" *") for cell in line.strip("|").split("|")]
    for line in table.partition("\n\n")[0].splitlines()
  )
  return [dict(zip(header, line, strict=True)) for line in lines]


def test_every_row_has_its_numbers_and_command(results):
  results(record(ROW))
  tables = {n: MAKERS[f"paper_table_{n}"]() for n in (2, 3, 4, 5, 6, 7, 9)}
  tables = {n: lines_of(table) for n, table in tables.items()}
  for row in paper_rows.ROWS:
    name = {7: "system", 9: "scale"}.get(row.table, "row")
    (line,) = (
      line
      for line in tables[row.table]
      if line[name] == row.name
      and line.get("size", str(row.size)) == str(row.size)
    )
    assert line["paper: FID train / eval"] == row.fid
    if row.config is None:
      assert line["train with"] == "-" and line["ours"] == "quoted"
      continue
    if row.guidance_scale is None:
      command, column = paper_rows.train_command(row), "train with"
    else:
      command, column = paper_rows.evaluate_command(row), "measure with"
    assert line[column] == f"`{command}`"
    assert line["ours"] == (MEASURED if row == ROW else "not yet run")
