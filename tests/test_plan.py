# SPDX-License-Identifier: Apache-2.0
"""Plans: chips, topologies, rooflines, and the search for what fits."""

import pytest

from experiments import chips
from experiments.planning import fit
from experiments.planning import roofline

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


def settings(*, data, fsdp, batch_size):
  """The part of a config, as JSON, that the search changes."""
  return {
    "mesh": {"data": data, "fsdp": fsdp},
    "model": {"remat": "none"},
    "train": {"batch_size": batch_size, "accum_steps": 1},
  }


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
  config = settings(data=-1, fsdp=2, batch_size=8 * 64)

  def compile_step(config):
    return memory_of(config, state=state, activations=activations)

  tried = fit.search(
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
  assert fit.flags(overrides) == tried[-1]["flags"]
  assert config["model"]["remat"] == "none"  # the given config stays


def test_the_search_gives_up():
  config = settings(data=1, fsdp=8, batch_size=8)

  def compile_step(config):
    return memory_of(config, state=800, activations=10_000)

  tried = fit.search(
    config,
    compile_step(config),
    num_devices=8,
    usable=100,
    least_spare=0.1,
    compile_step=compile_step,
  )
  assert [row["fits"] for row in tried] == [False] * len(tried)
  assert len(tried) <= 8
