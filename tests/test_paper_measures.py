# SPDX-License-Identifier: Apache-2.0
"""What is measured of the paper: memory and FLOPs, pooling, speed."""

import json

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import real_runs

from configs import imagenet_ablations
from scripts import narrow_networks
from scripts import paper_convolutions
from scripts import paper_measured_tables
from scripts import paper_pooling
from scripts import plan_rows
from scripts import results as results_lib
from scripts import step_measures
from simple_diffusion import programs as programs_lib

RESULTS = real_runs.ROOT / "experiments" / "results"


def newest(name, **match):
  lines = (RESULTS / f"paper_{name}.jsonl").read_text().splitlines()
  records = [json.loads(line) for line in lines]
  return [r for r in records if match.items() <= r.items()][-1]


def layer(batch, side, channels):
  """Of a 3x3 convolution, by hand: a row of n pixels has 3n - 2 taps."""
  return {
    "kernel_bytes": 4 * 9 * channels**2,
    "feature_bytes": 2 * batch * side**2 * channels,
    "flops": 2 * batch * (3 * side - 2) ** 2 * channels**2,
  }


def test_layers_are_measured_as_by_hand():
  found = paper_convolutions.measure(4, 8, 16)
  expected = layer(4, 8, 16)
  assert {key: found[key] for key in expected} == expected
  total = 5 * expected["kernel_bytes"] + expected["feature_bytes"]
  assert found["total_bytes"] == total


def test_recorded_layers_are_the_papers():
  first, second = newest("convolutions")["layers"]
  assert first | layer(1024, 256, 128) == first
  assert second | layer(1024, 16, 1024) == second
  # arXiv 2301.11093, table 1: "16 GB" and "0.7 GB".
  assert round(first["total_bytes"] / 2**30) == 16
  assert round(second["total_bytes"] / 2**30, 1) == 0.7


@pytest.fixture
def noise():
  return np.random.default_rng(0).standard_normal((8, 64, 64, 3), np.float32)


def gains(x, eps, name):
  (transform,) = (t for n, _, t in paper_pooling.TRANSFORMS if n == name)
  return paper_pooling.gains(np.float32(x), eps, transform)


# A picture without detail, 64 x 64.
SMOOTH = np.broadcast_to(np.linspace(-1, 1, 64)[:, None, None], (64, 64, 3))


def test_a_smooth_picture_gains_the_square_of_the_factor(noise):
  found = gains(SMOOTH, noise, "means of 4 x 4")
  assert found["signal"] == pytest.approx(1, rel=0.01)
  assert found["noise"] == pytest.approx(16, rel=0.05)
  assert found["snr"] == found["noise"] * found["signal"]
  assert found["contrast_snr"] == pytest.approx(found["snr"], rel=1e-4)


def test_pooling_loses_what_is_finer(noise):
  # Rows of +-1 on a colour: nothing but the colour is left.
  rows = np.where(np.arange(64) % 2, 1, -1)[:, None, None]
  picture = np.broadcast_to(rows + np.array([0.5, 0, -0.5]), (64, 64, 3))
  found = gains(picture, noise, "means of 2 x 2")
  colour = (0.25 + 0 + 0.25) / 3
  assert found["signal"] == pytest.approx(colour / (1 + colour))
  assert found["contrast_snr"] == pytest.approx(0, abs=1e-4)
  # Blocks of 2x2 pixels are kept.
  blocks = np.kron(np.random.default_rng(1).normal(size=(32, 32)), [[1, 1]] * 2)
  found = gains(
    np.repeat(blocks[:, :, None], 3, axis=-1), noise, "means of 2 x 2"
  )
  assert found["contrast_snr"] == pytest.approx(found["noise"], rel=1e-4)


def test_the_wavelets_low_band_is_no_average(noise):
  # Norms of the 5/3 low-pass (-1, 2, 6, 2, -1)/8 and of it applied twice.
  once = np.array([-1, 2, 6, 2, -1]) / 8
  twice = np.convolve(once, np.kron(once, [1, 0])[:-1])
  for name, taps in (("5/3 wavelet, LL1", once), ("5/3 wavelet, LL2", twice)):
    expected = 1 / np.sum(taps**2) ** 2
    found = gains(SMOOTH, noise, name)
    assert found["signal"] == pytest.approx(1, rel=0.05)
    assert found["noise"] == pytest.approx(expected, rel=0.06), name


def test_recorded_gains_are_at_most_the_square():
  for row in newest("pooling")["rows"]:
    if "means" in row["transform"]:
      square = row["factor"] ** 2
      assert row["noise"] == pytest.approx(square, rel=0.02)
      assert 0.8 * square < row["snr"] < square


def test_relative_speeds_are_of_neighbours_in_time():
  # The machine is three times slower in the second round, for all.
  seconds = np.array([[1.0, 3.0, 1.0], [2.0, 6.0, 2.5], [0.5, 1.5, 0.5]])
  low, median, high = step_measures.relative_speeds(seconds, 0)
  np.testing.assert_allclose(low, [1.0, 0.45, 2.0])
  np.testing.assert_allclose(median, [1.0, 0.5, 2.0])
  np.testing.assert_allclose(high, [1.0, 0.5, 2.0])


def test_narrow_networks_keep_their_shape():
  config = imagenet_ablations.get_config("5,none")
  narrow = narrow_networks.narrowed(
    config, divisor=8, batch_size=2, dtype="float32"
  )
  assert (narrow.model.base_channels, narrow.model.emb_channels) == (16, 128)
  assert narrow.train.batch_size == 2
  for name in ("channel_multiplier", "num_res_blocks", "patching"):
    assert narrow.model[name] == config.model[name]
  assert config.model.base_channels == 128
  with pytest.raises(ValueError, match="--width_divisor=3.*base_channels=128"):
    narrow_networks.narrowed(config, divisor=3, batch_size=2, dtype="float32")


def test_a_state_of_zeros_has_the_states_shapes():
  state = {
    "kernel": jax.ShapeDtypeStruct((2, 3), jnp.float32),
    "step": jax.ShapeDtypeStruct((), jnp.int32),
  }
  fields = dict.fromkeys(programs_lib.Programs._fields)
  programs = programs_lib.Programs(**fields | {"state": state})
  side = step_measures.Side(None, programs, "step", "batch", {})
  zeros = narrow_networks.at_zero(side)
  assert zeros._replace(programs=programs) == side
  chex.assert_trees_all_equal(
    zeros.programs.init(jnp.uint32(0)),
    {"kernel": jnp.zeros((2, 3)), "step": jnp.int32(0)},
  )


# Parameters by blocks at 16x16, and multiply-adds at 512 pixels without, with
# 2x and 4x patching: derived from appendix B.1, independently of this code.
PARAMS = {"2": 572e6, "4": 696e6, "8": 943e6, "12": 1191e6}
MACS = {"none": 742e9, "dwt_1": 566e9, "dwt_2": 546e9}


def test_recorded_sizes_are_those_of_the_papers_networks():
  rows = newest("speed", table=4)["rows"]
  for name, params in PARAMS.items():
    assert rows[name]["full_size"]["parameters"] == pytest.approx(params, 0.05)
  rows = newest("speed", table=5)["rows"]
  for name, macs in MACS.items():
    flops = rows[name]["full_size"]["train_flops"]
    assert flops == pytest.approx(6 * macs, 0.05)


def speed_record(speeds):
  return {
    "table": 4,
    "baseline": "4",
    "width_divisor": 8,
    "rounds": 7,
    "rows": {
      name: {
        "full_size": {"parameters": 1e9, "train_flops": flops},
        "measured": {
          "compiled_flops": flops / 100,
          "relative_speed": speed,
          "relative_speed_quartiles": [speed - 0.1, speed + 0.2],
          "seconds_per_step": 2.0,
          "seconds_quartiles": [1.5, 2.5],
          "image_size": 128,
          "batch_size": 2,
          "dtype": "float32",
        },
      }
      for name, flops, speed in speeds
    },
    "environment": {
      "devices": ["cpu"],
      "num_cores": 2,
      "versions": {"jax": "0"},
      "git_sha": "abc",
    },
  }


def test_speed_table(tmp_path, monkeypatch):
  monkeypatch.setattr(results_lib, "FOLDER", tmp_path)
  assert paper_measured_tables.paper_speed_4() == "Not yet measured."
  record = speed_record([("4", 2e12, 1.0), ("12", 4e12, 0.6)])
  (tmp_path / "paper_speed.jsonl").write_text(json.dumps(record))
  lines = paper_measured_tables.paper_speed_4().splitlines()
  assert lines[2].startswith("| 4 + 5 blocks | 100% | 100% | - | 100% | 100%")
  assert lines[3].startswith(
    "| 12 + 13 blocks | 62% | 50% | - | 50% | 60% (50% to 80%) | 4.00 |"
  )
  assert "| 2.00 s (1.50 to 2.50) |" in lines[3]
  # Of 256 chips, whose batch is 512: the headline's program has 12 blocks.
  plans = [
    {
      "config": config,
      "topology": plan_rows.ABLATIONS_TOPOLOGY,
      "num_chips": 256,
      "chip": {"devices": 1},
      "train_step": {"flops": flops, "num_images": 512, "speed": {}},
    }
    for config, flops in (
      ("configs/imagenet_ablations.py:4,4", 2.0),
      ("configs/imagenet.py:128,unet", 2.5),
    )
  ]
  (tmp_path / "plans.jsonl").write_text("\n".join(map(json.dumps, plans)))
  lines = paper_measured_tables.paper_speed_4().splitlines()
  assert lines[3].startswith("| 12 + 13 blocks | 62% | 50% | 80% | 50% | 60%")
  assert paper_measured_tables.paper_speed_5() == "Not yet measured."
