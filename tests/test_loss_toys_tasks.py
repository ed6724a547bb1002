# SPDX-License-Identifier: Apache-2.0
"""Toys of EMO, ZLPR and task directions: their data, losses and measures."""

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from scipy import special
from sklearn import metrics as sklearn_metrics

from configs import loss_toys
from experiments.loss_studies import multilabel_methods
from experiments.loss_studies import toy_emo_synonyms
from experiments.loss_studies import toy_task_directions
from experiments.loss_studies import toy_zlpr_imbalance
import losses
from scripts import loss_toy_tables
from scripts import loss_toy_task_tables


def config_of(name):
  return loss_toys.get_config(name).lock()


def test_synonyms():
  config = config_of("emo_synonyms,tiny")
  problem = toy_emo_synonyms.make_problem(3, config)
  truth, group = np.float64(problem["truth"]), problem["group"]
  for shares in (truth, problem["train"], problem["valid"]):
    np.testing.assert_allclose(shares.sum(-1), 1, rtol=1e-6)
  # Of each context, 0.8 falls on one group and the rest anywhere.
  of_group = truth @ np.eye(4)[group]
  np.testing.assert_allclose(of_group.max(-1), 0.8 + 0.2 / 4, rtol=1e-6)
  np.testing.assert_allclose(np.median(of_group, -1), 0.2 / 4, rtol=1e-6)
  # Synonyms are near each other.
  unit = problem["embedding"]
  unit = unit / np.linalg.norm(unit, axis=-1, keepdims=True)
  cosine, same = unit @ unit.T, group[:, None] == group
  assert cosine[same].min() > 0.8

  logits = np.random.default_rng(0).normal(size=truth.shape)
  log_p = jax.nn.log_softmax(jnp.float32(logits))
  found = toy_emo_synonyms.expected(jnp.exp(log_p), -log_p, problem)
  expected = losses.soft_emo_terms(
    jnp.float32(logits), problem["truth"], problem["embedding"]
  )
  assert found["nll"] == pytest.approx(float(expected.nll.mean()), rel=1e-5)
  assert found["emd"] == pytest.approx(float(expected.emd.mean()), rel=1e-5)
  p = special.softmax(logits, axis=-1)
  joint = np.einsum("ct,ci->ti", truth, p) / len(p)  # target, then prediction
  own = np.eye(len(group), dtype=bool)
  for name, where in (
    ("target", own),
    ("synonyms", same & ~own),
    ("elsewhere", ~same),
  ):
    assert found[name] == pytest.approx(joint[where].sum(), rel=1e-5), name

  config = ml_collections.ConfigDict(config)
  config.points.tailr = config.points.tailr[:1]
  with pytest.raises(ValueError, match=r"have \[1, 2\] points"):
    toy_emo_synonyms.measure(config)


@pytest.mark.parametrize("gamma", [1.0, 4.0])
def test_asymmetric_loss_is_finite_at_any_score(gamma):
  scores = jnp.array([[-200.0, 200.0, 200.0]])
  labels = jnp.array([[1.0, 0.0, 1.0]])
  value, slope = jax.value_and_grad(
    lambda z: multilabel_methods.asymmetric(
      z, labels, {"gamma": gamma}, None
    ).sum()
  )(scores)
  assert np.isfinite(value) and np.isfinite(slope).all()


def test_labels_of_a_thousand():
  config = config_of("zlpr_imbalance,tiny")
  sets = toy_zlpr_imbalance.make_data(jax.random.key(0), config)
  assert [len(x) for x, _ in sets] == [100, 20, 20]
  for _, labels in sets:
    np.testing.assert_array_equal(labels.sum(-1), 3)
  scores = jax.random.normal(jax.random.key(1), (20, 20))
  _, labels = sets[1]
  for threshold in (0.0, 0.7):
    expected = sklearn_metrics.f1_score(
      labels, scores > threshold, average="micro"
    )
    found = toy_zlpr_imbalance.f1(scores, labels, threshold)
    assert found == pytest.approx(expected, rel=1e-6)


def test_losses_of_a_thousand_have_equal_budgets():
  config = loss_toys.get_config("zlpr_imbalance")
  points = {
    method: toy_zlpr_imbalance.points_of(grid)
    for method, grid in config.methods.items()
  }
  assert {len(of_method) for of_method in points.values()} == {18}
  assert {"lr": 0.05, "bias": -5.8, "gamma": 2.0} in points["focal"]
  with config.unlocked():
    config.methods.focal.gamma = (2.0,)
  with pytest.raises(ValueError, match=r"have \[6, 18\] points"):
    toy_zlpr_imbalance.measure(config)


@pytest.mark.slow
def test_a_trial_knows_how_often_labels_are_set():
  config = config_of("zlpr_imbalance,tiny")
  (_, labels), *_ = toy_zlpr_imbalance.make_data(
    jax.random.split(jax.random.key(4))[0], config
  )
  found = []

  def loss(scores, labels, point, frequency):
    found.append((point, frequency))
    return jnp.sum(scores, axis=-1)

  with jax.disable_jit():
    toy_zlpr_imbalance.trial(
      jax.random.key(4), {"lr": 0.1, "bias": 0.0}, loss=loss, config=config
    )
  (point, frequency), *_ = found
  assert point == {"lr": 0.1, "bias": 0.0}
  expected = np.clip(np.float64(labels).mean(0), 0.01, 0.99)
  np.testing.assert_allclose(frequency, expected, rtol=1e-6)


def test_table_of_a_thousand(monkeypatch):
  def row(method, f1, **own):
    names = ("at_best", "best_threshold", "num_predicted")
    return {
      "method": method,
      "point": {"bias": -5.8, "lr": 0.05} | own,
      "at_0": [f1, 0.01],
    } | dict.fromkeys(names, [f1, 0.01])

  record = {
    "measured": {
      "num_points": 18,
      "rows": [row("focal", 0.3, gamma=2.0), row("zlpr", 0.4)],
    },
    "config": {"seeds": [0, 1], "num_steps": 600, "num_labels": 3},
    "environment": {
      "devices": ["cpu"],
      "num_cores": 2,
      "versions": {"jax": "0"},
      "git_sha": "0",
    },
  }
  monkeypatch.setattr(loss_toy_tables, "newest", lambda toy: record)
  _, _, first, second, _, protocol = loss_toy_task_tables.toy_zlpr().split("\n")
  assert first.startswith("| ZLPR | 0.400 ± 0.010 |")
  assert first.endswith("| 0.05, -5.8 |")
  assert second.startswith("| focal | 0.300 ± 0.010 |")
  assert second.endswith("| 0.05, -5.8, gamma 2 |")
  assert "18 points (lr, first bias, own number) for each loss" in protocol


def test_directions_in_the_plane():
  for rule, u in (  # of (1, 0) and (-1, 1)
    ("equal", (0, 0.5)),
    ("normalized", ((1 - 0.5**0.5) / 2, 0.5**0.5 / 2)),
    ("min_norm", (0.2, 0.4)),
    ("primary_secondary", (0.5, 0.5)),
    ("pcgrad", (0.25, 0.75)),
    ("upgrad", (0.25, 0.75)),
  ):
    found = toy_task_directions.in_the_plane(135.0, 2**0.5, rule)
    np.testing.assert_allclose(found["u"], u, atol=1e-6)
    progress = u[0], u[1] - u[0]
    np.testing.assert_allclose(found["progress"], progress, atol=1e-6)
  g = jnp.float32(toy_task_directions.pair(150.0, 2.0))
  assert toy_task_directions.opposed(g.mean(0), g)
  assert not toy_task_directions.opposed(jnp.array([0.25, 0.433]), g)
