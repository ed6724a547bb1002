# SPDX-License-Identifier: Apache-2.0
"""Studies of language models as they run: with an oracle, and adapting."""

import json

import pytest
import real_runs

from configs import loss_adaptation
from configs import loss_oracle
from experiments import workdir
from experiments.loss_studies import adaptation
from experiments.loss_studies import adaptation_cost
from experiments.loss_studies import language_units
from experiments.loss_studies import oracle
from experiments.loss_studies import selection


def tree_of(module, arg):
  return workdir.as_json(module.get_config(arg))


@pytest.mark.parametrize("module", [loss_oracle, loss_adaptation])
def test_every_config_is_fair(module):
  for name in module.DATA:
    for variant in ("", ",tiny"):
      tree = tree_of(module, name + variant)
      units = language_units.of_config(tree, ())
      counts = {
        method: sum(name == method for name, _ in units)
        for method in tree["methods"]
      }
      assert set(counts.values()) == {tree["search"]["num_points"]}
      assert len(tree["seeds"]) == (2 if variant else 3)
  with pytest.raises(ValueError, match="the argument is <"):
    module.get_config("novels")


def test_what_the_authors_of_tailr_use_is_tried():
  tree = tree_of(loss_oracle, "python")
  points = [p for name, p in language_units.of_config(tree, ()) if "gamma" in p]
  pairs = {(p["gamma"], p["min_weight"]) for p in points}
  assert (1e-7, 0.2) in pairs and (0.01, 0.0) in pairs


def test_a_study_of_one_seed_is_refused():
  tree = tree_of(loss_oracle, "python,tiny") | {"seeds": [0]}
  with pytest.raises(ValueError, match=r"seeds=\[0\]: .* at least two"):
    language_units.of_config(tree, ())


def test_units_are_measured_once(tmp_path):
  path = tmp_path / "results.jsonl"
  tree = tree_of(loss_oracle, "python,tiny")
  units = [("oracle", {}), ("tailr", {"lr": 0.1})]
  seen = []

  def trial(method, point, seed):
    seen.append((method, seed))
    if len(seen) == 4:
      raise KeyboardInterrupt
    return {"test": {"bleu": seed + point.get("lr", 0.0)}}

  with pytest.raises(KeyboardInterrupt):
    language_units.run(tree, units, trial, path)
  found = language_units.run(tree, units, trial, path)
  # The second unit starts again with its first seed.
  assert seen[2:] == [("tailr", 0), ("tailr", 1), ("tailr", 0), ("tailr", 1)]
  assert found[0]["test"] == {"bleu": [0, 1]}
  assert found[1]["test"] == {"bleu": [0.1, 1.1]}
  assert len(path.read_text().splitlines()) == 2
  assert selection.key(found[1]) in selection.read(path)


def test_students_of_an_oracle(tmp_path):
  tree = tree_of(loss_oracle, "python,tiny")
  del tree["methods"]["tailr"]  # Each takes seconds to compile.
  path = tmp_path / "results.jsonl"
  found = oracle.run(tree, None, tmp_path, path)
  assert [r["method"] for r in found] == ["oracle", *tree["methods"]]
  reference, *students = found
  # The oracle is at no distance from itself, and its samples are as likely as
  # its other texts, here nearly uniform.
  assert reference["test"]["total_variation"] == [0, 0]
  gap = (
    reference["test"]["log_likelihood"][0]
    - reference["test"]["oracle_log_likelihood"][0]
  )
  assert abs(gap) < 0.1
  for record in students:
    assert 0 < record["test"]["total_variation"][0] < 1
    first, second = record["validation"]["log_likelihood"]
    assert first < 0 and first != second
  assert len(list(tmp_path.glob("pretrained_*.msgpack"))) == 1


def test_an_adaptation(tmp_path):
  tree = tree_of(loss_adaptation, "scikit_learn,tiny")
  del tree["methods"]["likelihood"]
  found = adaptation.run(tree, None, tmp_path, tmp_path / "results.jsonl")
  by_method = {r["method"]: r for r in found}
  assert list(by_method) == ["pretrained", "text", *sorted(tree["methods"])]
  for name, record in by_method.items():
    assert 0 < record["test"]["divergence"][0] <= 1
    if name != "text":
      assert 0 < record["test"]["emd"][0] < 2
  # Three steps help a little.
  before = by_method["pretrained"]["test"]["log_likelihood"][0]
  for name in tree["methods"]:
    assert by_method[name]["test"]["log_likelihood"][0] > before


def test_costs_of_a_step(tmp_path):
  tree = tree_of(loss_adaptation, "scikit_learn,cost")
  assert tree["data"]["kind"] == "adaptation_cost"
  tiny = tree_of(loss_adaptation, "scikit_learn,tiny")
  path = tmp_path / "results.jsonl"
  adaptation_cost.run(tiny | {"rounds": 1}, None, None, path)
  found = json.loads(path.read_text())["measured"]
  assert [(r["loss"], r["form"]) for r in found] == [
    (name, form)
    for name in adaptation_cost.NAMES
    for form in ("dense", "tiled")
  ]
  assert all(r["milliseconds"] > 0 < r["temporary_mib"] for r in found)


def test_what_is_missing_is_said_before_anything_is_trained(tmp_path):
  children = [
    real_runs.start_python(
      [
        "-m",
        "experiments.loss_studies.compare_language",
        f"--config=configs/loss_{name}.py:{arg}",
        f"--results={tmp_path}/results.jsonl",
      ]
    )
    for name, arg in (
      ("oracle", "classicbooks"),
      ("adaptation", "tinyshakespeare"),
    )
  ]
  for code, _, err in real_runs.end(children):
    assert code == 2
    assert err.startswith("error: classicbooks is read from train.txt")
    assert len(err.splitlines()) == 1


def test_results_are_lines_of_json(tmp_path):
  path = tmp_path / "results.jsonl"
  tree = tree_of(loss_adaptation, "scikit_learn,tiny")
  language_units.run(
    tree, [("text", {})], lambda *_: {"test": {"bleu": 1 / 3}}, path
  )
  (line,) = path.read_text().splitlines()
  record = json.loads(line)
  assert record["test"] == {"bleu": [0.333333, 0.333333]}
  assert record["settings"]["data"]["name"] == "scikit_learn"
  assert "git_sha" in record["environment"]
