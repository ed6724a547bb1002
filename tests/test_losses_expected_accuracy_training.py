# SPDX-License-Identifier: Apache-2.0
"""What EXACT trains with, against NumPy's moments and averages, and optax."""

import functools

import jax
from jax import test_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import losses


def test_standardized_logits():
  logits = np.random.default_rng(0).normal(size=(4, 3)) * 5 + 2
  expected = (logits - logits.mean()) / logits.std()
  result = losses.standardize_logits(jnp.float32(logits))
  np.testing.assert_allclose(result, expected, atol=1e-5)
  # What is left out is not counted and comes out as 0; -inf stays.
  where = np.arange(4)[:, None] < 2
  logits[0, 1] = logits[3, 1] = -np.inf
  counted = np.concatenate([logits[0, [0, 2]], logits[1]])
  expected = np.where(where, (logits - counted.mean()) / counted.std(), 0)
  expected[3, 1] = -np.inf
  result = losses.standardize_logits(
    jnp.float32(logits), where=jnp.array(where)
  )
  np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_what_is_left_out_is_harmless():
  where = jnp.arange(4) < 2
  weights = jnp.array([1.0, 3.0, 5.0, 7.0])

  @jax.jit
  @jax.value_and_grad
  def total(logits, where):
    return (losses.standardize_logits(logits, where=where) * weights).sum()

  for garbage in (jnp.nan, jnp.inf, 1e30, 0.0):
    logits = jnp.array([1.0, 3.0, garbage, garbage])
    # -1 and 1; neither a shift nor a scaling changes them.
    value, grad = total(logits, where)
    np.testing.assert_allclose(value, 2, rtol=1e-5)
    np.testing.assert_allclose(grad, 0, atol=1e-5)
    np.testing.assert_array_equal(grad[2:], 0)
    value, grad = total(logits, jnp.zeros(4, bool))
    assert value == 0
    np.testing.assert_array_equal(grad, 0)


def test_standardization_has_gradients_through_both_moments():
  weights = np.random.default_rng(1).normal(size=(2, 3))
  with jax.enable_x64(True):
    logits = jnp.array(np.random.default_rng(2).normal(size=(2, 3)))
    standardize = jax.jit(losses.standardize_logits)
    test_util.check_grads(standardize, (logits,), order=2, modes=["rev"])
    # No change along the shift and the scale of the logits.
    grad = jax.grad(
      lambda z: (losses.standardize_logits(z, eps=1e-30) * weights).sum()
    )(logits)
    np.testing.assert_allclose(
      [grad.sum(), (grad * logits).sum()], 0, atol=1e-9
    )


def test_constant_logits_standardize_to_zero():
  weights = jnp.arange(8.0).reshape(2, 4)

  @jax.jit
  @functools.partial(jax.grad, has_aux=True)
  def total(z):
    z = losses.standardize_logits(z)
    return (jnp.where(z > -jnp.inf, z, 0) * weights).sum(), z

  for value, expected in ((0.0, 0), (3.0, 0), (-jnp.inf, -jnp.inf)):
    grad, result = total(jnp.full((2, 4), value))
    np.testing.assert_array_equal(result, expected)
    assert jnp.isfinite(grad).all()


def test_standardization_of_a_split_batch():
  rng = np.random.default_rng(4)
  logits, weights = (jnp.float32(rng.normal(size=(3, 2, 4))) for _ in "ab")
  where = jnp.array(rng.uniform(size=(3, 2, 4)) < 0.7)

  def whole(logits):
    return losses.standardize_logits(logits, where=where)

  def split(logits):
    return jax.vmap(
      lambda z, w: losses.standardize_logits(z, where=w, axis_name="batch"),
      axis_name="batch",
    )(logits, where)

  np.testing.assert_allclose(
    jax.jit(split)(logits), jax.jit(whole)(logits), atol=1e-6
  )
  expected, result = (
    jax.jit(jax.grad(lambda z, f=f: (f(z) * weights).sum()))(logits)
    for f in (whole, split)
  )
  np.testing.assert_allclose(result, expected, atol=1e-6)


def test_sigma_schedule_is_exponential_then_constant():
  # 10 to 0.01 in 16 epochs, here steps: the authors' tabular runs.
  schedule = losses.sigma_schedule(init=10.0, final=0.01, num_steps=16)
  steps = [0, 4, 8, 16, 40]
  expected = 10 ** np.array([1, 0.25, -0.5, -2, -2])
  np.testing.assert_allclose(
    [schedule(step) for step in steps], expected, rtol=1e-5
  )
  traced = jax.jit(schedule)(jnp.int32(8))
  np.testing.assert_allclose(traced, 10**-0.5, rtol=1e-5)


def norms(updates):
  return [float(optax.tree.norm(u)) for u in updates]


def run(transformation, gradients):
  """The updates for a list of gradients, jitted."""
  update = jax.jit(transformation.update)
  state = transformation.init(gradients[0])
  updates = []
  for gradient in gradients:
    update_, state = update(gradient, state)
    updates.append(update_)
  return updates, state


def gradients_of_norms(values):
  """Pytrees of two leaves along (2, 3, 6) / 7."""
  return [
    {"a": jnp.float32([2, 3]) * v / 7, "b": jnp.float32([6]) * v / 7}
    for v in values
  ]


def test_updates_are_over_the_moving_average_of_the_norm():
  values = [4.0, 1.0, 0.0, 7.0]
  updates, state = run(losses.scale_by_norm_ema(), gradients_of_norms(values))
  # The average with normalised weights 0.9^k, typed out.
  expected = [
    v / np.average(values[: t + 1], weights=0.9 ** np.arange(t + 1)[::-1])
    for t, v in enumerate(values)
  ]
  np.testing.assert_allclose(norms(updates), expected, rtol=1e-5)
  # In the direction of the gradient.
  np.testing.assert_allclose(updates[3]["b"] / updates[3]["a"][1], [2.0], 1e-6)
  assert state.count == 4


def test_without_memory_it_is_optax_normalize_by_update_norm():
  gradients = gradients_of_norms([3.0, 1e-1, 50.0])
  updates, _ = run(losses.scale_by_norm_ema(decay=0.0), gradients)
  expected, _ = run(optax.normalize_by_update_norm(eps=0.0), gradients)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), updates, expected
  )


def test_settings_may_be_injected():
  make = optax.inject_hyperparams(losses.scale_by_norm_ema)
  gradients = gradients_of_norms([3.0, 6.0])
  updates, _ = run(make(decay=0.5, floor=0.1), gradients)
  # The average with weights 1/3 and 2/3 is 5.
  np.testing.assert_allclose(norms(updates), [1, 6 / 5], rtol=1e-5)


def test_floor_keeps_small_and_zero_gradients_small():
  updates, _ = run(
    losses.scale_by_norm_ema(floor=0.5), gradients_of_norms([0.0, 0.1, 0.2])
  )
  np.testing.assert_allclose(norms(updates), [0.0, 0.2, 0.4], rtol=1e-5)


def test_updates_keep_their_types_and_the_average_is_float32():
  # 300 squared overflows float16.
  gradients = [{"h": jnp.float16([300.0]), "b": jnp.zeros(2, jnp.bfloat16)}]
  (updates,), state = run(losses.scale_by_norm_ema(), gradients)
  assert updates["h"].dtype == jnp.float16
  assert updates["b"].dtype == jnp.bfloat16
  assert state.ema.dtype == jnp.float32
  np.testing.assert_allclose(updates["h"], [1.0], rtol=1e-3)


@pytest.mark.parametrize(
  "call, message",
  [
    (
      lambda: losses.standardize_logits(jnp.zeros((2, 3)), eps=0.0),
      "eps has 0.0, which is not above 0",
    ),
    (
      lambda: losses.standardize_logits(jnp.zeros((2, 3), int)),
      "logits must be floating",
    ),
    (
      lambda: losses.standardize_logits(jnp.zeros(3), where=jnp.zeros(2, bool)),
      r"where has shape \(2,\)",
    ),
    (
      lambda: losses.sigma_schedule(init=0.0, final=1.0, num_steps=2),
      "init has 0.0",
    ),
    (
      lambda: losses.sigma_schedule(init=1.0, final=-1.0, num_steps=2),
      "final has -1.0",
    ),
    (
      lambda: losses.sigma_schedule(init=1.0, final=0.1, num_steps=0),
      "num_steps=0 must be an integer",
    ),
    (
      lambda: losses.sigma_schedule(init=1.0, final=0.1, num_steps=9.5),
      "num_steps=9.5 must be an integer",
    ),
    (
      lambda: losses.scale_by_norm_ema(decay=1.0),
      r"decay has 1.0, which is outside \[0, 1\)$",
    ),
    (lambda: losses.scale_by_norm_ema(floor=0.0), "floor has 0.0"),
  ],
)
def test_mistakes(call, message):
  with pytest.raises(ValueError, match=message):
    call()
