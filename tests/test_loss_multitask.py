# SPDX-License-Identifier: Apache-2.0
"""Two losses of one network: rules, the training, the settings, the study."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn import metrics

from experiments.loss_studies import multitask_clean
from experiments.loss_studies import multitask_decay
from experiments.loss_studies import multitask_heads
from experiments.loss_studies import multitask_methods
from experiments.loss_studies import multitask_training
from experiments.loss_studies import multitask_trial
from experiments.loss_studies import networks
from experiments.loss_studies import splits
import losses

RNG = np.random.default_rng(0)


def gram_of(degrees, length):
  inner = length * np.cos(np.deg2rad(degrees))
  return jnp.array([[1.0, inner], [inner, length**2]], jnp.float32)


def weights_of(name, values=(2.0, 0.5), initial=(4.0, 5.0), gram=None, **point):
  step = multitask_methods.Step(
    jnp.array(values),
    jnp.array(initial),
    gram_of(120, 2.0) if gram is None else gram,
  )
  return multitask_methods.METHODS[name].weights(step, point)


@pytest.mark.parametrize(
  "name, expected",
  [
    ("primary_alone", [1, 0]),
    ("secondary_alone", [0, 1]),
    ("weighted", [1, 0.3]),
    ("equal", [0.5, 0.5]),
    ("initial_loss", [1 / 4, 1 / 5]),
    ("real_time", [1 / 2, 1 / 0.5]),
    ("normalized", [1 / 2, 1 / 4]),  # a mean, of lengths 1 and 2
    # <g2 - g1, g2> / |g1 - g2|^2 of <g1, g2> = -1: (4 + 1) / (1 + 4 + 2).
    ("min_norm", [5 / 7, 2 / 7]),
    # Rows (1, 1/4) and (1, 1): g1 off g2, g2 off g1.
    ("upgrad", [1, 5 / 8]),
    ("primary_secondary", [1, 1 / 4]),
  ],
)
def test_rules(name, expected):
  point = {"weight": 0.3} if name == "weighted" else {}
  np.testing.assert_allclose(weights_of(name, **point), expected, rtol=1e-5)


@pytest.mark.parametrize("degrees", [20, 100, 170])
@pytest.mark.parametrize("length", [0.1, 3.0])
def test_rules_that_are_left_out_are_others(degrees, length):
  gram = gram_of(degrees, length)
  np.testing.assert_allclose(
    losses.pcgrad_weights(gram, jax.random.key(0)),
    2 * weights_of("upgrad", gram=gram),
    rtol=1e-4,
  )
  np.testing.assert_allclose(
    losses.min_norm_weights(gram, scales=jnp.sqrt(jnp.diagonal(gram))),
    weights_of("normalized", gram=gram),
    rtol=1e-4,
  )


def fit_linear(method, *, head=None, num_steps=6, num_windows=3, **point):
  """Losses w0 and w1 - w0, whose gradients (1, 0), (-1, 1) are 135 apart."""
  params = {"trunk": jnp.zeros(2), "top": jnp.zeros(2)}

  def losses_fn(params, scale):
    w, v = params["trunk"], params["top"]
    return scale * jnp.stack([w[0] + v[0], w[1] - w[0] + 2 * v[1]])

  rule = multitask_methods.METHODS[method]
  return multitask_training.fit(
    losses_fn,
    params,
    jnp.ones(num_steps),
    head=head,
    weights_fn=lambda step: rule.weights(step, point),
    transform=optax.identity(),
    lr=0.1,
    num_windows=num_windows,
    evaluate=lambda params: params["trunk"][1],
  )


# u on the trunk, and whether it opposes the primary, the secondary.
DIRECTIONS = {
  "primary_alone": ((1, 0), (0, 1)),
  "secondary_alone": ((-1, 1), (1, 0)),
  "equal": ((0, 1 / 2), (0, 0)),
  "weighted": ((-1, 2), (1, 0)),  # weight 2
  "primary_secondary": ((1 / 2, 1 / 2), (0, 0)),
}


@pytest.mark.parametrize("method", DIRECTIONS)
def test_training_follows_the_rule(method):
  u, opposed = DIRECTIONS[method]
  point = {"weight": 2.0} if method == "weighted" else {}
  params, history, evaluated = fit_linear(method, head="top", **point)
  # The rates' sum: (T + 1) / 2, for the cosines of i pi / T add up to 1.
  length = 0.1 * (6 + 1) / 2
  np.testing.assert_allclose(params["trunk"], -length * np.array(u), atol=1e-6)
  # Each head follows its own loss, whatever the rule.
  np.testing.assert_allclose(params["top"], [-length, -2 * length], rtol=1e-5)
  np.testing.assert_array_equal(history.conflict, 1)
  np.testing.assert_array_equal(history.opposed, [opposed] * 3)
  np.testing.assert_allclose(evaluated[-1], params["trunk"][1])
  # Two steps a window, of rates (1 + cos(i pi / 6)) / 20; before the first one
  # both losses are 0.
  first = -0.1 * np.array([u[0] + 1, u[1] - u[0] + 4])
  np.testing.assert_allclose(history.losses[0], first / 2, atol=1e-6)


def test_without_heads_all_is_shared():
  params, *_ = fit_linear("primary_alone")
  length = 0.1 * (6 + 1) / 2
  np.testing.assert_allclose(params["top"], [-length, 0], rtol=1e-5)


def test_windows_must_divide_the_steps():
  with pytest.raises(ValueError, match="num_steps=6 is not divisible by"):
    fit_linear("equal", num_windows=4)


def data(n=60, side=4):
  return splits.Data(
    x=RNG.random((n, side, side, 1), np.float32),
    y=np.int32(np.arange(n) % 10),
    num_outputs=10,
    standardize=False,
  )


@pytest.mark.parametrize("primary", multitask_heads.TASKS)
def test_two_heads_are_measured_apart(primary):
  few = data()
  train = {"num_steps": 1, "batch_size": 2, "primary": primary}
  seeds = multitask_heads.prepare(few, (0, 1), train)
  seed = {name: jnp.asarray(a[1]) for name, a in seeds.items()}
  logits = RNG.normal(size=(12, 12)).astype(np.float32)
  indices = np.arange(5, 17)
  p = np.exp(np.float64(logits))
  expected = {
    "parity": (p[:, :2], few.y[indices] % 2, range(2)),
    "digit": (p[:, 2:], few.y[indices], range(10)),
  }
  found = multitask_heads.measures(jnp.array(logits), indices, seed)
  loss = multitask_heads.losses(
    lambda params, indices: jnp.array(logits), {}, indices, seed
  )
  for i, prefix in enumerate(("", "secondary_")):
    name = primary if not i else {"parity": "digit", "digit": "parity"}[primary]
    weights, labels, classes = expected[name]
    nll = metrics.log_loss(
      labels, weights / weights.sum(-1, keepdims=True), labels=classes
    )
    accuracy = np.mean(weights.argmax(-1) == labels)
    assert float(found[f"{prefix}accuracy"]) == pytest.approx(accuracy)
    assert float(loss[i]) == pytest.approx(nll, rel=1e-5)
    assert float(found[f"{prefix}log_likelihood"]) == pytest.approx(
      -nll, rel=1e-5
    )


def test_a_training_that_diverged_has_the_worst_likelihood():
  for bad in (jnp.nan, 1e9):
    logits = jnp.full((3, 2), 0.0).at[0, 0].set(bad)
    _, found = multitask_trial.scores(logits, jnp.ones(3, int))
    assert float(found) == -multitask_training.DIVERGED


def test_clean_labels_are_clean_and_never_in_a_noisy_batch():
  few = data(500)
  train = {"num_steps": 30, "batch_size": 16, "num_clean": 20}
  seeds = multitask_clean.prepare(few, (0, 1), train | {"label_noise": 0.9})
  for i in range(2):
    wrong = seeds["y"][i] != few.y
    noisy = np.unique(seeds["batches"][i])
    assert not wrong[seeds["clean"][i]].any()
    assert not wrong[seeds["test"][i]].any()
    assert wrong[noisy].mean() > 0.8 and wrong[seeds["validation"][i]].any()
    parts = (noisy, seeds["clean"][i], seeds["validation"][i], seeds["test"][i])
    assert sorted(np.concatenate(parts)) == list(range(500))
  with pytest.raises(ValueError, match="num_clean=400 leaves none of the 320"):
    multitask_clean.prepare(
      few, (0,), train | {"label_noise": 0.9, "num_clean": 400}
    )


def test_the_losses_of_noisy_and_clean_labels():
  logits = np.float32(RNG.normal(size=(30, 4)))
  y = np.int32(RNG.integers(0, 4, 30))
  seed = {"y": jnp.array(y), "clean": jnp.array([3, 4, 5])}
  indices = jnp.array([20, 21, 22, 23, 24])
  found = multitask_clean.losses(
    lambda params, indices: jnp.array(logits)[indices], {}, indices, seed
  )
  z = np.float64(logits)
  nll = np.log(np.exp(z).sum(-1)) - z[np.arange(30), y]
  np.testing.assert_allclose(found, [nll[20:25].mean(), nll[3:6].mean()], 1e-5)


def test_weight_decay_pulls_at_kernels_alone():
  layer = {"kernel": jnp.array([[3.0, -4.0]]), "bias": jnp.ones(2)}
  seed = {"y": jnp.array([1])}

  def decay(params):
    found = multitask_decay.losses(
      lambda params, indices: jnp.zeros((1, 2)), params, jnp.array([0]), seed
    )
    return found[1]

  value, grad = jax.value_and_grad(decay)({"Dense_0": layer})
  assert float(value) == 12.5
  np.testing.assert_array_equal(grad["Dense_0"]["kernel"], [[3, -4]])
  np.testing.assert_array_equal(grad["Dense_0"]["bias"], 0)


def test_the_last_of_many_layers_is_the_head():
  network = networks.make({"name": "mlp", "widths": [2] * 11}, 3)
  params = network.init(jax.random.key(0), jnp.zeros((1, 2)))["params"]
  assert multitask_trial.last_layer(params) == "Dense_11"
