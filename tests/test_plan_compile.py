# SPDX-License-Identifier: Apache-2.0
"""Plans of real programs, compiled here for four TPU v5e."""

import importlib.util
import json
import pathlib
import subprocess
import sys

import pytest

from configs import digits
from configs import imagenet_ablations
from experiments import chips
from experiments import records
from experiments.planning import child
from experiments.planning import fit
from experiments.planning import planner
from experiments.planning import report
from experiments.planning import roofline
from scripts import plan_rows
from scripts import plan_tables
from scripts import plans
from scripts import results as results_lib
from scripts.sweep import points as points_lib

needs_libtpu = pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None,
  reason="libtpu is not installed: pip install -e '.[plan]'",
)
TOPOLOGY = "v5e:2x2"
NUM_STEPS = 10  # of the sampler


def small_config(**train):
  """A U-ViT of 0.9 M parameters on four chips."""
  config = digits.get_config()
  config.model.update(
    dtype="bfloat16",
    channel_multiplier=(1, 4),
    num_res_blocks=(1,),
    num_transformer_blocks=4,
    scan_unroll=1,
    patching="none",
    num_heads=2,
    emb_channels=64,
  )
  config.mesh.fsdp = 4
  config.sample.update(
    method="ddim", num_steps=NUM_STEPS, guidance_scale=1.0, spacing="time"
  )
  config.eval.batch_size = 8
  config.train.batch_size = 8
  config.train.update(train)
  return config


# -- Real programs ------------------------------------------------------------


@pytest.fixture(scope="module")
def small_plan():
  return planner.plan(
    small_config(), TOPOLOGY, price_per_chip_hour=2.0, num_steps=1800
  )


@needs_libtpu
def test_memory_of_a_real_step(small_plan):
  step = small_plan["train_step"]
  parts = step["device_bytes"]
  assert parts["ema"] == parts["parameters"]
  assert parts["optimizer"] == pytest.approx(2 * parts["ema"], rel=1e-3)
  # A device holds a quarter of nearly all float32 parameters.
  assert step["sharded_parameters"] > 0.98 * step["num_parameters"]
  quarter = step["num_parameters"] * 4 / 4
  assert quarter < parts["parameters"] < 1.05 * quarter
  # Arguments are stored in tiles, so they take a little more than their size.
  assert sum(parts.values()) < step["memory"]["arguments"]
  assert step["memory"]["arguments"] < step["memory"]["peak"]
  assert step["fits"] and small_plan["remedies"] == []


@needs_libtpu
def test_flops_of_real_programs(small_plan):
  for name in ("train_step", "sample"):
    answer = small_plan[name]
    assert answer["unknown_loops"] == 0
    images = answer["num_images"] / 4  # of a device
    ratio = answer["flops"] / images / answer["model_flops_per_image"]
    # Without rematerialisation, and convolutions skip what is padding: of 8 x 8
    # pixels 1 - (22 / 24)^2 = 16 %.
    assert 0.84 < ratio < 1.02, name


@needs_libtpu
def test_fsdp_of_a_real_step_is_the_textbooks(small_plan):
  assert small_plan["fsdp"]["ratio"] == pytest.approx(1, abs=0.2)
  for name in ("train_step", "sample"):
    found = small_plan[name]["collectives"]
    assert found["of_batch_bytes"] < 0.02 * found["bytes"]


@needs_libtpu
def test_the_sampler_gathers_once_a_step(small_plan):
  rows = small_plan["sample"]["collectives"]["by_kind"]
  gathered = sum(row["bytes"] for row in rows)
  once = 2 * small_plan["sample"]["sharded_parameters"]
  assert gathered == pytest.approx(NUM_STEPS * once, rel=0.1)


@needs_libtpu
def test_cost_and_report(small_plan):
  cost = small_plan["cost"]
  assert cost["num_steps"] == 1800
  assert cost["usd"] == pytest.approx(
    small_plan["train_step"]["speed"]["step_seconds"] * 0.5 * 4 * 2.0
  )
  assert json.loads(json.dumps(small_plan)) == small_plan
  text = report.text(small_plan)
  for words in (
    "4 chips, mesh data=1 fsdp=4, remat none, batch 8 (2 a device",
    "activations, gradients",
    "of 15.75 GiB",
    "MFU",
    "all-gather",
    "textbook",
    "at $2.0 a chip-hour",
  ):
    assert words in text
  assert "The sampler leaves" not in text
  too_large = small_plan["sample"] | {"fits": False}
  assert "lower eval.batch_size=" in report.text(
    small_plan | {"sample": too_large}
  )


def large_config():
  """Logits of 1024 x 1024 tokens, for each of 1024 examples, do not fit."""
  config = small_config(batch_size=1024)
  config.data.image_size = 64
  config.model.num_res_blocks = (0,)  # convolutions take long to compile
  return planner.prepared(config)


def compile_step(config):
  return planner.compile_program(
    config, topology=TOPOLOGY, program="train_step", effort=-1.0
  )


@needs_libtpu
def test_a_step_that_is_too_large_says_how_large():
  answer = compile_step(large_config())
  assert answer["error"] == "memory"
  usable = chips.parse_topology(TOPOLOGY).chip.usable_bytes
  logits = 256 * 2 * 1024**2 * 2 * 4  # 256 examples, two heads, four blocks
  assert answer["needed"] > usable
  assert logits < answer["needed"] < 10 * logits


@needs_libtpu
@pytest.mark.slow
def test_what_makes_a_real_step_fit():
  config = large_config()
  tried = fit.search(
    config,
    compile_step(config),
    num_devices=4,
    usable=chips.parse_topology(TOPOLOGY).chip.usable_bytes,
    least_spare=roofline.SPARE,
    compile_step=compile_step,
  )
  assert tried[-1]["fits"]
  assert tried[-1]["overrides"] == {"model.remat": "dots"}


# -- Errors -------------------------------------------------------------------


MISTAKES = """
import os
from experiments.planning import child
os.environ.update(child.ENVIRONMENT)
from tests import test_plan_compile as here

for section, key, value in (
  ("mesh", "fsdp", 3), ("train", "batch_size", 2), ("model", "remat", "some")
):
  config = here.small_config()
  config[section][key] = value
  request = dict(config=here.planner.prepared(config), topology=here.TOPOLOGY,
                 program="train_step", effort=-1.0)
  try:
    child.answer(request)
  except ValueError as error:
    print(error)
"""


@needs_libtpu
def test_mistakes_are_found_before_anything_is_compiled():
  done = subprocess.run(
    [sys.executable, "-c", MISTAKES],
    cwd=pathlib.Path(__file__).parent.parent,
    capture_output=True,
    text=True,
    check=True,
  )
  mesh, batch, remat = done.stdout.splitlines()
  assert "mesh.fsdp=3 does not make the 4 devices" in mesh
  assert "batch_size=2 is not divisible by 4 devices" in batch
  assert "none, dots, all" in remat
  # From a process of its own, too, it is a mistake and no crash.
  with pytest.raises(ValueError, match="mesh.fsdp=3"):
    config = small_config()
    config.mesh.fsdp = 3
    compile_step(planner.prepared(config))


def test_without_libtpu_the_remedy_is_named(monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(ValueError, match="pip install -e '.\\[plan\\]'"):
    child.devices_of(chips.parse_topology(TOPOLOGY))


def test_the_program_says_it_in_one_line():
  done = subprocess.run(
    [
      sys.executable,
      "-m",
      "experiments.plan",
      "--config=configs/digits.py",
      "--topology=v5e:3x3",
    ],
    cwd=pathlib.Path(__file__).parent.parent,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 2
  assert done.stderr.startswith("error: topology 'v5e:3x3'")
  assert done.stderr.count("\n") == 1


# -- The table of the paper's configs -----------------------------------------


@needs_libtpu
def test_tables_show_the_newest_plan(small_plan, tmp_path, monkeypatch):
  monkeypatch.setattr(results_lib, "FOLDER", tmp_path)
  row = {"config": "configs/imagenet.py:256,uvit"}
  old = small_plan | {"overrides": small_plan["overrides"] | {"mesh.data": 77}}
  for plan in (old, small_plan):
    records.append_result(tmp_path / "plans.jsonl", row | plan)
  for make in plan_tables.MAKERS:
    if make is plan_tables.plans_ablations:
      continue  # They are U-Nets.
    lines = make().splitlines()
    name = "U-ViT" if make is plan_tables.plans_sizes else "U-ViT 256"
    if make is not plan_tables.plans_sizes:  # has no 128 to compare with
      assert len(lines) == 3
      assert lines[2].startswith(f"| {name}, {TOPOLOGY} |")
    assert len({line.count("|") for line in lines}) == 1
  assert "| 1 x 4 | none | 8 / 1 |" in plan_tables.plans_memory()
  ratio = f"{small_plan['fsdp']['ratio']:.2f}"
  assert f"| {ratio} |" in plan_tables.plans_collectives()


@needs_libtpu
def test_a_plan_that_does_not_fit_is_in_the_table(
  small_plan, tmp_path, monkeypatch
):
  monkeypatch.setattr(results_lib, "FOLDER", tmp_path)
  step = small_plan["train_step"]
  step = {k: v for k, v in step.items() if k not in ("memory", "speed")}
  plan = small_plan | {
    "config": "configs/imagenet.py:128,unet",
    "train_step": step | {"needed": 32 * 2**30, "fits": False},
    "remedies": [{"flags": "--config.mesh.fsdp=8", "fits": True}],
  }
  records.append_result(tmp_path / "plans.jsonl", plan)
  assert "| 32.0 | 15.8 | **does not fit** |" in plan_tables.plans_memory()
  settings = plan_tables.plans_settings().splitlines()[2]
  assert settings.endswith("| none | 8 | 1 | with `--config.mesh.fsdp=8` |")
  assert "Not yet planned." in plan_tables.plans_speed()


@needs_libtpu
def test_rows_of_one_program_share_its_plan(small_plan, tmp_path, monkeypatch):
  monkeypatch.setattr(results_lib, "FOLDER", tmp_path)
  plan = small_plan | {
    "config": "configs/imagenet_ablations.py:5,dwt_2",
    "topology": plan_rows.ABLATIONS_TOPOLOGY,
  }
  records.append_result(tmp_path / "plans.jsonl", plan)
  _, _, *rows = plan_tables.plans_ablations().splitlines()
  cells = [row.strip("| ").split(" | ") for row in rows]
  assert [c[0] for c in cells] == list(imagenet_ablations.ROWS)
  planned = [c for c in cells if c[1] != "not yet planned"]
  assert [c[0] for c in planned] == ["5,dwt_2", "6,512,plain"]
  assert planned[0][1:] == planned[1][1:]
  assert planned[0][-1] == "5,dwt_2"
  assert "Not yet planned." in plan_tables.plans_memory()


def test_each_of_the_papers_configs_is_planned():
  rows = plan_rows.rows()
  assert len(rows) == len(set(rows))
  for config, topology, _ in rows:
    chips.parse_topology(topology)
    kind = "uvit" if config.endswith(",uvit") else "unet"
    assert points_lib.parse_config(config, {}).model.name == kind
  assert set(plan_tables.PAPER_SPEED) <= {row[:2] for row in rows}


def test_guided_samplers_are_planned():
  """Table 9's, of three sizes; a scale is a number in the program."""
  guided = [row for row in plan_rows.rows() if row.guidance_scale]
  assert [row.config for row in guided] == [
    f"configs/imagenet.py:{size},uvit" for size in (128, 256, 512)
  ]
  assert str(guided[0]) == "configs/imagenet.py:128,uvit v5e:16x16 guided"


def test_a_guided_plan_is_not_the_unguided(tmp_path):
  path = tmp_path / "plans.jsonl"
  row = dict(config="c", topology="t", code="abc", guidance_scale=None)
  records.append_result(path, row | {"guidance_scale": 1.1})
  assert not plans.is_done(path, row)
  # As rows were before there were guided ones.
  records.append_result(
    path, {k: row[k] for k in ("config", "topology", "code")}
  )
  assert plans.is_done(path, row)
  assert plans.is_done(path, row | {"guidance_scale": 1.1})


def test_each_row_of_the_papers_ablations_is_planned_once_a_program():
  planned = plan_rows.ablations()
  assert [c.partition(":")[2] for c in planned] == list(imagenet_ablations.ROWS)
  where = plan_rows.ABLATIONS_TOPOLOGY
  rows = {plan_rows.Row(config, where) for config in planned.values()}
  assert rows <= set(plan_rows.rows())
  ablation = "configs/imagenet_ablations.py:{}".format
  headline = "configs/imagenet.py:{},unet".format
  # A schedule is two numbers; the sixteenth of table 3 is the headline's.
  assert planned[ablation("2,256,cosine")] == headline(256)
  assert planned[ablation("3,16")] == headline(128)
  assert planned[ablation("6,512,plain")] == ablation("5,dwt_2")
  assert planned[ablation("3,none")] == ablation("3,none")
  assert len(set(planned.values())) == 19


def test_what_is_planned_is_not_planned_again(tmp_path):
  path = tmp_path / "plans.jsonl"
  row = {"config": "a", "topology": "b", "libtpu": "c", "code": "d"}
  assert not plans.is_done(path, row)
  records.append_result(path, row | {"train_step": {}})
  assert plans.is_done(path, row)
  assert not plans.is_done(path, row | {"code": "e"})
  assert not plans.is_done(path, row | {"libtpu": "newer"})
  records.append_result(path, row | {"code": None})
  assert not plans.is_done(path, row | {"code": None})  # not committed
