# SPDX-License-Identifier: Apache-2.0
"""Toys of the losses: the digits of their papers, and what they are made of."""

import importlib
import json

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
import real_runs
from scipy import optimize
from scipy import special
from scipy import stats

from configs import loss_toys
from experiments.loss_studies import toy_exact_3_points
from experiments.loss_studies import toy_exact_5_points
from experiments.loss_studies import toy_tailr_mixture
from scripts import table_places

NAMES = [toy.__name__ for toy in loss_toys.TOYS]


def config_of(name):
  return loss_toys.get_config(name).lock()


# Minimisers of arXiv 2205.09615's toy: of the closed forms, by one-dimensional
# search in float64, and of the hinge as intervals. Digits as they are printed.
MINIMISERS = {
  ("cross_entropy", 1): "0.7001",
  ("cross_entropy", 2): "0.3604",
  ("cross_entropy", 3): "0.2518",
  ("cross_entropy", 4): "0.2007",
  ("cross_entropy", 5): "0.1726",
  ("cross_entropy", 10): "0.1312",
  ("cross_entropy", 100): "0.1250",
  ("exact", 1): "3.9059",
  ("exact", 0.5): "1.0197",
  ("exact", 0.3): "0.4063",
  ("exact", 0.2): "0.2190",
  ("exact", 0.15): "0.1588",
  ("exact", 0.1): "0.1283",
  ("exact", 0.05): "0.1250",
  ("smooth_accuracy", 2): "2.0499",
  ("smooth_accuracy", 4): "0.3385",
  ("smooth_accuracy", 8): "0.1510",
  ("smooth_accuracy", 10): "0.1356",
  ("smooth_accuracy", 20): "0.1252",
}
INTERVALS = {1: (0.75, 1), 2: (0.25, 0.5), 4: (0, 0.25), 8: (0.125, 0.125)}
# step: b, sigma, as far as they are known.
LEARNED = {
  1000: ("0.738", "0.438"),
  2000: ("0.446", "0.275"),
  3000: ("0.1251", "0.0688"),
  5000: ("0.1250", "0.0296"),
}


@pytest.fixture(scope="module")
def three_points():
  return toy_exact_3_points.measure(config_of("exact_3_points"))


def test_minimisers_of_three_points(three_points):
  found = {
    (row["objective"], row.get("k", row.get("sigma"))): row
    for row in three_points["minimisers"]
  }
  assert len(found) == len(MINIMISERS) + len(INTERVALS)
  for key, digits in MINIMISERS.items():
    row = found[key]
    assert f"{row['low']:.4f}" == f"{row['high']:.4f}" == digits, key
    inside = 0 < row["low"] < 0.25
    assert row["accuracy"] == pytest.approx(1 if inside else 2 / 3)
  for k, ends in INTERVALS.items():
    row = found["hinge", k]
    np.testing.assert_allclose((row["low"], row["high"]), ends, atol=1e-12)
    assert row["accuracy"] == pytest.approx(1 if k >= 4 else 2 / 3)
  assert f"{found['cross_entropy', 1]['low']:.6f}" == "0.700088"
  assert f"{found['cross_entropy', 1]['loss']:.6f}" == "0.557797"
  assert f"{found['hinge', 1]['loss']:.6f}" == "0.583333"
  assert f"{three_points['enough_for_cross_entropy']:.5f}" == "3.02523"


def test_learned_sigma_of_three_points(three_points):
  found = {row["step"]: row for row in three_points["learned"]}
  for step, digits in LEARNED.items():
    for name, text in zip(("b", "sigma"), digits, strict=True):
      num = len(text.partition(".")[2])
      assert f"{found[step][name]:.{num}f}" == text, (step, name)
  assert f"{found[5000]['loss']:.4f}" == "0.0009"
  assert found[5000]["accuracy"] == 1


def test_objectives_of_three_points_are_the_closed_forms():
  with jax.enable_x64(True):
    for b, scale in ((0.1, 0.3), (-0.4, 2.0)):
      margin = np.array([-1, -1, 1]) * (toy_exact_3_points.X - b)
      for name, loss in (
        ("exact", stats.norm.cdf(-margin / (scale * np.sqrt(2)))),
        ("cross_entropy", np.log1p(np.exp(-scale * margin))),
        ("hinge", np.maximum(0, 1 - scale * margin)),
        ("smooth_accuracy", special.expit(-scale * margin)),
      ):
        found = toy_exact_3_points.objective(name)(b, scale)
        assert float(found) == pytest.approx(loss.mean(), rel=1e-9), name


def test_the_page_prints_these_digits():
  text = (table_places.ROOT / "docs/losses/exact.md").read_text()
  cells = {
    cell.strip() for line in text.splitlines() for cell in line.split("|")
  }
  assert set(MINIMISERS.values()) <= cells
  assert {f"[{a:g}, {b:g}]" for a, b in INTERVALS.values() if a < b} <= cells
  assert {"0.1251", "0.0688", "0.0296", "0.0009"} <= cells
  assert "3.02523" in text
  text = (table_places.ROOT / "docs/losses/tailr.md").read_text()
  assert "| 1.8000 | 1.6709 | 0.2388 | 0.5169 |" in text
  assert "| 1.0508 | 0.6190 | 0.6445 | 0.1999 |" in text


def test_five_points():
  # Every line, by its two sides: all thresholds, and both signs.
  x, labels = toy_exact_5_points.X, toy_exact_5_points.LABELS
  best = max(
    np.mean((sign * (x - b) > 0) == labels)
    for b in np.arange(-7, 3, 0.5) + 0.25
    for sign in (-1, 1)
  )
  assert toy_exact_5_points.best_accuracy() == pytest.approx(best) == 0.8

  config = ml_collections.ConfigDict(loss_toys.exact_5_points(False))
  config.num_steps = 600
  paths = {
    loss: toy_exact_5_points.train(
      jnp.zeros(1), model="threshold", loss=loss, config=config
    )
    for loss in ("cross_entropy", "exact")
  }
  for b, _ in paths.values():  # Every step is as long as the learning rate.
    np.testing.assert_allclose(np.diff(b[:300, 0]), -0.01, rtol=1e-3)
  signs = 2 * labels - 1
  least = optimize.minimize_scalar(
    lambda b: np.log1p(np.exp(-signs * (x - b))).sum()
  )
  (b, right), (b_exact, right_exact) = paths.values()
  assert b[-1, 0] == pytest.approx(least.x, abs=0.011)
  assert right[-1] == pytest.approx(0.6)
  assert b_exact[-1, 0] == pytest.approx(-5.5, abs=0.02)
  assert right_exact[-1] == pytest.approx(0.8)


def test_mixture():
  measured = toy_tailr_mixture.measure(config_of("tailr_mixture,tiny"))
  for name, digits in (
    ("kl", ("1.8000", "1.6709", "0.2388", "0.5169")),
    ("tvd", ("1.0508", "0.6190", "0.6445", "0.1999")),
  ):
    found = tuple(f"{number:.4f}" for number in measured[name].values())
    assert found == digits
  entropy, tailr = measured["tailr"]
  # gamma = 0 is cross-entropy, but for the tails and the width of the tokens.
  assert entropy["mu"] == pytest.approx(measured["kl"]["mu"], abs=1e-3)
  assert entropy["sigma"] == pytest.approx(measured["kl"]["sigma"], abs=1e-3)
  assert tailr["gamma"] == 1e-3
  assert (
    0 < tailr["total_variation"] - measured["tvd"]["total_variation"] < 5e-3
  )
  # The likeliest interval is that at the mode of the first Gaussian.
  peak = 0.8 * stats.norm.pdf(0, scale=0.5) * 0.05
  assert measured["largest"] == pytest.approx(peak, rel=1e-6)


@pytest.mark.parametrize(
  "name",
  [
    # That of 3 points is the same program.
    pytest.param(n, marks=pytest.mark.slow) if n == "exact_5_points" else n
    for n in NAMES
  ],
)
def test_tiny_toys_give_plain_numbers(name):
  # Not by the program, whose flags other programs define too.
  toy = importlib.import_module(f"experiments.loss_studies.toy_{name}")
  measured = toy.measure(config_of(f"{name},tiny"))
  assert json.loads(json.dumps(measured)) == measured
  text = json.dumps(measured)
  assert "NaN" not in text and "Infinity" not in text
  if name == "task_directions":  # Half of the pairs conflict.
    (row,) = measured["random"]
    assert abs(row["conflicts"][0] - 0.5) < 0.2
    assert row["equal"][0] > 0
    assert row["primary_secondary"] == [0, 0]


def test_arguments():
  files = (table_places.ROOT / "experiments" / "loss_studies").glob("toy_*.py")
  assert set(NAMES) == {path.stem.removeprefix("toy_") for path in files}
  assert not loss_toys.get_config("exact_3_points").tiny
  for arg in ("", "exact", "exact_3_points,small"):
    with pytest.raises(ValueError, match="the argument is <exact_3_points"):
      loss_toys.get_config(arg)


def test_the_program_appends_a_record(tmp_path):
  path = tmp_path / "new" / "toys.jsonl"
  program = ["-m", "experiments.loss_studies.toys", f"--results={path}"]
  program.append("--config=configs/loss_toys.py:tailr_mixture,tiny")
  ((code, out, err),) = real_runs.end([real_runs.start_python(program)])
  assert code == 0, err
  assert "appended" in out
  (line,) = path.read_text().splitlines()
  record = json.loads(line)
  assert (record["toy"], record["tiny"]) == ("tailr_mixture", True)
  assert record["config"]["gammas"] == [0.0, 1e-3]
  assert "git_sha" in record["environment"]
