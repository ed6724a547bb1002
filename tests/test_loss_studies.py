# SPDX-License-Identifier: Apache-2.0
"""Comparisons of losses: splits, budgets, losses, measures, resuming."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats
from sklearn import metrics

from configs import loss_label_noise
from configs import loss_multilabel
from configs import loss_tabular
from experiments import workdir
from experiments.loss_studies import classification
from experiments.loss_studies import methods
from experiments.loss_studies import multilabel_methods
from experiments.loss_studies import multilabel_task
from experiments.loss_studies import selection
from experiments.loss_studies import splits
from experiments.loss_studies import study
from experiments.loss_studies import training

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(7, 5)).astype(np.float32)
LABELS = np.int32([0, 1, 2, 3, 4, 0, 2])
BAGS = RNG.random((7, 5)) < 0.4


def data(n=50, num_test=None):
  return splits.Data(
    x=np.arange(2 * n, dtype=np.float32).reshape(n, 2),
    y=np.arange(n, dtype=np.int32) % 5,
    num_outputs=5,
    num_test=num_test,
  )


@pytest.mark.parametrize("num_test", [None, 15])
def test_parts_of_a_seed_share_nothing(num_test):
  first, again, other = (splits.split(data(50, num_test), s) for s in (0, 0, 1))
  assert sorted(np.concatenate(first)) == list(range(50))
  assert [len(part) for part in first] == (
    [32, 8, 10] if num_test is None else [28, 7, 15]
  )
  np.testing.assert_array_equal(first.train, again.train)
  assert set(first.train) != set(other.train)
  is_official = sorted(first.test) == list(range(35, 50))
  assert is_official == (num_test is not None)


def test_fewer_examples_keep_the_test_apart():
  few = splits.at_most(data(50, 15), 10)
  assert len(few.x) == len(few.y) == 20 and few.num_test == 10
  assert few.x[:10].max() < 70 <= few.x[10:].min()  # x of example i is 2i
  assert splits.at_most(data(), None).x is not None
  assert len(splits.at_most(data(), 9).y) == 9


def test_features_are_scaled_by_training_examples_alone():
  x = np.float32([[0, 3, 1], [1, 5, 1], [1, 9, 1], [0, 99, 1]])
  of_table = splits.Data(x, np.int32([0, 1, 0, 1]), 2)
  mean, deviation = splits.moments(of_table, np.array([0, 1]))
  # Zeros and ones stay; 3 and 5 have mean 4 and deviation 1.
  np.testing.assert_array_equal(mean, [0, 4, 0])
  np.testing.assert_array_equal(deviation, [1, 1, 1])
  images = of_table._replace(standardize=False)
  np.testing.assert_array_equal(splits.moments(images, [0, 1])[0], 0)


def test_batches_are_epochs():
  train = np.arange(10, 22)
  found = splits.batches(train, 3, num_steps=7, batch_size=4)
  assert found.shape == (7, 4)
  assert sorted(found[:3].ravel()) == sorted(found[3:6].ravel()) == list(train)
  assert list(found[:3].ravel()) != list(found[3:6].ravel())


def test_noise_replaces_a_share_by_other_classes():
  y = np.repeat(np.arange(10, dtype=np.int32), 1000)
  wrong = splits.noisy(y, 0, num_classes=10, noise=0.4)
  assert wrong.dtype == y.dtype
  # A binomial's standard deviation is sqrt(.4 * .6 / 10^4) = .005.
  assert np.mean(wrong != y) == pytest.approx(0.4, abs=0.02)
  assert np.bincount(wrong[y == 3], minlength=10)[[2, 4]].min() > 20
  np.testing.assert_array_equal(
    splits.noisy(y, 0, num_classes=10, noise=0.0), y
  )


def test_test_labels_are_never_noisy():
  seeds = classification.prepare(
    data(), (0, 1), {"label_noise": 0.9, "num_steps": 1, "batch_size": 2}
  )
  for i in range(2):
    test = seeds["test"][i]
    np.testing.assert_array_equal(seeds["y"][i][test], data().y[test])
    assert np.mean(seeds["y"][i] != data().y) > 0.5


def test_hinge_and_one_against_the_rest():
  z = np.float64(LOGITS)
  hinge, sigmoid = [], []
  for row, y in zip(z, LABELS, strict=True):
    rivals = [i for i in range(5) if i != y]
    hinge.append(np.mean([max(0, 1 - row[y] + row[i]) for i in rivals]))
    sigmoid.append(
      np.log1p(np.exp(-row[y])) + sum(np.log1p(np.exp(row[i])) for i in rivals)
    )
  for fn, expected in ((methods.hinge, hinge), (methods.sigmoid, sigmoid)):
    found = fn(jnp.array(LOGITS), LABELS, {}, 0.0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("progress, sigma", [(0.0, 10.0), (0.5, 1.0)])
def test_exact_of_two_classes_is_the_normal_distribution(progress, sigma):
  logits = jnp.array(LOGITS[:, :2])
  labels = LABELS % 2
  z = np.float64(logits)
  z = (z - z.mean()) / (z.std() + 1e-6)
  gap = z[np.arange(7), labels] - z[np.arange(7), 1 - labels]
  expected = stats.norm.sf(np.minimum(gap, 0.7) / sigma / math.sqrt(2))
  point = {"margin": 0.7, "final_sigma": 0.1}
  found = methods.exact(logits, labels, point, progress)
  np.testing.assert_allclose(found, expected, atol=1e-6)


def test_sixteen_nodes_are_enough_for_exact():
  """P sums to 1 over the classes; 26 as letter has."""
  logits = jnp.array(np.random.default_rng(1).normal(size=(20, 26)))
  point = {"margin": jnp.inf, "final_sigma": 1.0}
  labels = jnp.arange(26)

  def p(y):
    return 1 - methods.exact(logits, jnp.full(20, y), point, 1.0)

  np.testing.assert_allclose(sum(map(p, labels)), 1, atol=1e-3)


def test_binary_losses():
  t, s = np.float64(BAGS), np.float64(LOGITS)
  p = 1 / (1 + np.exp(-s))
  q = np.maximum(p - 0.05, 0)
  asymmetric = -(t * (1 - p) * np.log(p) + (1 - t) * q**2 * np.log(1 - q))
  p_t = np.where(BAGS, p, 1 - p)
  focal = -((1 - p_t) ** 2) * np.log(p_t)
  labels, frequency = jnp.float32(BAGS), jnp.full(5, 0.4)
  for fn, expected in (
    (multilabel_methods.asymmetric, asymmetric),
    (multilabel_methods.focal, focal),
    (multilabel_methods.binary, -np.log(p_t)),
  ):
    found = fn(jnp.array(LOGITS), labels, {"gamma": 2.0}, frequency)
    np.testing.assert_allclose(found, expected.sum(-1), rtol=1e-4)


def test_class_weights_balance():
  """At score 0 and full power no label pulls, however rare it is."""
  labels = jnp.float32(BAGS)
  frequency = labels.mean(0)

  def total(scores, power):
    point = {"power": power}
    loss = multilabel_methods.weighted_binary(scores, labels, point, frequency)
    return loss.sum()

  zeros = jnp.zeros_like(labels)
  pull = jax.grad(total)(zeros, 1.0).sum(0)
  np.testing.assert_allclose(pull, 0, atol=1e-5)
  plain = multilabel_methods.binary(jnp.array(LOGITS), labels, {}, frequency)
  assert total(jnp.array(LOGITS), 0.0) == pytest.approx(float(plain.sum()))


def test_a_training_is_its_steps():
  # Gradient x of x^2 / 2, rates lr (1 + cos(pi k / 4)) / 2, no momentum.
  expected = 3.0
  for k in range(4):
    expected *= 1 - 0.5 * (1 + math.cos(math.pi * k / 4)) / 2
  seen = training.fit(
    lambda x, each, progress: each * x**2 / 2,
    jnp.array(3.0),
    jnp.ones(4),
    transform=optax.identity(),
    lr=0.5,
  )
  assert float(seen) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("at_once", [True, False])
def test_all_points_of_all_seeds(at_once):
  def trial(point, seed, shared):
    return {"test": point["lr"] * seed["k"] + shared["x"].sum()}

  run = training.every(trial, at_once=at_once)
  points = [{"lr": lr} for lr in (1.0, 2.0, 3.0)]
  found = run(points, {"k": np.float32([10, 20])}, {"x": np.float32([1, 1])})
  np.testing.assert_allclose(found["test"], [[12, 22], [22, 42], [32, 62]])


def test_accuracy_and_calibration():
  logits = jnp.log(jnp.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8]]))
  found = classification.measures(logits, jnp.array([0, 1, 1]))
  assert float(found["accuracy"]) == pytest.approx(2 / 3)
  # Three bins of one: |1 - .9|, |0 - .7|, |1 - .8|; and .8 - 2/3.
  assert float(found["ece"]) == pytest.approx(1 / 3, abs=1e-5)
  assert float(found["overconfidence"]) == pytest.approx(0.8 - 2 / 3, abs=1e-5)
  np.testing.assert_allclose(found["reliability"].sum(1), [3, 2.4, 2], 1e-5)


def test_measures_of_labels_are_scikit_learns():
  rng = np.random.default_rng(2)
  scores = np.float32(rng.integers(-3, 4, (40, 6)))  # with ties
  labels = rng.random((40, 6)) < 0.3
  labels[:, 5] = False  # a label that is never set
  scores[:, 5] = 1.0
  predicted = scores > 0
  found = multilabel_task.measures(
    jnp.array(scores), jnp.array(labels), jnp.array(2.0)
  )
  expected = {
    "micro_f1": metrics.f1_score(labels, predicted, average="micro"),
    "macro_f1": metrics.f1_score(
      labels[:, :5], predicted[:, :5], average="macro"
    ),
    "average_precision": np.mean(
      [
        metrics.average_precision_score(labels[:, i], scores[:, i])
        for i in range(5)
      ]
    ),
    "micro_f1_at_best_threshold": metrics.f1_score(
      labels, scores >= 2, average="micro"
    ),
  }
  assert found.keys() == expected.keys()
  for name, value in expected.items():
    assert float(found[name]) == pytest.approx(value, abs=1e-6), name


def test_best_threshold_is_the_best_of_all():
  rng = np.random.default_rng(3)
  scores = rng.permutation(60).reshape(12, 5).astype(np.float32)
  labels = rng.random((12, 5)) < scores / 90
  found = multilabel_task.best_threshold(jnp.array(scores), jnp.array(labels))
  f1 = {
    t: metrics.f1_score(labels.ravel(), (scores >= t).ravel())
    for t in scores.ravel()
  }
  assert f1[float(found)] == pytest.approx(max(f1.values()))


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


def test_budgets_must_be_equal():
  config = {"methods": {"hinge": {"lr": [1, 2]}, "exact": {"lr": [1]}}}
  with pytest.raises(ValueError, match=r"2 \(hinge\), 1 \(exact\)"):
    study.checked_grids(config, methods.METHODS)
  config = {"methods": {"hing": {"lr": [1]}}}
  with pytest.raises(ValueError, match="'hing', which is none of"):
    study.checked_grids(config, methods.METHODS)
  assert study.grid({"lr": [1, 2], "gamma": [3]}) == [
    {"lr": 1, "gamma": 3},
    {"lr": 2, "gamma": 3},
  ]


@pytest.mark.parametrize(
  "config, args",
  [
    (loss_tabular, loss_tabular.DATA),
    (loss_multilabel, loss_multilabel.DATA),
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
      study.checked_grids(tree, task.METHODS)
      assert len(tree["seeds"]) == (2 if variant else 5)
  with pytest.raises(ValueError, match="the argument is"):
    config.get_config("moons,20")


def run_study(config, arg, path):
  tree = workdir.as_json(config.get_config(arg))
  load, task = study.KINDS[tree["data"]["kind"]]
  few = splits.at_most(load(tree["data"]["name"]), 60)
  return tree, study.run(tree, few, task, path)


@pytest.mark.parametrize(
  "config, arg",
  [
    (loss_multilabel, "digit_sets,tiny"),
    (loss_label_noise, "digits,40,tiny"),
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
    for part in ("validation", "test"):
      assert line[part].keys() == set(tree["measures"])
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
