# SPDX-License-Identifier: Apache-2.0
"""The table of likelihoods says of each row how it was measured."""

import json

import pytest

from scripts import likelihood_tables
from scripts import results as results_lib

VLB = {
  "bound": "vlb",
  "num_levels": 17,
  "logsnr_end": 6.5,
  "conditional": True,
  "seed": 0,
  "num_steps": None,
  "num_samples": 128,
  "clip": True,
}
ODE = {
  "bound": "ode",
  "num_levels": 17,
  "logsnr_end": 7.76,
  "conditional": False,
  "seed": 0,
  "num_steps": 32,
  "num_probes": None,
  "dequantisation": "uniform",
}


def record(protocol, bits=2.0, *, commit="one", **changes):
  """A line as the program would write it; the numbers alone are made up."""
  return {
    "config": {
      "data": {"name": "digits"},
      "model": {"name": "uvit", "base_channels": 32},
    },
    "checkpoint_step": 3_000,
    "ema_decay": 0.999,
    "split": "test",
    "protocol": protocol,
    "num_examples": 359,
    "bits_per_dim": bits,
    "prior": 0.0,
    "diffusion": 1.5,
    "reconstruction": 0.5,
    "at_half_the_steps": 2.25,
    "standard_errors": {"bits_per_dim": 0.125},
    "environment": {"devices": ["cpu"], "git_sha": commit},
  } | changes


@pytest.fixture
def table(tmp_path, monkeypatch):
  monkeypatch.setattr(results_lib, "FOLDER", tmp_path)

  def make(*records):
    lines = "".join(json.dumps(r) + "\n" for r in records)
    (tmp_path / "likelihood.jsonl").write_text(lines)
    rows, _, text = likelihood_tables.likelihood().partition("\n\n")
    header, _, *lines = (
      [cell.strip() for cell in line.strip("|").split("|")]
      for line in rows.splitlines()
    )
    return [dict(zip(header, line, strict=True)) for line in lines], text

  return make


def test_what_all_rows_share_stands_below(table):
  (vlb, ode), text = table(record(VLB), record(ODE))
  assert vlb["bits/dim"] == "2.000 ± 0.125"
  assert vlb["images"] == "digits, `test`, 359"
  assert vlb["of it: prior + diffusion + reconstruction"] == (
    "0.000 + 1.500 + 0.500"
  )
  assert ode["bound"] == "ODE, uniform, 32 steps, exact trace"
  assert ode["class given"] == "no" and ode["log-SNR of z_0"] == "7.76"
  assert text.endswith(
    "All rows: greys 17, step 3,000, EMA 0.999, seed 0, device cpu, commit one."
  )
  assert len(vlb) == 6


def test_what_they_do_not_share_stands_in_the_rows(table):
  (vlb, ode), text = table(
    record(VLB | {"seed": 1}, commit="two", checkpoint_step=9_000),
    record(ODE | {"num_levels": 256}),
  )
  assert (vlb["step"], ode["step"]) == ("9,000", "3,000")
  assert (vlb["seed"], ode["seed"]) == ("1", "0")
  assert (vlb["commit"], ode["commit"]) == ("two", "one")
  assert (vlb["greys"], ode["greys"]) == ("17", "256")
  assert text.endswith("All rows: EMA 0.999, device cpu.")


def test_the_newest_of_a_protocol(table):
  lines, _ = table(record(VLB, 3.0), record(ODE), record(VLB, 2.5))
  assert [line["bits/dim"] for line in lines] == [
    "2.500 ± 0.125",
    "2.000 ± 0.125",
  ]


def test_of_another_run_another_row(table):
  wide, unet, early = record(VLB, 2.5), record(VLB, 3.0), record(VLB, 3.5)
  wide["config"]["model"]["base_channels"] = 64
  unet["config"]["model"] |= {"name": "unet", "dropout": 0.1}
  early["checkpoint_step"] = 1_000
  of_folder = [record(VLB, bits) for bits in (4.0, 4.5, 5.0)]
  for r, folder, ref in zip(of_folder, "aab", (32, 64, 32), strict=True):
    r["config"]["data"] = {"name": "folder", "data_dir": f"/data/{folder}"}
    r["config"]["schedule"] = {"ref_at_noise": ref}
  lines, _ = table(record(VLB), wide, unet, early, *of_folder)
  uvit = "model.dropout None, model.name uvit"
  of_unet = "model.base_channels 32, model.dropout 0.1, model.name unet"
  assert {
    (line["images"][0], line["config"], line["step"], line["bits/dim"][:3])
    for line in lines
  } == {
    ("d", f"model.base_channels 32, {uvit}", "3,000", "2.0"),
    ("d", f"model.base_channels 64, {uvit}", "3,000", "2.5"),
    ("d", of_unet, "3,000", "3.0"),
    ("d", f"model.base_channels 32, {uvit}", "1,000", "3.5"),
    ("a", "schedule.ref_at_noise 32", "3,000", "4.0"),
    ("a", "schedule.ref_at_noise 64", "3,000", "4.5"),
    ("b", "", "3,000", "5.0"),
  }


def test_nothing_yet(tmp_path, monkeypatch):
  monkeypatch.setattr(results_lib, "FOLDER", tmp_path)
  assert likelihood_tables.likelihood() == "Not yet run."
