# SPDX-License-Identifier: Apache-2.0
"""The comparison of two tasks as it runs: fair, recorded, tabulated."""

import json

import numpy as np
import pytest

from configs import loss_multitask
from experiments import workdir
from experiments.loss_studies import images
from experiments.loss_studies import multitask_heads
from experiments.loss_studies import multitask_trial
from experiments.loss_studies import splits
from experiments.loss_studies import study
from scripts import loss_multitask_tables
from scripts import results

ARGS = [f"{d},{t}" for d in loss_multitask.DATA for t in loss_multitask.TASKS]


@pytest.mark.parametrize("arg", ARGS)
def test_every_config_is_fair(arg):
  for variant in ("", ",tiny"):
    tree = workdir.as_json(loss_multitask.get_config(arg + variant))
    _, task = study.KINDS[tree["data"]["kind"]]
    found = study.checked_points(tree, task.METHODS)
    assert {len(points) for points in found.values()} == {
      tree["search"]["num_points"]
    }
    assert len(tree["seeds"]) == (2 if variant else 5)
    assert tree["train"]["num_steps"] % multitask_trial.NUM_WINDOWS == 0


def test_an_unknown_argument_lists_the_known():
  with pytest.raises(ValueError, match="the argument is <digits|mnist>"):
    loss_multitask.get_config("mnist,odd")


def test_an_unknown_primary_task_lists_the_known():
  data = splits.at_most(images.load("digits"), 50)
  with pytest.raises(ValueError, match="primary='odd' is none of parity, dig"):
    multitask_heads.prepare(data, (0,), {"primary": "odd"})


def test_a_row_of_points_may_have_one_range():
  config = workdir.as_json(loss_multitask.get_config("digits,decay"))
  for point in study.points(config, "primary_secondary"):
    assert point.keys() == {"lr"}


@pytest.mark.parametrize(
  "tasks",
  [
    "parity",
    pytest.param("clean", marks=pytest.mark.slow),
    pytest.param("decay", marks=pytest.mark.slow),
  ],
)
def test_a_comparison_tells_the_course_of_its_trainings(tasks, tmp_path):
  tree = workdir.as_json(loss_multitask.get_config(f"digits,{tasks},tiny"))
  load, task = study.KINDS[tree["data"]["kind"]]
  few = splits.at_most(load("digits"), tree["data"]["max_examples"])
  path = tmp_path / "results.jsonl"
  found = study.run(tree, few, task, path)
  lines = list(map(json.loads, path.read_text().splitlines()))
  assert len(lines) == 4
  for line in lines:
    assert line["settings"]["train"] == tree["train"]
    for part in ("validation", "test"):
      assert line[part].keys() == set(tree["measures"])
      assert all(0 <= v <= 1 for v in line[part]["accuracy"])
    training = line["training"]
    # Curves are sums over the seeds; the last is of the parameters measured.
    assert len(training["test_loss"]) == multitask_trial.NUM_WINDOWS
    assert training["test_loss"][-1] == pytest.approx(
      -sum(line["test"]["log_likelihood"]), abs=1e-4
    )
    assert sum(training["conflict_rate"]) == pytest.approx(
      np.mean(training["conflict"]), abs=1e-4
    )
    assert training["opposed_primary"] == [0, 0]
  # Whoever looks at the primary alone opposes the other wherever they conflict.
  for record in found["primary_alone"]:
    training = record["training"]
    # But for a cosine that is almost 0, in one of the 20 steps.
    assert training["opposed_secondary"] == pytest.approx(
      training["conflict_rate"], abs=0.051
    )
  for record in found["primary_secondary"]:
    assert record["training"]["opposed_secondary"] == [0, 0]
  if tasks == "decay":
    for alone, constrained in zip(*found.values(), strict=True):
      grown = constrained["training"]["secondary_loss"][-1]
      assert grown < alone["training"]["secondary_loss"][-1]


def records_of(arg, value):
  """What a finished config leaves, of made-up numbers: value(method, i)."""
  config = workdir.as_json(loss_multitask.get_config(arg))
  for method in config["methods"]:
    for i, point in enumerate(study.points(config, method)):
      validation, test = value(method, i)
      yield {
        **study.record_of(config, method, point),
        "validation": {config["metric"]: [validation] * 5},
        "test": {
          "accuracy": [-test / 2 + 0.01 * k for k in range(5)],
          "log_likelihood": [test + 0.1 * k for k in range(5)],
          "secondary_accuracy": [0.25] * 5,
        },
        "training": {
          "conflict_rate": [0.1, 0.2, 0.3, 0.4, 0.5],
          "opposed_primary": [0.0] * 5,
          "opposed_secondary": [0.125] * 5,
        },
        "environment": {
          "devices": ["cpu"],
          "num_cores": 2,
          "versions": {"jax": "0"},
          "git_sha": "0",
        },
      }


def test_tables_show_what_validation_chose(tmp_path, monkeypatch):
  monkeypatch.setattr(results, "FOLDER", tmp_path)
  for make in loss_multitask_tables.MAKERS:
    assert make() == "Not yet run."

  def value(method, i):
    loss = {"primary_alone": 1.0, "min_norm": 0.75}.get(method, 2.0)
    return (-0.1, -loss) if i == 3 else (-0.2, 0.0)

  found = list(records_of("digits,parity", value))
  unfinished = [r for r in found if r["method"] != "upgrad"]
  text = "".join(json.dumps(r) + "\n" for r in unfinished)
  (tmp_path / "loss_multitask.jsonl").write_text(text)
  accuracy, gain, loss, secondary, conflicts = (
    make() for make in loss_multitask_tables.MAKERS
  )
  # Of 1, 1.01, ..., 1.04: variance .001 / 4, over five; as the losses, tenfold.
  assert "| mean | 102.0 ± 0.7 | - | - | - |" in accuracy
  assert "| primary alone | 0 | - | - | - |" in gain
  assert "| mean | 50.0 ± 0.0 | - | - | - |" in gain
  assert "12 points" in accuracy and "5 seeds" in accuracy
  assert "MNIST" not in accuracy and "UPGrad" not in accuracy
  # 1, .9, .8, .7 and .6; what differs from it does so in every seed.
  assert "| primary alone | (0.800 ± 0.071) | - |" in loss
  assert "| min-norm | -0.250 ± 0.000 | - |" in loss
  assert "| mean | 1.000 ± 0.000 | - |" in loss
  assert "| mean | 25.0 ± 0.0 | - |" in secondary
  assert "| mean | 30.0 / 0.0 / 12.5 | - | - | - |" in conflicts
