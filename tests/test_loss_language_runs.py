# SPDX-License-Identifier: Apache-2.0
"""Studies of language models as they run: with an oracle, and adapting."""

import collections
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
from experiments.loss_studies import study
from scripts import loss_language_tables
from scripts import results
from scripts.figures import loss_language


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
      assert len(units) == len({json.dumps(unit) for unit in units})
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


def records_of(config, references, value):
  """What a finished study leaves, of made-up numbers: value(method, i)."""
  environment = {"devices": ["cpu"], "num_cores": 2, "git_sha": "0"}
  environment["versions"] = {"jax": "0"}
  counted = collections.Counter()
  for method, point in language_units.of_config(config, references):
    chosen_by, measured = value(method, counted[method])
    counted[method] += 1
    yield study.record_of(config, method, point) | {
      "validation": {"log_likelihood": [chosen_by] * 3},
      "test": {name: [v - 0.1, v, v + 0.1] for name, v in measured.items()},
      "environment": environment,
    }


def test_tables_and_figure_of_an_adaptation(tmp_path, monkeypatch):
  monkeypatch.setattr(results, "FOLDER", tmp_path)
  assert loss_language_tables.loss_adaptation_quality() == "Not yet run."
  assert loss_language_tables.loss_adaptation_step() == "Not yet run."
  config = tree_of(loss_adaptation, "tinyshakespeare")

  def value(method, i):
    test = {"emd": 0.5, "bleu": 0.2, "self_bleu": 0.3, "divergence": 0.6}
    if method != "text":
      test |= {"log_likelihood": -4.0 + (i == 2), "before": -5.0}
    return (-1.0 if i == 2 else -2.0), test

  lines = list(records_of(config, adaptation.REFERENCES, value))
  path = tmp_path / "loss_adaptation.jsonl"
  last = next(r for r in lines[::-1] if r["method"] == "emo_mode2_fixed")
  lines.remove(last)  # one point of one method
  path.write_text("".join(json.dumps(r) + "\n" for r in lines))
  rows = loss_language_tables.loss_adaptation_quality().splitlines()
  names = [row.split(" | ")[0] for row in rows if row.startswith("| ")]
  assert "| before" in names and "| TaiLr" in names
  assert len(names) == 2 + 2 + len(config["methods"]) - 1
  (tailr,) = (row for row in rows if row.startswith("| TaiLr"))
  # Of e^2.9, e^3 and e^3.1: mean 20.15, deviation 2.01, over three.
  assert "| 20.2 ± 1.2 | 0.500 ± 0.058 |" in tailr
  assert "| 20.0 ± 5.8 | 30.0 ± 5.8 | 0.600 ± 0.058 |" in tailr
  assert "gamma 0.01, min weight 0" in tailr
  (text_row,) = (row for row in rows if row.startswith("| validation text"))
  assert "| - | 0.500" in text_row and text_row.endswith("| - |")
  left, right = loss_language.draw_adaptation().axes
  # Four points a method, but for the last; the text has no perplexity.
  counts = [len(line.get_xdata()) for line in left.get_lines()]
  assert sorted(counts) == [1, 3, 4, 4, 4, 4, 4, 4]
  assert len(right.get_lines()) == 9
  assert left.get_lines()[0].get_xdata()[2] == pytest.approx(20.15, abs=0.01)


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


@pytest.mark.slow
def test_students_of_an_oracle(tmp_path):
  tree = tree_of(loss_oracle, "python,tiny")
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


@pytest.mark.slow
def test_an_adaptation(tmp_path):
  tree = tree_of(loss_adaptation, "scikit_learn,tiny")
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


@pytest.mark.slow
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
  tree = tree_of(loss_adaptation, "tinyshakespeare")
  with pytest.raises(ValueError, match="^classicbooks is read from train.txt"):
    adaptation.run(tree, None, tmp_path, tmp_path / "results.jsonl")
  assert not list(tmp_path.iterdir())


def test_the_program_says_which_one_runs_a_config():
  program = ["-m", "experiments.loss_studies.compare_language"]
  program.append("--config=configs/loss_toys.py:tailr_mixture")
  ((code, _, err),) = real_runs.end([real_runs.start_python(program)])
  assert code == 2
  assert err.startswith("error: configs of toy='tailr_mixture' are run by")
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
