# SPDX-License-Identifier: Apache-2.0
"""Plans: chips, rooflines, what fits, and real programs for a TPU v5e."""

import importlib.util
import json
import pathlib
import subprocess
import sys

import pytest

from configs import digits
from experiments import chips
from experiments import plan_compile
from experiments import plan_fit
from experiments import plan_report
from experiments import planning
from experiments import roofline

needs_libtpu = pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None,
  reason="libtpu is not installed: pip install -e '.[tpu]'",
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


# -- Chips --------------------------------------------------------------------


def test_chips_are_complete():
  for name, chip in chips.table().items():
    assert chip.name == name
    assert chip.source.startswith("http") or "http" in chip.source
    # A chip does between 50 and 1000 FLOPs for each byte it can read.
    assert 50 < chip.peak_flops / chip.hbm_bandwidth < 1000
    assert chip.hbm_bandwidth > chip.ici_bandwidth
    if chip.is_tpu:
      share = chip.usable_bytes * chip.devices_per_chip / chip.hbm_bytes
      assert 0.9 < share < 1.01


def test_chips_by_device():
  assert chips.by_device_kind("TPU v5 lite").name == "v5e"
  assert chips.by_device_kind("NVIDIA H200").peak_flops == 989e12
  assert chips.by_device_kind("cpu") is None
  kinds = [k for chip in chips.table().values() for k in chip.device_kinds]
  assert len(kinds) == len(set(kinds))


def test_topologies():
  pod = chips.parse_topology("v4:4x4x8")
  assert (pod.num_chips, pod.num_devices) == (128, 128)
  assert chips.parse_topology("v3:4x8").num_devices == 64  # two per chip


@pytest.mark.parametrize(
  "text, message",
  [
    ("v9:2x2", "the TPUs are v2, v3, v4, v5e, v5p, v6e"),
    ("h200:2x2", "the TPUs are"),
    ("v5e", "write <TPU>:<shape>"),
    ("v5e:banana", "write <TPU>:<shape>"),
    ("v5e:16x32", "v5e comes as 1x1, 2x2, .* 16x16"),
    ("v4:4x8x4", "A <= B <= C"),
    ("v4:16x16x32", "at most 4096 chips"),
    ("v5p:3x4x4", "multiples of 4"),
  ],
)
def test_unknown_topologies_list_those_there_are(text, message):
  with pytest.raises(ValueError, match=message):
    chips.parse_topology(text)


# -- Rooflines ----------------------------------------------------------------


def made_up(**changes):
  """An answer whose times on a v5e are 1, 0.5 and 0.25 seconds."""
  answer = {
    "flops": 197e12,
    "hbm_bytes": 819e9 / 2,
    "num_images": 512,
    "model_flops_per_image": 197e12 * 256 / 512 * 0.75,
    "mesh": {"data": 1, "fsdp": 256},
    "sharded_parameters": 100,
    "memory": {"peak": 0.75 * 16911433728},
    "collectives": {
      "by_kind": [
        dict(kind="all-gather", axes="fsdp", bytes=400, seconds=0.125),
        dict(kind="all-reduce", axes="fsdp", bytes=50, seconds=0.125),
        dict(kind="all-reduce", axes="data", bytes=1000, seconds=0.0),
      ]
    },
  }
  return answer | changes


def test_a_step_takes_as_long_as_its_slowest_part():
  pod = chips.parse_topology("v5e:16x16")
  speed = roofline.speed(made_up(), pod)
  assert speed["seconds"] == {
    "compute": 1.0,
    "hbm": 0.5,
    "interconnect": 0.25,
  }
  assert (speed["step_seconds"], speed["bound_by"]) == (1.0, "compute")
  assert speed["images_per_second_per_chip"] == 2.0
  assert speed["mfu"] == pytest.approx(0.75)
  slow = roofline.speed(made_up(hbm_bytes=4 * 819e9), pod)
  assert (slow["step_seconds"], slow["bound_by"]) == (4.0, "hbm")
  assert slow["mfu"] == pytest.approx(0.75 / 4)


def test_half_a_chip_has_half_its_peak():
  chip = chips.table()["v3"]
  answer = made_up(flops=chip.peak_flops / 2, num_images=64)
  speed = roofline.speed(answer, chips.parse_topology("v3:4x4"))
  assert speed["seconds"]["compute"] == 1.0
  assert speed["images_per_second_per_chip"] == 4.0


def test_spare_memory():
  pod = chips.parse_topology("v5e:16x16")
  assert roofline.spare(made_up(), pod) == pytest.approx(0.25)


def test_costs():
  cost = roofline.cost(
    step_seconds=0.5, num_steps=7200, num_chips=256, usd_per_hour=1.2
  )
  assert (cost["hours"], cost["chip_hours"]) == (1.0, 256.0)
  assert cost["usd"] == pytest.approx(307.2)
  unknown = roofline.cost(
    step_seconds=0.5, num_steps=7200, num_chips=256, usd_per_hour=None
  )
  assert unknown["usd"] is None


def test_traffic_of_fsdp():
  traffic = roofline.fsdp_traffic(made_up(), dtype_bytes=2, accum_steps=1)
  # The all-reduce moves its array twice; that over data is not of fsdp.
  assert traffic["bytes"] == 400 + 2 * 50
  assert traffic["textbook_bytes"] == 3 * 100 * 2
  whole = made_up(mesh={"data": 256, "fsdp": 1})
  whole = roofline.fsdp_traffic(whole, dtype_bytes=2, accum_steps=1)
  assert whole["ratio"] is None


# -- What fits ----------------------------------------------------------------


def memory_of(config, *, state, activations):
  """An answer whose memory is that of an idealised network."""
  parts = {"none": 1.0, "dots": 0.5, "all": 0.1}[config["model"]["remat"]]
  parts /= config["train"]["accum_steps"]
  per_device = state / config["mesh"]["fsdp"]
  peak = per_device + activations * parts
  names = ("parameters", "ema", "optimizer")
  sizes = dict.fromkeys(names, per_device / 3) | {"batch": 0}
  return {"memory": {"peak": peak}, "device_bytes": sizes}


@pytest.mark.parametrize(
  "state, activations, overrides",
  [
    (10, 160, {"model.remat": "dots"}),
    (10, 320, {"model.remat": "dots", "train.accum_steps": 2}),
    (10, 3200, {"model.remat": "all", "train.accum_steps": 4}),
    (300, 40, {"mesh.data": -1, "mesh.fsdp": 8}),
    (
      300,
      100,
      {"mesh.data": -1, "mesh.fsdp": 8, "model.remat": "dots"},
    ),
  ],
)
def test_the_search_finds_what_fits(state, activations, overrides):
  config = small_config(batch_size=8 * 64).to_dict()
  config["mesh"] = {"data": -1, "fsdp": 2}
  config["train"]["accum_steps"] = 1

  def compile_step(config):
    return memory_of(config, state=state, activations=activations)

  tried = plan_fit.search(
    config,
    compile_step(config),
    num_devices=8,
    usable=100,
    least_spare=0.1,
    compile_step=compile_step,
  )
  assert tried[-1]["fits"]
  assert not any(row["fits"] for row in tried[:-1])
  assert tried[-1]["peak"] <= 90
  assert tried[-1]["overrides"] == overrides
  assert plan_fit.flags(overrides) == tried[-1]["flags"]
  assert config["model"]["remat"] == "none"  # the given config stays


def test_the_search_gives_up():
  config = small_config(batch_size=8).to_dict()
  config["mesh"] = {"data": 1, "fsdp": 8}

  def compile_step(config):
    return memory_of(config, state=800, activations=10_000)

  tried = plan_fit.search(
    config,
    compile_step(config),
    num_devices=8,
    usable=100,
    least_spare=0.1,
    compile_step=compile_step,
  )
  assert [row["fits"] for row in tried] == [False] * len(tried)
  assert len(tried) <= 8


# -- Real programs ------------------------------------------------------------


@pytest.fixture(scope="module")
def small_plan():
  return planning.plan(
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
  text = plan_report.text(small_plan)
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


def large_config():
  """Logits of 1024 x 1024 tokens, for each of 1024 examples, do not fit."""
  config = small_config(batch_size=1024)
  config.data.image_size = 64
  config.model.num_res_blocks = (0,)  # convolutions take long to compile
  return planning.prepared(config)


def compile_step(config):
  return planning.compile_program(
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
  tried = plan_fit.search(
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
from experiments import plan_compile
os.environ.update(plan_compile.ENVIRONMENT)
from tests import test_plan as here

for section, key, value in (
  ("mesh", "fsdp", 3), ("train", "batch_size", 2), ("model", "remat", "some")
):
  config = here.small_config()
  config[section][key] = value
  request = dict(config=here.planning.prepared(config), topology=here.TOPOLOGY,
                 program="train_step", effort=-1.0)
  try:
    plan_compile.answer(request)
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
    compile_step(planning.prepared(config))


def test_without_libtpu_the_remedy_is_named(monkeypatch):
  monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
  with pytest.raises(ValueError, match="pip install -e '.\\[tpu\\]'"):
    plan_compile.devices_of(chips.parse_topology(TOPOLOGY))


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
