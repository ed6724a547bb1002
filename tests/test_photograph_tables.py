# SPDX-License-Identifier: Apache-2.0
"""Rows of the ablations' tables are made of the right runs."""

import json

import numpy as np
import pytest

from experiments import workdir
from scripts import photograph_guidance
from scripts import photograph_loss_ratios
from scripts import photograph_loss_tables
from scripts import photograph_protocols
from scripts import photograph_runs
from scripts import photograph_sampler_tables
from scripts import photograph_status
from scripts import photograph_tables
from scripts import protocols
from scripts import results as results_lib
from scripts.figures import measured
from scripts.figures import photograph_schedules
from scripts.figures import samples
from scripts.figures import small_schedules
from scripts.sweep import points as points_lib


def record(arg, overrides, *, kernel, step=2_000, data="flowers"):
  """A line as evaluate would write it; the numbers alone are made up."""
  overrides = overrides | {
    "train.total_steps": step,
    "data.data_dir": f"/elsewhere/{data}",
  }
  config = points_lib.parse_config(f"configs/photographs.py:{arg}", overrides)
  config.model.num_classes = 5  # Training has it from the folder.
  distances = dict(
    kernel=kernel,
    frechet=100.0,
    precision=0.5,
    recall=0.25,
    num_images=100,
    reference_hash="1" * 16,
  )
  return {
    "config": workdir.as_json(config),
    "checkpoint_step": step,
    "ema_decay": config.train.ema_decay,
    "held_out_split": "test",
    "samples": {
      "num_samples": 1_000,
      "num_network_evaluations": config.sample.num_steps,
      "seed": 0,
      **config.sample.to_dict(),
      "features": {
        "name": "mobilenet_v2",
        "weights_hash": "0" * 16,
        "resize": "not",
      },
      "train": distances,
      "held_out": distances,
    },
    "environment": {
      "devices": ["cpu"],
      "num_cores": 2,
      "versions": {"jax": "0"},
      "git_sha": "0",
    },
  }


def record_of_loss(arg, overrides, v_mse, *, data="clothing"):
  """Of a small network, which has no samples; v_mse by bin of log-SNR."""
  r = record(arg, overrides, kernel=0.0, data=data)
  del r["samples"]
  r["held_out_loss"] = [
    {"logsnr": list(bin_), "v_mse": loss} for bin_, loss in v_mse.items()
  ]
  return r


def shifted(ref, seed, **kwargs):
  overrides = {
    "schedule.ref_at_noise": ref,
    "schedule.ref_at_data": ref,
    "train.seed": seed,
  }
  return record("128,table2", overrides, **kwargs)


@pytest.fixture
def results(tmp_path, monkeypatch):
  monkeypatch.setattr(results_lib, "FOLDER", tmp_path)

  def write(records):
    lines = "".join(json.dumps(r) + "\n" for r in records)
    (tmp_path / "photographs.jsonl").write_text(lines)

  return write


def rows_of_table_2():
  table, *_ = photograph_tables.table("table2").partition("\n\n")
  return [row[2:-2].split(" | ") for row in table.splitlines()[2:]]


def test_a_record_is_of_a_config_and_its_sampler():
  config = {
    "model": {"width": 1},
    "sample": {"num_steps": 32, "guidance_scale": 1.0},
    "train": {"seed": 0, "seeds": 0, "total_steps": 5},
  }

  def is_of(*apart, **sections):
    other = {k: config[k] | sections.get(k, {}) for k in config}
    return results_lib.is_of({"config": other}, config, apart=apart)

  assert is_of() and is_of(train={"total_steps": 9})  # Of a run that goes on.
  assert not is_of(model={"width": 2})
  guided = {"sample": {"guidance_scale": 2.0}}
  assert not is_of(**guided)
  assert is_of("sample.guidance_scale", **guided)
  assert is_of("sample", **guided)
  assert not is_of("sample.guidance_scale", sample={"num_steps": 64})
  assert is_of("train.seed", train={"seed": 1})
  assert not is_of("train.seed", train={"seeds": 1})


def test_seeds_of_a_row_come_together(results):
  results(
    [
      shifted(128.0, 0, kernel=9.0),  # evaluated again below
      shifted(128.0, 0, kernel=2.0),
      shifted(128.0, 1, kernel=4.0),
      shifted(128.0, 2, kernel=9.0, step=1_000),  # shorter: not of this row
      shifted(32.0, 0, kernel=1.5),
      {"held_out_loss": []},  # without samples
    ]
  )
  (first, second) = rows_of_table_2()
  # Mean 3, and sqrt(((2 - 3)^2 + (4 - 3)^2) / 1 / 2) = 1.
  assert first[2] == "cosine"
  assert first[3:6] == ["2", "2,000", "3.000 ± 1.000"]
  assert second[3:6] == ["1", "2,000", "1.500"]
  # Of the seed that both have.
  assert first[-1] == "+33.3%" and not second[-1].strip()


def test_sets_of_photographs_have_rows_of_their_own(results):
  results(
    [
      shifted(32.0, 0, kernel=2.0, data="flowers"),
      shifted(64.0, 0, kernel=3.0, data="flowers"),
      shifted(32.0, 0, kernel=4.0, data="clothing"),
      shifted(32.0, 1, kernel=6.0, data="clothing"),
      shifted(64.0, 1, kernel=7.0, data="clothing"),
      shifted(64.0, 1, kernel=8.0, data="birds"),  # alone: nothing to compare
    ]
  )
  rows = rows_of_table_2()
  assert [row[0] for row in rows] == ["clothing"] * 2 + ["flowers"] * 2
  kernels = [row[5] for row in rows]
  assert kernels == ["7.000", "5.000 ± 1.000", "3.000", "2.000"]


def test_other_runs_stay_out(results):
  other = shifted(128.0, 0, kernel=7.0)
  other["config"]["optim"]["lr"] = 5e-4
  guided = shifted(128.0, 1, kernel=7.0)
  guided["config"]["sample"]["guidance_scale"] = 3.0
  stopped = shifted(128.0, 0, kernel=7.0)
  stopped["checkpoint_step"] = 500
  fewer = shifted(128.0, 0, kernel=7.0)
  fewer["samples"]["num_samples"] = 100
  mine = [shifted(64.0, 0, kernel=1.0), shifted(32.0, 0, kernel=1.0)]
  results([other, guided, stopped, *mine, fewer])
  assert [row[2:4] for row in rows_of_table_2()] == [
    ["shifted to 64", "1"],
    ["shifted to 32", "1"],
  ]
  by_name = {make.__name__: make for make in photograph_tables.MAKERS}
  table = by_name["photographs_table2"]()
  assert table.count("\n| ") == 3 and "1,000 samples of seed 0" in table
  results([])
  assert by_name["photographs_table2"]() == "Not yet run."


@pytest.mark.parametrize(
  "seeds, text", [((0,), ""), ((1, 2), "+125.0% ± 75.0%")]
)
def test_points_are_compared_with_the_configs_of_their_seed(
  seeds, text, results
):
  def run(blocks, seed, kernel):
    overrides = {"model.num_res_blocks": (1, 1, blocks, 1), "train.seed": seed}
    return record("64,table4,sampled", overrides, kernel=kernel)

  own = [run(3, 1, 2.0), run(3, 2, 4.0)]
  results([*own, *(run(6, seed, 6.0) for seed in seeds)])
  table = photograph_tables.table("table4,sampled")
  own_row, row = table.splitlines()[2:4]
  assert "(1, 1, 3, 1)" in own_row and "(1, 1, 6, 1)" in row
  assert [r.split("|")[-2].strip() for r in (own_row, row)] == ["", text]


def test_points_are_compared_at_one_length():
  short, long = (shifted(32.0, 0, kernel=1.0, step=n) for n in (100, 200))
  assert photograph_runs.paired([short, long], [long]) == ([long], [long])
  assert photograph_runs.paired([short], [long]) == ([], [])


@pytest.mark.parametrize(
  "study, size, own",
  [
    ("table2", 256, "shifted to 32"),
    ("table3,sampled", 64, "dropout_from_resolution 16"),
    ("table4,small", 64, "num_res_blocks (1, 1, 3, 1)"),
    ("table5", 64, "patching none"),
    ("table5", 128, "patching dwt_1"),
    ("table6", 128, "the config"),
    ("weighting", 64, "loss_space v, weighting constant"),
    ("weighting,sampled", 64, "loss_space eps, weighting sigmoid"),
    ("width", 256, "channel_multiplier (2, 2, 4, 8)"),
  ],
)
def test_one_point_of_each_study_is_the_configs(study, size, own):
  assert photograph_runs.own_name(f"{size},{study}") == own


def test_the_protocol_of_most_records_counts():
  def sampled_as(num_samples, seed):
    r = shifted(32.0, 0, kernel=1.0)
    r["samples"] |= {"num_samples": num_samples, "seed": seed}
    return r

  usual = [sampled_as(1_000, 0), sampled_as(1_000, 0)]
  fewer, seed = sampled_as(100, 0), sampled_as(1_000, 1)
  most = photograph_protocols.most
  assert most([usual[0], fewer, usual[1], seed]) == usual
  # Of as many the newest one's.
  assert most([fewer, seed]) == [seed]
  assert most([fewer, seed, fewer, seed, fewer]) == [fewer] * 3
  assert most([]) == []


def test_a_study_of_another_protocol_is_hidden_by_none(results):
  many = [shifted(ref, seed, kernel=1.0) for ref in (64, 32) for seed in (0, 1)]
  other = [
    record("64,table6", over, kernel=1.0)
    for over in ({}, {"objective.multiscale_base": 32})
  ]
  for r in other:
    r["samples"]["num_samples"] = 5_000
  results([*other, *many])
  by_name = {make.__name__: make for make in photograph_tables.MAKERS}
  assert "5,000 samples" in by_name["photographs_table6"]()
  assert "1,000 samples" in by_name["photographs_table2"]()


def test_numbers_of_other_images_do_not_come_together(results):
  """Of a folder of the same name; another resize is another protocol."""

  def sampled_runs(**changes):
    runs = []
    for seed in (0, 1):
      for ref in (64.0, 32.0):
        r = shifted(ref, seed, kernel=1.0)
        side = changes.get("side", {}) if seed else {}
        r["samples"]["train"] = r["samples"]["train"] | side
        features = changes.get("features", {}) if seed else {}
        r["samples"]["features"] = r["samples"]["features"] | features
        runs.append(r)
    return runs

  results(sampled_runs())
  assert [row[3] for row in rows_of_table_2()] == ["2", "2"]
  results(sampled_runs(features={"resize": "nearest"}))
  assert [row[3] for row in rows_of_table_2()] == ["1", "1"]
  results(sampled_runs(side={"reference_hash": "2" * 16}))
  words = f"128,table2 on flowers: .*reference_hash {'1' * 16} and {'2' * 16}"
  with pytest.raises(ValueError, match=words):
    rows_of_table_2()
  of_loss = [
    record_of_loss("128,table4,small", over | {"train.seed": seed}, {(0, 3): 1})
    for over in ({}, {"model.num_res_blocks": (1, 1, 6, 1)})
    for seed in (0, 1)
  ]
  # Before it was written there was none, which says nothing.
  for r, found in zip(of_loss, ("a", "a", None, "b"), strict=True):
    r["held_out_hash"] = found
  results(of_loss)
  with pytest.raises(ValueError, match="held_out_hash a and b"):
    photograph_loss_tables.table({"128,table4,small": {}})


def test_captions_have_the_references_of_their_sizes(results):
  def references(record, train, held_out):
    for side, n, hash_ in (("train", 300, train), ("held_out", 30, held_out)):
      record["samples"][side] = record["samples"][side] | {
        "num_images": n,
        "reference_hash": hash_,
      }
    return record

  small = [
    references(record("64,table6", over, kernel=1.0), "aa", "bb")
    for over in ({}, {"objective.multiscale_base": 32})
  ]
  birds = [
    references(record("64,table6", over, kernel=1.0, data="birds"), "ee", "ff")
    for over in ({}, {"objective.multiscale_base": 32})
  ]
  elsewhere = references(shifted(32.0, 0, kernel=1.0), "cc", "dd")
  results([*small, *birds, elsewhere])
  by_name = {make.__name__: make for make in photograph_tables.MAKERS}
  table = by_name["photographs_table6"]()
  for text in (
    "flowers, 64 pixels: 300 training images (aa), 30 held out (bb)",
    "birds, 64 pixels: 300 training images (ee), 30 held out (ff)",
  ):
    assert text in table
  assert "cc" not in table and "EMA 0.998" in table


def test_runs_with_another_model_have_a_table_of_their_own(results):
  overrides = {"schedule.ref_at_noise": 32.0, "schedule.ref_at_data": 32.0}
  wide = record("256,table2", overrides, kernel=1.0)
  narrow = record("256,table2", overrides, kernel=2.0)
  narrow["config"]["model"] |= photograph_runs.NARROW
  results([narrow, wide])
  found = photograph_runs.with_samples()
  for changes, kernel in (({}, 1.0), (photograph_runs.NARROW, 2.0)):
    runs = photograph_runs.finished_of(
      "256,table2", overrides, found, **changes
    )
    assert [r["samples"]["train"]["kernel"] for r in runs] == [kernel]


def test_points_are_named_by_what_tells_them_apart():
  names = photograph_runs.names
  assert names("64,table5") == [
    f"patching {k}" for k in ("none", "dwt_1", "conv_2")
  ]
  assert names("64,table6") == ["the config", "multiscale_base 32"]
  assert names("128,table2") == [
    "cosine",
    "shifted to 64",
    "shifted to 32",
    "interpolated, 32 to 128",
  ]


def test_losses_of_a_study(results):
  def run(blocks, seed, losses, **kwargs):
    overrides = {"model.num_res_blocks": (1, 1, blocks, 1), "train.seed": seed}
    v_mse = dict(zip([(-3, 0), (0, 2.5)], losses, strict=True))
    return record_of_loss("64,table4,small", overrides, v_mse, **kwargs)

  table = {make.__name__: make for make in photograph_loss_tables.MAKERS}[
    "photographs_table4_small_loss_64"
  ]
  one = [
    run(1, 0, [0.1, 0.2], data="clothing"),
    run(1, 1, [0.3, 0.2], data="clothing"),
  ]
  elsewhere = run(3, 0, [9.0, 9.0], data="flowers")
  results([*one, elsewhere])
  assert table() == "Not yet run."  # One point compares nothing.
  results([*one, elsewhere, run(6, 0, [0.1, 0.4], data="clothing")])
  header, _, *rows = table().split("\n\n")[0].splitlines()
  assert header.count("num_res_blocks") == 2 and "(1, 1, 6, 1)" in header
  # sqrt(((0.1 - 0.2)^2 + (0.3 - 0.2)^2) / 1 / 2) = 0.1
  assert rows == [
    "| seeds | 2 | 1 |",
    "| steps | 2,000 | 2,000 |",
    "| -3 to 0 | 0.200 ± 0.100 | 0.100 |",
    "| 0 to 2.5 | 0.200 ± 0.000 | 0.400 |",
  ]


def sampled(method, num_steps, kernel, *, step=4_000, seed=0, **changes):
  data = changes.pop("data", "flowers")
  arg = changes.pop("arg", "128,uvit")
  overrides = {"train.seed": seed}
  r = record(arg, overrides, kernel=kernel, step=step, data=data)
  r["config"]["train"]["total_steps"] = 20_000
  sampler = {"method": method, "num_steps": num_steps} | changes
  r["config"]["sample"] |= sampler
  r["samples"] |= r["config"]["sample"]
  r["samples"]["num_network_evaluations"] = num_steps
  r["samples"]["real"] = {"kernel": 0.0, "kernel_standard_error": 0.01}
  for side in ("train", "held_out"):
    r["samples"][side] = r["samples"][side] | {"kernel_standard_error": 0.01}
  return r


def test_samplers_of_one_training_and_another(results):
  results(
    [
      sampled("ancestral", 512, 3.0, step=2_000),
      sampled("dpmpp_2m_sde", 32, 3.3, step=6_000),
      sampled("ancestral", 512, 9.0, seed=1),
      sampled("ancestral", 512, 9.0, data="clothing"),
      sampled("ancestral", 512, 2.0),
      sampled("dpmpp_2m", 32, 3.0),
      sampled("dpmpp_2m", 32, 2.1),  # again
      sampled("dpmpp_2m", 32, 2.4, spacing="time"),
      sampled("ddim", 32, 2.5),
      sampled("dpmpp_2m", 32, 1.0, guidance_scale=2.0),
      sampled("ancestral", 256, 1.9),
    ]
  )
  table = photograph_sampler_tables.photographs_samplers_uvit()
  rows = [line.split(" | ") for line in table.splitlines()[2:] if "| " in line]
  training = ", sigmoid, dropout 0.1, EMA 0.999"
  assert all(row[0].endswith(training) for row in rows)
  cells = [(row[0].removesuffix(training), *row[1:6]) for row in rows]
  assert [" ".join(row).lstrip("| ") for row in cells] == [
    "6,000 32 dpmpp_2m_sde logsnr 1 3.300 ± 0.010",
    "4,000 512 ancestral logsnr 1 2.000 ± 0.010",
    "4,000 256 ancestral logsnr 1 1.900 ± 0.010",
    "4,000 32 ddim logsnr 1 2.500 ± 0.010",
    "4,000 32 dpmpp_2m logsnr 1 2.100 ± 0.010",
    "4,000 32 dpmpp_2m time 1 2.400 ± 0.010",
    "4,000 32 x 2 dpmpp_2m logsnr 2 1.000 ± 0.010",
    "2,000 512 ancestral logsnr 1 3.000 ± 0.010",
  ]
  assert "flowers, one training of each length with 64 images" in table
  sentence = photograph_sampler_tables.photographs_fast_uvit()
  assert f"training: 4,000{training}" in sentence
  assert "distance of 2.000 ± 0.010" in sentence
  # 2.1 / 2 - 1 and its error, 1.05 sqrt((0.01 / 2.1)^2 + (0.01 / 2)^2).
  assert "dpmpp_2m in logsnr +5.0% ± 0.7%" in sentence
  assert "dpmpp_2m in time +20.0% ± 0.8%" in sentence
  # The other network has none.
  assert photograph_sampler_tables.photographs_samplers_unet() == "Not yet run."


def test_a_training_by_another_protocol_has_its_rows(results):
  before = [sampled("ancestral", n, 2.0, step=2_000) for n in (512, 64, 32)]
  after = sampled("dpmpp_2m_sde", 32, 1.0, step=6_000)
  other = sampled("ancestral", 512, 1.0, step=6_000)
  after["samples"] |= {"labels": "in the proportions of train"}
  other["samples"] |= {"labels": "in turn"}
  after["environment"] = after["environment"] | {"git_sha": "1"}
  results([*before, other, after])
  table, _, text = (
    photograph_sampler_tables.photographs_samplers_uvit().partition("\n\n")
  )
  assert [row.split(" | ")[5] for row in table.splitlines()[2:]] == [
    "1.000 ± 0.010",
    *["2.000 ± 0.010"] * 3,
  ]
  training = "sigmoid, dropout 0.1, EMA 0.999"
  assert f"6,000, {training}: 1,000 samples of seed 0, classes in the" in text
  assert f"2,000, {training}: 1,000 samples of seed 0, features" in text
  assert text.endswith("commits 0, 1.")


def test_a_stray_evaluation_hides_no_row(results):
  mine = [sampled("ancestral", n, 2.0) for n in (512, 64)]
  seed = sampled("ddim", 32, 9.0, seed=1)
  elsewhere = sampled("ddim", 32, 9.0, data="clothing")
  other_features = sampled("ddim", 32, 9.0, step=6_000)
  other_features["samples"] |= {
    "features": {"name": "inception_fid", "weights_hash": "1", "resize": "not"}
  }
  results([*mine, seed, elsewhere, other_features])
  assert photograph_sampler_tables.records("uvit") == mine
  # Evaluated again, it is the newest.
  again = sampled("ancestral", 512, 3.0)
  results([*mine, again])
  assert photograph_sampler_tables.records("uvit") == [mine[1], again]


def test_what_losses_are_of():
  old = record_of_loss("64,table4,small", {}, {})
  new = record_of_loss("64,table4,small", {}, {}) | {
    "num_held_out": 372,
    "held_out_hash": "a" * 16,
    "seed": 0,
  }
  assert protocols.held_out_loss("clothing", [new]) == (
    f"the test split of clothing, 372 images, of pixels {'a' * 16}, noise of "
    "seed 0, EMA 0.99, 2,000 steps of 16 images"
  )
  # What one does not say is said of none.
  assert protocols.held_out_loss("clothing", [old, new]) == (
    "the test split of clothing, EMA 0.99, 2,000 steps of 16 images"
  )
  with pytest.raises(ValueError, match="splits .*val.*keep one"):
    protocols.held_out_loss("clothing", [new, new | {"held_out_split": "val"}])


def test_schedules_that_are_the_same_stand_once():
  assert photograph_loss_ratios.is_apart(64, "shifted to half")
  assert not photograph_loss_ratios.is_apart(64, "shifted to 32")
  assert photograph_loss_ratios.is_apart(128, "shifted to 32")


def test_losses_of_the_trainings_of_the_u_vit(results):
  def run_of(step, loss, ema_decay):
    r = sampled("ddim", 32, 1.0, step=step)
    r["ema_decay"] = ema_decay
    r["held_out_loss"] = [{"logsnr": [-3, 0], "v_mse": loss}]
    return r

  results([run_of(2_000, 0.5, 0.9), run_of(6_000, 0.25, 0.99)])
  table = photograph_sampler_tables.photographs_uvit_loss()
  *_, line = table.split("\n\n")[0].splitlines()
  assert line == "| -3 to 0 | 0.500 | 0.250 |"
  assert (
    "of flowers, EMA 0.9 and 0.99, 2,000 and 6,000 steps of 64 images; "
    in table
  )
  results([])
  assert photograph_sampler_tables.photographs_uvit_loss() == "Not yet run."


def test_what_was_run(results):
  def loss_of(noise, seed, data="clothing"):
    over = {"schedule.ref_at_noise": noise, "schedule.ref_at_data": noise}
    over["train.seed"] = seed
    return record_of_loss("128,table2,small", over, {(0, 3): 1.0}, data=data)

  def weighted(space, weighting):
    over = {"objective.loss_space": space, "objective.weighting": weighting}
    return record("64,weighting,sampled", over, kernel=1.0, data="clothing")

  results(
    [
      shifted(128.0, 0, kernel=1.0, data="clothing"),
      shifted(32.0, 0, kernel=1.0, data="clothing"),
      shifted(32.0, 1, kernel=1.0, data="clothing"),
      weighted("v", "constant"),
      weighted("eps", "sigmoid"),
      loss_of(128.0, 0),
      loss_of(128.0, 0, data="flowers"),  # alone
    ]
  )
  table, _, text = photograph_status.photographs_status().partition("\n\n")
  cells = {
    row.split(" | ")[0]: row.strip(" |").split(" | ")[1:]
    for row in table.splitlines()[2:]
  }
  assert cells["| table2"] == ["-", "2 of 4, 1 to 2 seeds", *"-------"]
  assert cells["| table4"] == [*"---------"]
  # What was sampled is not of the loss alone.
  assert cells["| weighting"] == [*"---", "2 of 3, 1 seed", *"-----"]
  assert text.endswith("On flowers: no study yet.")
  results([loss_of(n, s, "flowers") for n in (128.0, 64.0) for s in (0, 1)])
  table, _, text = photograph_status.photographs_status().partition("\n\n")
  assert "2 of" not in table
  assert text.endswith("On flowers: 128,table2,small (2 of 4, 2 seeds).")


def test_no_samplers(results):
  results([sampled("dpmpp_2m", 32, 3.0)])
  assert photograph_sampler_tables.photographs_fast_uvit() == "Not yet run."
  results([])
  assert photograph_sampler_tables.photographs_samplers_uvit() == "Not yet run."


def test_samplers_of_the_u_net(results):
  study = record("64,table6", {}, kernel=0.5)  # a shorter training
  guided = sampled("ddim", 32, 2.0, arg="64,unet", guidance_scale=2.0)
  interval = sampled(
    "ddim",
    32,
    1.0,
    arg="64,unet",
    guidance_scale=2.0,
    guidance_interval=[-4.0, 2.0],
  )
  results([interval, study, guided, sampled("ddim", 16, 3.0)])
  table = photograph_sampler_tables.photographs_samplers_unet()
  rows = [line.split(" | ") for line in table.splitlines()[2:] if "| " in line]
  assert [[row[0].lstrip("| "), *row[4:6]] for row in rows] == [
    ["4,000, v-MSE, dropout 0.1, EMA 0.999", "2", "2.000 ± 0.010"],
    [
      "4,000, v-MSE, dropout 0.1, EMA 0.999",
      "2, log-SNR -4 to 2",
      "1.000 ± 0.010",
    ],
  ]


def guided(scale, seed, *, kernel, step=600, **changes):
  overrides = {
    "train.seed": seed,
    "sample.guidance_scale": scale,
  } | changes
  return record(
    "64,table2,sampled", overrides, kernel=kernel, step=step, data="clothing"
  )


def test_guidance_is_compared_seed_by_seed(results):
  none = [guided(1.0, seed, kernel=2.0 + seed) for seed in (0, 1)]
  other_steps = guided(1.1, 0, kernel=9.0, **{"sample.num_steps": 64})
  cosine = guided(1.1, 0, kernel=9.0, **{"schedule.ref_at_noise": 64.0})
  few = [guided(1.1, 1, kernel=1.5), guided(4.0, 0, kernel=4.0)]
  results([*none, other_steps, cosine, *few])
  table, _, caption = photograph_guidance.photographs_guidance().partition(
    "\n\n"
  )
  rows = [row[2:-2].split(" | ") for row in table.splitlines()[2:]]
  assert [row[:4] for row in rows] == [
    ["1", "2", "600", "2.500 ± 0.500"],
    ["1.1", "1", "600", "1.500"],
    ["4", "1", "600", "4.000"],
  ]
  assert [row[-1].strip() for row in rows] == ["", "-50.0%", "+100.0%"]
  assert caption.startswith("Steps of 16 images; 32 evaluations of")
  # A longer training of one scale is compared with none of the shorter.
  results([*none, *few, guided(4.0, 0, kernel=3.0, step=900)])
  *_, last = (
    photograph_guidance.photographs_guidance().partition("\n\n")[0].splitlines()
  )
  assert last.startswith("| 4 | 1 | 900 | 3.000 |") and last.endswith("|  |")
  # Alone it compares nothing.
  results(none)
  assert photograph_guidance.photographs_guidance() == "Not yet run."


def test_schedules_are_compared_with_one_network(results):
  def run_of(arg, reference, **model):
    overrides = {
      "schedule.ref_at_noise": reference,
      "schedule.ref_at_data": reference,
    }
    kernel = 1.5 if reference == 32.0 else 2.0
    r = record(arg, overrides, kernel=kernel, data="clothing")
    r["config"]["model"] |= model
    r["held_out_loss"] = [{"logsnr": [-3, 0], "v_mse": kernel}]
    return r

  narrow = photograph_runs.NARROW
  mine = [
    run_of("64,table2", 64.0),
    run_of("64,table2", 32.0),
    run_of("128,table2", 32.0),  # alone
    run_of("256,table2", 256.0, **narrow),
    run_of("256,table2", 32.0, **narrow),
    run_of("256,table2", 32.0),  # alone, with the config's network
    run_of("128,table2,sampled", 128.0),
    run_of("128,table2,sampled", 32.0),
  ]
  results(mine)
  full, half = photograph_schedules.by_width(
    photograph_runs.with_samples()
  ).values()
  assert full == {
    64: {"cosine": [mine[0]], "shifted to 32": [mine[1]]},
    256: {"cosine": [mine[3]], "shifted to 32": [mine[4]]},
  }
  assert half == {128: {"cosine": [mine[6]], "shifted to 32": [mine[7]]}}
  distances, *losses = photograph_schedules.draw().axes
  assert [len(axes.containers) for axes in (distances, *losses)] == [3, 2, 1]
  for container in distances.containers:
    assert container.lines[0].get_ydata() == [0.75]
  points = losses[1].containers[0].lines[0].get_xydata()
  np.testing.assert_allclose(points, [(-1.5, 0.75)])


def test_no_schedules(results):
  results([])
  with pytest.raises(measured.NotYetRun, match="photographs.py:128,table2"):
    photograph_schedules.draw()


def test_small_schedules_are_compared_seed_by_seed(results):
  def run_of(noise, data, seed, loss):
    overrides = {
      "schedule.ref_at_noise": noise,
      "schedule.ref_at_data": data,
      "train.seed": seed,
    }
    # The bins end where the schedule does: one is the cosine's alone.
    bins = ((-3, 0), (0, 3), (3, 4 if noise == data == 128.0 else 5))
    return record_of_loss(
      "128,table2,small", overrides, dict.fromkeys(bins, loss)
    )

  results(
    [
      run_of(128.0, 128.0, 0, 0.5),
      run_of(128.0, 128.0, 1, 0.25),
      run_of(64.0, 64.0, 1, 0.5),
      run_of(64.0, 64.0, 0, 0.25),
      run_of(64.0, 64.0, 2, 0.75),  # without its like
      run_of(32.0, 128.0, 0, 0.75),
    ]
  )
  lines = results_lib.lines("photographs")
  found = photograph_loss_ratios.schedules(128, lines)
  shared = ((-3, 0), (0, 3))
  assert found == {
    "shifted to half": {bin_: [0.5, 2.0] for bin_ in shared},
    "interpolated": {bin_: [1.5] for bin_ in shared},
  }
  assert not photograph_loss_ratios.schedules(64, lines)
  table = photograph_loss_ratios.photographs_table2_small_ratios()
  header, _, *rows = table.split("\n\n")[0].splitlines()
  assert header == "| log-SNR | 128: shifted to half | 128: interpolated |"
  assert rows == [
    "| seeds | 2 | 1 |",
    "| -3 to 0 | +25.0% ± 75.0% | +50.0% |",
    "| 0 to 3 | +25.0% ± 75.0% | +50.0% |",
  ]
  half, to_32, interpolated = small_schedules.draw().axes
  # The line at 1, and error bars of two seeds and of one.
  assert [len(axes.containers) for axes in (half, to_32, interpolated)] == [
    1,
    0,
    1,
  ]
  points = half.containers[0].lines[0].get_xydata()
  np.testing.assert_allclose(points, [(-1.5, 1.25), (1.5, 1.25)])


def test_patchings_are_compared_with_none(results):
  def run_of(arg, overrides, seed, loss):
    end = 4 if arg.startswith("64") else 5  # where the schedule ends
    return record_of_loss(
      arg,
      overrides | {"train.seed": seed},
      dict.fromkeys(((0, 3), (3, end)), loss),
    )

  def point(size, patching):
    (found,) = (
      overrides
      for overrides in photograph_runs.points_of(f"{size},table5,small")
      if overrides["model.patching"] == patching
    )
    return found

  width = {"model.channel_multiplier": (2, 2, 4, 8)}
  none = run_of("128,table5,small", point(128, "none"), 0, 0.5)
  others = [
    run_of("128,table5,small", point(128, "dwt_1"), 0, 1.0),
    run_of("128,width,small", width, 0, 0.75),
    run_of("128,width,small", width, 1, 9.0),  # without its like
    run_of("64,table5,small", point(64, "none"), 0, 0.5),
    run_of("64,table5,small", point(64, "none"), 1, 0.5),
    run_of("64,table5,small", point(64, "conv_2"), 0, 0.5),
    run_of("64,table5,small", point(64, "conv_2"), 1, 1.0),
    run_of("64,table5,sampled", point(64, "none"), 0, 0.5),
    run_of("64,table5,sampled", point(64, "conv_2"), 0, 0.25),
  ]
  results([none, *others])
  table, _, caption = (
    photograph_loss_ratios.photographs_table5_ratios().partition("\n\n")
  )
  assert table.splitlines() == [
    "| log-SNR | 64: conv_2, 32 channels | 128: dwt_1, 16 channels | "
    "128: dwt_1, 32 channels | 64: conv_2, 32 channels, sampled |",
    "| --- | --- | --- | --- | --- |",
    "| seeds | 2 | 1 | 1 | 1 |",
    "| 0 to 3 | +50.0% ± 50.0% | +100.0% | +50.0% | -50.0% |",
    "| 3 to 4 | +50.0% ± 50.0% |  |  | -50.0% |",
    "| 3 to 5 |  | +100.0% | +50.0% |  |",
  ]
  assert "against that without patching" in caption
  # Without its base a patching has no column.
  results(others[:3])
  table = photograph_loss_ratios.photographs_table5_ratios()
  assert table == "Not yet run."


def test_small_schedules_of_flowers(results):
  def run_of(reference, loss, data):
    overrides = {
      "schedule.ref_at_noise": reference,
      "schedule.ref_at_data": reference,
    }
    return record_of_loss(
      "128,table2,small", overrides, {(0, 3): loss}, data=data
    )

  results(
    [
      run_of(128.0, 0.5, "flowers"),
      run_of(64.0, 0.25, "flowers"),
      run_of(128.0, 0.5, "clothing"),
      run_of(64.0, 1.0, "clothing"),
    ]
  )
  for make, cell, data in (
    (
      photograph_loss_ratios.photographs_table2_small_ratios,
      "+100",
      "clothing",
    ),
    (
      photograph_loss_ratios.photographs_table2_small_ratios_flowers,
      "-50",
      "flowers",
    ),
  ):
    table, _, caption = make().partition("\n\n")
    assert table.splitlines()[-1] == f"| 0 to 3 | {cell}.0% |"
    assert f"Of the test split of {data}, " in caption
  make = {make.__name__: make for make in photograph_loss_tables.MAKERS}[
    "photographs_table2_small_loss_128_flowers"
  ]
  table = make()
  assert "| 0 to 3 | 0.500 | 0.250 |" in table and "of flowers" in table


def test_no_small_schedules(results):
  results([])
  with pytest.raises(measured.NotYetRun, match="photographs.py:128,table2,sm"):
    small_schedules.draw()


def test_cells_of_a_grid():
  grid = np.arange(2 * 5 + 1)[:, None] * np.ones((1, 3 * 5 + 1))
  assert len(samples.cut(grid, 4, 6)) == 6
  assert samples.cut(grid, 4, 6)[3][0, 0] == 6  # the second row's first
  with pytest.raises(ValueError, match="has no 7 images of 4"):
    samples.cut(grid, 4, 7)
