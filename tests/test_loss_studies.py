# SPDX-License-Identifier: Apache-2.0
"""Comparisons of losses: what is minimised, trained and measured."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats
from sklearn import metrics

from experiments.loss_studies import classification
from experiments.loss_studies import many_way_task
from experiments.loss_studies import methods
from experiments.loss_studies import multilabel_methods
from experiments.loss_studies import multilabel_task
from experiments.loss_studies import networks
from experiments.loss_studies import training

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(7, 5)).astype(np.float32)
LABELS = np.int32([0, 1, 2, 3, 4, 0, 2])
BAGS = RNG.random((7, 5)) < 0.4


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


# Where training starts, at 10, P is off by 1 % of 1 / 26; where it ends, the
# integrand is nearly 0 or 1 at all nodes.
@pytest.mark.parametrize(
  "sigma, p_error, sum_error",
  [
    (10.0, 5e-4, 8e-3),
    (1.0, 4e-4, 1e-3),
    (0.3, 1e-4, 2e-4),
    (0.01, 1e-6, 1e-5),
  ],
)
def test_what_sixteen_nodes_cost_exact(sigma, p_error, sum_error):
  """P of 26 classes, as letter has, against 200 nodes in float64."""
  logits = np.float32(np.random.default_rng(1).normal(size=(20, 26)))
  labels = np.repeat(np.arange(26), 20)
  point = {"margin": jnp.inf, "final_sigma": sigma}
  # Each label with the whole batch, whose scale is not to change.
  found = 1 - methods.exact(jnp.tile(logits, (26, 1)), labels, point, 1.0)
  found = np.float64(found).reshape(26, 20)

  z = np.float64(logits)
  z = (z - z.mean()) / (z.std() + 1e-6)
  nodes, weights = np.polynomial.hermite_e.hermegauss(200)
  gaps = (z.T[:, :, None] - z)[..., None] / sigma + nodes  # [y, B, i, node]
  logs = stats.norm.logcdf(gaps).swapaxes(1, 2)  # [y, i, B, node]
  logs[np.arange(26), np.arange(26)] = 0
  expected = np.exp(logs.sum(1)) @ (weights / weights.sum())  # [y, B]
  np.testing.assert_allclose(expected.sum(0), 1, atol=1e-9)
  np.testing.assert_allclose(found, expected, atol=p_error)
  np.testing.assert_allclose(found.sum(0), 1, atol=sum_error)


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


@pytest.mark.parametrize("shape", [(2, 6, 8, 3), (2, 7, 5, 1), (1, 1, 2, 2)])
def test_a_convolution_is_a_product(shape):
  rng = np.random.default_rng(0)
  x = rng.normal(size=shape).astype(np.float32)
  kernel = rng.normal(size=(3, 3, shape[-1], 4)).astype(np.float32)
  expected = jax.lax.conv_general_dilated(
    x, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
  )
  found = networks.every_second_3x3(jnp.array(x)) @ kernel.reshape(-1, 4)
  np.testing.assert_allclose(found, expected, atol=1e-5)


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


@pytest.mark.slow
def test_items_that_are_not_there_change_nothing():
  logits = jnp.array(RNG.normal(size=(2, 3, 4)), jnp.float32)
  labels = jnp.array([[0, 3, 1], [2, 2, 0]])
  where = jnp.array([[True, True, False], [True, False, False]])
  frequency = jnp.array([0.7, 0.1, 0.1, 0.1])
  point = {"power": 0.5, "tau": 1.0}
  for name, method in many_way_task.METHODS.items():
    found = method.loss(logits, labels, where, point, frequency)
    other = method.loss(
      jnp.where(where[..., None], logits, 9.0), labels, where, point, frequency
    )
    np.testing.assert_allclose(found, other, rtol=1e-6, err_msg=name)
    assert found.shape == (2,)
  plain = many_way_task.cross_entropy(logits, labels, where, {}, frequency)
  none = {"power": 0.0, "tau": 0.0}
  for fn in (many_way_task.weighted, many_way_task.adjusted):
    found = fn(logits, labels, where, none, frequency)
    np.testing.assert_allclose(found, plain, rtol=1e-5)
  doubled = many_way_task.weighted(
    logits, labels, where, {"power": 1.0}, jnp.full(4, 0.5)
  )
  np.testing.assert_allclose(doubled, 2 * plain, rtol=1e-5)


def test_measures_of_items_are_scikit_learns():
  rng = np.random.default_rng(4)
  logits = rng.normal(size=(9, 6, 4)).astype(np.float32)
  labels = rng.choice(4, (9, 6), p=[0.7, 0.2, 0.1, 0.0])
  where = rng.random((9, 6)) < 0.8
  found = many_way_task.measures(
    jnp.array(logits), jnp.array(labels), jnp.array(where)
  )
  true, predicted = labels[where], logits.argmax(-1)[where]
  f1 = metrics.f1_score(true, predicted, average=None, labels=[0, 1, 2])
  rare = metrics.f1_score(true, predicted, average="micro", labels=[1, 2, 3])
  assert float(found["accuracy"]) == pytest.approx(np.mean(true == predicted))
  assert float(found["macro_f1"]) == pytest.approx(f1.mean(), abs=1e-6)
  assert float(found["rare_f1"]) == pytest.approx(rare, abs=1e-6)
