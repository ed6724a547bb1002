# SPDX-License-Identifier: Apache-2.0
"""One command measures every row of the tables of samplers."""

import os
import pathlib
import subprocess

from scripts import photograph_sampler_tables

ROOT = pathlib.Path(__file__).parent.parent


def commands():
  """The flags of each evaluation that the script would start."""
  printed = subprocess.run(
    ["sh", "scripts/photograph_samplers.sh", "runs/unet", "weights.npz"],
    cwd=ROOT,
    env=os.environ | {"PYTHON": "echo"},
    capture_output=True,
    text=True,
    check=True,
  ).stdout
  for line in printed.splitlines():
    program, *args = line.split(" --")
    assert program == "-m experiments.evaluate"
    yield dict(arg.split("=", 1) for arg in args)


def test_every_row_is_measured_by_the_script():
  found = list(commands())
  assert all(
    flags["workdir"] == "runs/unet"
    and flags["feature_weights"] == "weights.npz"
    and flags["results"] == "experiments/results/photographs.jsonl"
    for flags in found
  )
  measured = {
    (
      flags["method"],
      int(flags["num_steps"]),
      flags["spacing"],
      float(flags.get("guidance_scale", 1)),
      flags.get("guidance_interval"),
    )
    for flags in found
  }
  grids = {flags["grid"] for flags in found}
  assert len(measured) == len(grids) == len(found)
  assert "runs/unet/grids/guidance_1.05_interval.jpg" in grids
  for network in ("unet", "uvit"):
    rows = [r["samples"] for r in photograph_sampler_tables.records(network)]
    assert rows
    for s in rows:
      interval = s["guidance_interval"]
      if network == "uvit" and s["guidance_scale"] != 1:
        # Of its first training by another sampler, as the page says.
        s = s | {"method": "dpmpp_2m_sde"}
      assert (
        s["method"],
        s["num_steps"],
        s["spacing"],
        s["guidance_scale"],
        interval and ",".join(f"{end:g}" for end in interval),
      ) in measured
