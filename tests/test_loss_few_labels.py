# SPDX-License-Identifier: Apache-2.0
"""Few labels: which they are, and how far steps of one norm change a model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import loss_few_labels
from experiments import workdir
from experiments.loss_studies import few_labels
from experiments.loss_studies import images
from experiments.loss_studies import networks
from experiments.loss_studies import splits
from experiments.loss_studies import study

METHODS = few_labels.METHODS
TRAIN = {
  "num_steps": 8,
  "batch_size": 16,
  "labelled_batch_size": 4,
  "labels_each": 2,
}


def digits(count=150):
  return splits.at_most(images.load("digits"), count)


def test_labels_are_of_few_training_examples():
  data = digits()
  seeds = few_labels.prepare(data, (0, 1), TRAIN)
  for i in range(2):
    chosen = np.unique(seeds["labelled_batches"][i])
    assert set(chosen) <= set(seeds["train"][i])
    assert np.bincount(data.y[chosen]).tolist() == [2] * 10
    # Those without labels are of all of them.
    assert set(seeds["batches"][i].ravel()) == set(seeds["train"][i])
  assert set(seeds["labelled_batches"][0].flat) != set(
    seeds["labelled_batches"][1].flat
  )
  with pytest.raises(ValueError, match=r"labels_each=99: class 0 has \d+ tr"):
    few_labels.labelled(data.y, seeds["train"][0], 0, num_each=99)


@pytest.mark.slow
def test_vat_finds_the_one_direction_that_matters():
  """Noise finds a share of it: D ~ (w . r)^2, on average |w|^2 eps^2 / d."""
  size, epsilon = 25, 0.1
  w = np.random.default_rng(0).normal(size=size)
  head = jnp.float32(np.stack([w, 0 * w], axis=1))
  x = jnp.zeros((4_000, size))

  def mean(name):
    terms = METHODS[name].consistency(
      lambda x: x @ head, x, jax.random.key(1), epsilon=epsilon
    )
    return float(terms.mean())

  # p = 1/2, so D is (w . r)^2 / 8 to second order.
  top = epsilon**2 * np.sum(w**2) / 8
  assert mean("vat") == pytest.approx(top, rel=0.02)
  # A chi-squared variable over 4,000: a standard deviation of 2.2 %.
  assert mean("noise") == pytest.approx(top / size, rel=0.1)


@pytest.mark.slow
def test_labels_alone_are_steps_of_norm_0():
  data = digits(600)
  seeds = few_labels.prepare(data, (0,), TRAIN | {"num_steps": 40})
  seed = {name: a[0] for name, a in seeds.items()}
  network = networks.make({"name": "mlp", "widths": (16,)}, 10)

  def accuracy(name, epsilon):
    trial = jax.jit(few_labels.make_trial(network, METHODS[name]))
    point = {"lr": 0.01, "weight_decay": 0.01, "epsilon": epsilon}
    return trial(point, seed, {"x": data.x, "y": data.y})["test"]["accuracy"]

  alone = accuracy("supervised", 0.0)
  assert 0.1 < alone < 1
  assert accuracy("vat", 0.0) == pytest.approx(float(alone), abs=1e-6)
  assert accuracy("vat", 1.0) != pytest.approx(float(alone), abs=1e-6)


def test_the_config_is_fair():
  for arg in loss_few_labels.DATA:
    for variant in ("", ",tiny"):
      tree = workdir.as_json(loss_few_labels.get_config(arg + variant))
      searched = study.checked_points(tree, METHODS)
      assert {
        len({tuple(point.values()) for point in tried})
        for tried in searched.values()
      } == {tree["search"]["num_points"]}
      assert len(tree["seeds"]) == (2 if variant else 5)
    assert [p["epsilon"] for p in searched["vat"]] == [1.0] * 2
  # The control has steps of the same norms.
  full = workdir.as_json(loss_few_labels.get_config("mnist"))
  assert study.points(full, "noise") == study.points(full, "vat")
  with pytest.raises(ValueError, match="the argument is"):
    loss_few_labels.get_config("cifar10")


@pytest.mark.slow
def test_the_program_runs(tmp_path):
  tree = workdir.as_json(loss_few_labels.get_config("digits,tiny"))
  data = digits(tree["data"]["max_examples"])
  found = study.run(tree, data, few_labels, tmp_path / "results.jsonl")
  for of_method in found.values():
    assert len(of_method) == 2
    for record in of_method:
      assert all(0 <= a <= 1 for a in record["test"]["accuracy"])
