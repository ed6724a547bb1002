# SPDX-License-Identifier: Apache-2.0
"""The paper's rows: numbers that agree, configs that differ as it says."""

import math
import re

import pytest

from configs import imagenet_ablations
from experiments import chips
from experiments import workdir as workdir_lib
from scripts import paper_costs
from scripts import paper_rows
from simple_diffusion import build
from simple_diffusion import sizes

OURS = [row for row in paper_rows.ROWS if row.config]


def find(table, size, **match):
  (row,) = (
    row
    for row in paper_rows.of_table(table)
    if row.size == size and all(getattr(row, k) == v for k, v in match.items())
  )
  return row


def numbers(row):
  return row.fid, row.inception_score.split(" ")[0]


def test_numbers_that_the_paper_has_twice():
  for size in (128, 256, 512):
    headline = find(7, size, config=f"configs/imagenet.py:{size},uvit")
    assert numbers(headline) == numbers(find(9, size, guidance_scale=1.0))
  for size, table, name in (
    (128, 2, "shift 32"),
    (256, 2, "shift 32"),
    (256, 6, "plain"),
    (512, 6, "multiscale"),
  ):
    headline = find(7, size, config=f"configs/imagenet.py:{size},unet")
    assert find(table, size, name=name).fid == headline.fid
  wavelet = find(5, 512, name="DWT, 2 levels")
  assert find(6, 512, name="plain").fid == wavelet.fid
  shifted = find(2, 128, name="shift 64").fid
  assert find(3, 128, name="from 16 down").fid == shifted
  assert find(4, 128, name="12 + 13 blocks").fid == shifted


def test_headlines_are_the_best_of_a_network_and_size():
  configs = [row.config.partition(":")[2] for row in paper_rows.HEADLINES]
  assert configs == [
    *("128,uvit", "256,uvit", "512,uvit"),
    *("128,unet", "256,unet", "512,unet", "1024,unet"),
  ]
  for row in paper_rows.HEADLINES[:-1]:
    assert row == find(7, row.size, config=row.config)
  last, of_table_6 = paper_rows.HEADLINES[-1], find(6, 1024, name="multiscale")
  assert last.fid == of_table_6.fid == "6.06 / -"
  assert paper_rows.load(last).to_json() == (
    paper_rows.load(of_table_6).to_json()
  )


# Columns of tables 2 to 6 and 9 with ours in them, of arXiv 2301.11093.
@pytest.mark.parametrize(
  "table, rows", [(2, 7), (3, 5), (4, 4), (5, 5), (6, 8), (7, 21), (9, 24)]
)
def test_no_row_is_missing_or_twice(table, rows):
  found = paper_rows.of_table(table)
  assert len(found) == rows
  assert len({(row.size, row.name) for row in found}) == rows
  for row in found:
    assert re.fullmatch(r"[\d.]+ / ([\d.]+|-)|not recovered", row.fid), row


def test_guidance_trades_fid_for_inception_score():
  for size in (128, 256, 512):
    rows = [row for row in paper_rows.of_table(9) if row.size == size]
    assert [row.guidance_scale for row in rows] == [
      *(1.0, 1.05, 1.1, 1.2, 1.4, 1.8, 2.0, 3.0)
    ]
    scores = [float(row.inception_score) for row in rows]
    assert scores == sorted(scores)
    eval_fids = [float(row.fid.split("/")[1]) for row in rows[2:]]
    assert eval_fids == sorted(eval_fids)


def changes(arg):
  """What a row sets, by dotted key, against its headline config."""
  config = workdir_lib.as_json(imagenet_ablations.get_config(arg))
  size = config["data"]["image_size"]
  headline = paper_rows.load(
    paper_rows.Row(7, size, "", "", "", f"configs/imagenet.py:{size},unet")
  )
  headline = workdir_lib.as_json(headline)
  return {
    f"{section}.{key}": value
    for section, fields in config.items()
    for key, value in fields.items()
    if value != headline[section][key]
  }


def shift(ref):
  return {"schedule.ref_at_noise": ref, "schedule.ref_at_data": ref}


# arXiv 2301.11093, tables 2 to 6 and appendix B.1; the headline is shift 32 at
# 128 and 256, and at 512 shift 64, two levels of the wavelet and multiscale.
@pytest.mark.parametrize(
  "arg, expected",
  [
    ("2,128,cosine", shift(128)),
    ("2,128,shift32", {}),
    ("2,256,cosine", shift(256)),
    ("2,256,shift128", shift(128)),
    (
      "3,none",
      shift(64)
      | {"model.dropout_from_resolution": 0, "train.total_steps": 700_000},
    ),
    (
      "3,64",
      shift(64)
      | {"model.dropout_from_resolution": 64, "train.total_steps": 700_000},
    ),
    ("4,2", shift(64) | {"model.num_res_blocks": [3, 4, 4, 2, 4]}),
    ("4,12", shift(64)),
    ("5,dwt_2", {"objective.multiscale_base": None}),
    (
      "5,conv_2",
      {
        "objective.multiscale_base": None,
        "model.patching": "conv_2",
        "model.channel_multiplier": [1, 2, 2, 4, 8, 8],
        "model.num_res_blocks": [2, 2, 2, 4, 12, 4],
      },
    ),
    (
      "5,none",
      {
        "objective.multiscale_base": None,
        "model.patching": "none",
        "model.channel_multiplier": [1, 1, 1, 2, 4, 8, 8],
        "model.num_res_blocks": [1, 1, 2, 2, 4, 12, 4],
      },
    ),
    ("6,256,plain", {}),
    ("6,256,multiscale", {"objective.multiscale_base": 32}),
    ("6,512,multiscale", {}),
    ("6,1024,plain", {"objective.multiscale_base": None}),
  ],
)
def test_rows_differ_from_the_headline_in_what_the_paper_varies(arg, expected):
  assert changes(arg) == expected


def test_blocks_of_maps_that_are_no_more_move_down():
  rows = [row for row in paper_rows.of_table(5)]
  models = [paper_rows.load(row).model for row in rows]
  assert {sum(model.num_res_blocks) for model in models} == {26}
  factors = {"none": 1, "dwt_1": 2, "dwt_2": 4, "conv_2": 2, "conv_4": 4}
  for model in models:  # The lowest map has 8 x 8 pixels.
    halvings = len(model.num_res_blocks) - 1
    assert 512 // factors[model.patching] // 2**halvings == 8


def test_unknown_row():
  with pytest.raises(ValueError, match="imagenet_ablations.py:5,dwt.*5,dwt_1"):
    imagenet_ablations.get_config("5,dwt")


# appendix B: 500 k steps at 1.5 a second, 2 M at 1.15; others by FLOPs, and by
# the relative speeds of tables 4 and 5.
@pytest.mark.parametrize(
  "row,hours",
  [
    (find(7, 512, name="simple diffusion, U-ViT"), "128 TPUv4, 93 h"),
    (find(7, 256, name="simple diffusion, U-Net"), "64 TPUv2, 483 h"),
    # 483 * 3.36 / 2.50
    (find(7, 512, name="simple diffusion, U-Net"), "about 64 TPUv2, 649 h"),
    (find(5, 512, name="DWT, 2 levels"), "about 64 TPUv2, 649 h"),
    # 649 * 1.46
    (find(5, 512, name="none"), "about 64 TPUv2, 948 h"),
    # 483 * 2.23 / 2.50 * 1.5 M / 2 M * 0.62 / 1.14
    (find(4, 128, name="2 + 3 blocks"), "about 64 TPUv2, 176 h"),
    (find(7, 512, name="DiT-XL/2"), "-"),
  ],
  ids=lambda value: value.name if isinstance(value, tuple) else None,
)
def test_hours(row, hours):
  assert paper_costs.cost(row) == hours


def test_hours_of_samples():
  unguided, guided = paper_rows.of_table(9)[:2]
  # 50,000 * 512 / (3 * 2,048 * 1.5) / 3,600
  assert paper_costs.sampling_cost(unguided) == "about 128 TPUv4, 0.8 h"
  assert paper_costs.sampling_cost(guided) == "about 128 TPUv4, 1.5 h"


def test_hours_by_flops_are_of_one_batch_size():
  for row in OURS:
    config = paper_rows.load(row)
    if config.model.name == "unet":
      assert config.train.batch_size == 512


@pytest.mark.slow
@pytest.mark.parametrize(
  "row",
  [
    find(4, 128, name="12 + 13 blocks"),
    find(6, 256, name="plain"),
    find(5, 512, name="DWT, 2 levels"),
    find(6, 1024, name="plain"),
  ],
  ids=lambda row: row.config,
)
def test_flops_of_unets(row):
  config = paper_rows.load(row)
  network = build.make_network(config.model)
  flops = sizes.train_flops(network, build.image_shape(config))
  assert round(flops / 1e12, 2) == paper_costs.TFLOP[row.size]


def test_slices_have_as_many_chips_as_the_paper():
  for speed in paper_costs.SPEEDS.values():
    slice_ = chips.parse_topology(speed.topology)
    number = math.prod(slice_.shape)
    assert speed.hardware == f"{number} TPU{slice_.chip.name}"
