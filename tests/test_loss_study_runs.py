# SPDX-License-Identifier: Apache-2.0
"""Comparisons of losses as they run: fair, resumed, chosen and tabulated."""

import json
import math

import numpy as np
import pytest

from configs import common
from configs import loss_images
from configs import loss_label_noise
from configs import loss_many_way
from configs import loss_multilabel
from configs import loss_oracle
from configs import loss_tabular
from configs import loss_toys
from experiments import workdir
from experiments.loss_studies import classification
from experiments.loss_studies import methods
from experiments.loss_studies import programs
from experiments.loss_studies import selection
from experiments.loss_studies import splits
from experiments.loss_studies import study
from experiments.loss_studies import tabular
from experiments.loss_studies import training
from scripts import loss_study_tables
from scripts import results


def trial(method, lr, validation, test):
  return {
    "settings": {},
    "method": method,
    "point": {"lr": lr},
    "seeds": [0, 1, 2],
    "validation": {"accuracy": validation},
    "test": {"accuracy": test},
  }


def test_validation_chooses_and_the_test_reports():
  good = trial("a", 0.1, [0.8, 0.9, 1.0], [0.1, 0.2, 0.6])
  tempting = trial("a", 1.0, [0.8, 0.8, 0.9], [0.9, 0.9, 0.9])
  assert selection.best([tempting, good], "accuracy") is good
  # Mean .3; deviations -.2, -.1, .3: variance .14 / 2, over three.
  assert selection.mean(good["test"]["accuracy"]) == pytest.approx(0.3)
  error = selection.standard_error(good["test"]["accuracy"])
  assert error == pytest.approx(math.sqrt(0.07 / 3))
  found = selection.differences(tempting, good, "accuracy")
  assert found == pytest.approx([0.8, 0.7, 0.3])


def test_half_a_line_is_no_record(tmp_path):
  path = tmp_path / "results.jsonl"
  assert selection.read(path) == {}
  whole = trial("a", 0.1, [1.0], [1.0])
  text = json.dumps(whole) + "\n"
  for end in ("", text[:30]):
    path.write_text(text + end)
    assert selection.read(path) == {selection.key(whole): whole}
    assert path.read_text() == text
  path.write_text(text[:-1])  # A whole record, as an editor may leave it.
  assert selection.read(path) == {selection.key(whole): whole}
  assert path.read_text() == text


def test_what_would_be_noticed_after_the_training():
  data = splits.Data(np.int32([[5]]), np.int32([0]), 1)
  config = {
    "metric": "accuracy",
    "measures": ["accuracy"],
    "network": {"num_buckets": 6},
    "data": {"name": "wnut17"},
  }
  study.check(config, data)
  with pytest.raises(ValueError, match="metric=nll .* measures=accuracy"):
    study.check(config | {"metric": "nll"}, data)
  few = {"network": {"num_buckets": 5}}
  with pytest.raises(
    ValueError, match="num_buckets=5: wnut17 .* up to 5; use 6"
  ):
    study.check(config | few, data)
  with pytest.raises(ValueError, match="have nll; measured are accuracy"):
    study.columns({"accuracy": [[1.0]]}, 0, ["accuracy", "nll"])


CONFIG = {
  "search": {
    "num_points": 4,
    "ranges": {"lr": [1, 16], "weight_decay": [1, 1]},
  },
  "methods": {"hinge": {}, "tailr": {"gamma": [0.1, 0.9]}},
}


def test_all_methods_are_searched_alike():
  found = study.checked_points(CONFIG, methods.METHODS)
  # 1 to 4 are 1, 10, 11 and 100 in base 2, so .1, .01, .11 and .001 backwards.
  assert [p["lr"] for p in found["hinge"]] == pytest.approx(
    [4, 2, 8, 2**0.5], rel=1e-2
  )
  # 1/5, 2/5, 3/5 and 4/5 of two values.
  assert [p["gamma"] for p in found["tailr"]] == [0.1, 0.1, 0.9, 0.9]
  assert found["hinge"] == [
    {k: v for k, v in p.items() if k != "gamma"} for p in found["tailr"]
  ]
  # 5 is 12 in base 3, so .21.
  assert study.radical_inverse(5, 3) == pytest.approx(2 / 3 + 1 / 9)
  own = CONFIG | {"methods": {"exact": {"lr": [4, 4]}}}
  assert {p["lr"] for p in study.points(own, "exact")} == {4}


def test_a_search_that_misses_something_is_refused():
  config = CONFIG | {
    "methods": {"tailr": {"gamma": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]}}
  }
  with pytest.raises(ValueError, match=r"4 points never try gamma=\[0.1"):
    study.checked_points(config, methods.METHODS)
  config = CONFIG | {"methods": {"hing": {}}}
  with pytest.raises(ValueError, match="'hing', which is none of"):
    study.checked_points(config, methods.METHODS)


@pytest.mark.parametrize(
  "config, args",
  [
    (loss_tabular, loss_tabular.DATA),
    (loss_images, loss_images.DATA),
    (loss_multilabel, loss_multilabel.DATA),
    (loss_many_way, loss_many_way.DATA),
    (
      loss_label_noise,
      [f"{d},{n}" for d in loss_label_noise.DATA for n in (0, 20, 40)],
    ),
  ],
)
def test_every_config_is_fair(config, args):
  for arg in args:
    for variant in ("", ",tiny"):
      tree = workdir.as_json(config.get_config(arg + variant))
      _, task = study.KINDS[tree["data"]["kind"]]
      searched = study.checked_points(tree, task.METHODS)
      budgets = {
        len({tuple(point.values()) for point in tried})
        for tried in searched.values()
      }
      assert budgets == {tree["search"]["num_points"]}
      # The same rates, but for methods with a range of their own.
      rates = {
        tuple(point["lr"] for point in tried)
        for name, tried in searched.items()
        if "lr" not in tree["methods"][name]
      }
      assert len(rates) == 1
      assert len(tree["seeds"]) == (2 if variant else 5)
  with pytest.raises(ValueError, match="the argument is"):
    config.get_config("moons,20")


def run_study(config, arg, path):
  tree = workdir.as_json(config.get_config(arg))
  load, task = study.KINDS[tree["data"]["kind"]]
  data = tree["data"]
  few = splits.at_most(load(data["name"]), data["max_examples"])
  return tree, study.run(tree, few, task, path)


@pytest.mark.parametrize(
  "config, arg",
  [
    pytest.param(loss_multilabel, "digit_sets,tiny", marks=pytest.mark.slow),
    pytest.param(loss_label_noise, "digits,40,tiny", marks=pytest.mark.slow),
    (loss_images, "digits,tiny"),
    pytest.param(loss_many_way, "digit_lines,tiny", marks=pytest.mark.slow),
  ],
)
def test_a_comparison_has_all_its_points(config, arg, tmp_path):
  path = tmp_path / "results.jsonl"
  tree, found = run_study(config, arg, path)
  assert {name: len(rs) for name, rs in found.items()} == {
    name: 2 for name in tree["methods"]
  }
  for line in map(json.loads, path.read_text().splitlines()):
    assert line["settings"]["train"] == tree["train"]
    assert line["test"].keys() == {*tree["measures"], *tree["diagrams"]}
    for part in ("validation", "test"):
      assert line[part].keys() >= set(tree["measures"])
      values = line[part][tree["metric"]]
      assert len(values) == 2 and all(0 <= v <= 1 for v in values)


def test_a_comparison_goes_on_where_it_stopped(tmp_path):
  path = tmp_path / "results.jsonl"
  run_study(loss_tabular, "iris,tiny", path)
  lines = path.read_text().splitlines()
  assert len(lines) == 4
  # Killed while the last was written.
  path.write_text("\n".join([*lines[:3], lines[3][:40]]))
  _, found = run_study(loss_tabular, "iris,tiny", path)
  again = path.read_text().splitlines()
  assert again[:3] == lines[:3] and len(again) == 4
  old, new = json.loads(lines[3]), found["exact"][1]
  assert selection.key(old) == selection.key(new)
  for part in ("validation", "test"):
    np.testing.assert_allclose(
      new[part]["accuracy"], old[part]["accuracy"], atol=1e-5
    )


def test_points_side_by_side_are_few(tmp_path, monkeypatch):
  seen = []

  def every(trial, *, at_once):
    assert at_once

    def run_points(points, seeds, shared):
      seen.append([point["lr"] for point in points])
      if len(seen) == 2:
        raise KeyboardInterrupt
      rates = np.array([[lr, lr] for lr in seen[-1]])
      return {part: {"accuracy": rates} for part in ("validation", "test")}

    return run_points

  monkeypatch.setattr(training, "every", every)
  tree = workdir.as_json(loss_tabular.get_config("iris,tiny"))
  tree["search"]["num_points"] = 8
  tree["methods"] = {"cross_entropy": {}}
  data, path = tabular.load("iris"), tmp_path / "results.jsonl"
  with pytest.raises(KeyboardInterrupt):
    study.run(tree, data, classification, path)
  assert len(path.read_text().splitlines()) == 6
  found = study.run(tree, data, classification, path)["cross_entropy"]
  rates = [p["lr"] for p in study.points(tree, "cross_entropy")]
  # The last ones are filled up, so that nothing is compiled twice.
  assert seen[:2] == [rates[:6], [rates[6], *rates[7:] * 5]]
  assert seen[2:] == [rates[6:]]
  assert [r["test"]["accuracy"] for r in found] == [[lr, lr] for lr in rates]
  assert len(path.read_text().splitlines()) == 8


def test_a_config_of_another_program_is_told_its_own():
  tabular_config = workdir.as_json(loss_tabular.get_config("iris"))
  oracle_config = workdir.as_json(loss_oracle.get_config("python"))
  toy = loss_toys.get_config("tailr_mixture").lock()
  digits = common.get_config().lock()
  of_program = {
    "compare": tabular_config,
    "compare_language": oracle_config,
    "toys": toy,
  }
  assert of_program.keys() == programs.RUNNERS.keys()
  for program, own in of_program.items():
    found = programs.runner(program, own)
    assert found in programs.RUNNERS[program].values()
    for other, config in of_program.items():
      if other != program:
        with pytest.raises(ValueError, match=rf"loss_studies\.{other}$"):
          programs.runner(program, config)
    some = ", ".join(programs.RUNNERS[program])
    with pytest.raises(ValueError, match=f"data.kind=None is none.* {some};"):
      programs.runner(program, digits)
  with pytest.raises(ValueError, match="of data.kind='oracle' are run by pyth"):
    programs.runner("compare", oracle_config)
  with pytest.raises(ValueError, match="of toy='tailr_mixture' are run by"):
    programs.runner("compare_language", toy)
  with pytest.raises(ValueError, match="data.kind='table' is none of what"):
    programs.runner("compare", {"data": {"kind": "table"}})


def test_what_was_chosen_is_printed(capsys):
  good = trial("a", 0.1, [0.8, 0.9, 1.0], [0.1, 0.2, 0.6])
  bad = trial("a", 1.0, [0.8, 0.8, 0.9], [0.9, 0.9, 0.9])
  programs.print_chosen({"a": [bad, good]}, "accuracy")
  (line,) = capsys.readouterr().out.splitlines()
  assert line.split()[:4] == ["a", "accuracy", "0.3000", "+-"]
  assert line.endswith("at {'lr': 0.1}")


def records_of(config, value):
  """What a finished config leaves, of made-up numbers: value(method, i)."""
  for method in config["methods"]:
    for i, point in enumerate(study.points(config, method)):
      validation, test = value(method, i)
      yield {
        **study.record_of(config, method, point),
        "validation": {"accuracy": [validation] * 5},
        "test": {"accuracy": [test + 0.01 * k for k in range(5)]},
        "environment": {
          "devices": ["cpu"],
          "num_cores": 2,
          "versions": {"jax": "0"},
          "git_sha": "0",
        },
      }


def test_tables_show_what_validation_chose(tmp_path, monkeypatch):
  monkeypatch.setattr(results, "FOLDER", tmp_path)
  config = workdir.as_json(loss_tabular.get_config("iris"))
  assert loss_study_tables.loss_tabular_accuracy() == "Not yet run."

  def value(method, i):
    base = 0.7 if method == "hinge" else 0.5
    return (0.9, base) if i == 3 else (0.8, 0.9)

  found = list(records_of(config, value))
  tiny = found[0] | {"settings": found[0]["settings"] | {"train": {}}}
  tiny = tiny | {"validation": {"accuracy": [1.0] * 5}}
  path = tmp_path / "loss_tabular.jsonl"
  unfinished = [r for r in found if r["method"] != "exact"][:-1] + [tiny]
  path.write_text("".join(json.dumps(r) + "\n" for r in unfinished))
  table = loss_study_tables.loss_tabular_accuracy()
  # Of .5, .51, ..., .54: mean .52, variance .001 / 4, over five.
  error = 100 * math.sqrt(0.00025 / 5)
  assert f"| cross-entropy | 52.0 ± {error:.1f} |" in table
  assert "| EXACT, its authors' step | - |" in table
  assert "| TaiLr | - |" in table  # one of its points is missing
  # Seed by seed the difference is .2 exactly.
  assert "| hinge | 20.00 ± 0.00 |" in table
  assert "24 points a method" in table and "5 seeds" in table


def test_cells_and_titles():
  assert loss_study_tables.cell([-1e-6, -1e-6]) == "0.0 ± 0.0"
  assert loss_study_tables.title_of("page_blocks") == "page blocks"
  assert loss_study_tables.title_of("digits,20") == "digits, 20 %"


def test_a_smaller_budget_is_told():
  args = ("digits,20", "mnist,0", "mnist,20", "cifar10,40")
  columns = {
    arg: (workdir.as_json(loss_label_noise.get_config(arg)), {}) for arg in args
  }
  found = loss_study_tables.budget(columns)
  assert found == "24 points a method (12 of mnist, cifar10)"
