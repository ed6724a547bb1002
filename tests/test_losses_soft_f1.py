# SPDX-License-Identifier: Apache-2.0
"""Soft F1 against scikit-learn (hard predictions) and closed forms."""

import functools

import jax
from jax import test_util
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import metrics

import losses

RNG = np.random.default_rng(0)
B, K = 12, 4
P = RNG.uniform(size=(B, K))
T = RNG.integers(0, 2, size=(B, K)).astype(np.float64)
MICRO = jax.jit(losses.soft_f1_micro)
MACRO = jax.jit(losses.soft_f1_macro)
BOTH = pytest.mark.parametrize("f", [MICRO, MACRO], ids=["micro", "macro"])
SLOPE = {f: jax.jit(jax.grad(f)) for f in (MICRO, MACRO)}


def closed_form(p, t, smoothing=0.0, empty=1.0):
  """F of each class [K] and its gradient [B, K], in float64."""
  total = (t + p).sum(0) + smoothing
  f1 = (2 * (t * p).sum(0) + smoothing * empty) / total
  return f1, (2 * t - f1) / total


@pytest.mark.parametrize("empty", [0, 1])
@pytest.mark.parametrize("average, f", [("micro", MICRO), ("macro", MACRO)])
def test_of_hard_predictions_is_that_of_sklearn(average, f, empty):
  hard = np.float32(P > 0.5)
  labels = T.copy()
  hard[:, 1] = labels[:, 1] = 0  # 0/0
  labels[:, 2] = 0  # never there, but predicted
  expected = metrics.f1_score(
    labels, hard, average=average, zero_division=empty
  )
  np.testing.assert_allclose(f(hard, labels, empty=empty), expected, rtol=1e-6)
  nothing = np.zeros((B, K), np.float32)
  assert f(nothing, nothing, empty=empty) == empty


@pytest.mark.parametrize("smoothing, empty", [(0.0, 1.0), (1.5, 0.8)])
def test_value_and_gradient_are_the_closed_form(smoothing, empty):
  settings = dict(smoothing=smoothing, empty=empty)
  f1, slope = closed_form(P, T, smoothing, empty)
  np.testing.assert_allclose(MACRO(P, T, **settings), f1.mean(), rtol=1e-6)
  np.testing.assert_allclose(SLOPE[MACRO](P, T, **settings), slope / K, 1e-4)
  f1, slope = closed_form(P.reshape(-1, 1), T.reshape(-1, 1), smoothing, empty)
  np.testing.assert_allclose(MICRO(P, T, **settings), f1[0], rtol=1e-6)
  result = SLOPE[MICRO](P, T, **settings).reshape(-1, 1)
  np.testing.assert_allclose(result, slope, rtol=1e-4)


@BOTH
def test_derivatives(f):
  with jax.enable_x64(True):
    test_util.check_grads(
      functools.partial(f, labels=jnp.asarray(T)),
      (jnp.asarray(P),),
      order=2,
      modes=["rev"],
    )


def test_of_softmax_and_one_hot_labels_it_is_smooth_accuracy():
  p = P / P.sum(-1, keepdims=True)
  labels = RNG.integers(0, K, size=B)
  expected = p[np.arange(B), labels].mean()
  result = MICRO(p, np.eye(K, dtype=np.float32)[labels])
  np.testing.assert_allclose(result, expected, rtol=1e-6)


@pytest.mark.parametrize(
  "f",
  # The slow test of a mesh has both.
  [pytest.param(MICRO, marks=pytest.mark.slow), MACRO],
  ids=["micro", "macro"],
)
def test_shards_equal_the_whole_batch(f):
  """A small model, differentiated inside and outside the named axis."""
  x = jnp.float32(RNG.normal(size=(B, 3)))
  weights, t = jnp.float32(RNG.normal(size=(3, K))), jnp.float32(T)
  t = t.at[:6, 0].set(0)  # a class that some shards have not

  def f1(weights, x, t, axis_name=None):
    g = losses.soft_f1_micro if f is MICRO else losses.soft_f1_macro
    return g(jax.nn.sigmoid(x @ weights), t, axis_name=axis_name)

  expected = jax.value_and_grad(f1)(weights, x, t)
  shards = x.reshape(4, 3, -1), t.reshape(4, 3, -1)

  def of_shard(weights, x, t):
    value, slope = jax.value_and_grad(f1)(weights, x, t, "shards")
    return value, jax.lax.pmean(slope, "shards")

  over_shards = functools.partial(
    jax.vmap, in_axes=(None, 0, 0), axis_name="shards"
  )
  value, slope = over_shards(of_shard)(weights, *shards)
  np.testing.assert_allclose(value, np.full(4, expected[0]), rtol=1e-6)
  for one in slope:
    np.testing.assert_allclose(one, expected[1], atol=1e-6)

  values = over_shards(functools.partial(f1, axis_name="shards"))
  slope = jax.grad(lambda w: values(w, *shards)[0])(weights)
  np.testing.assert_allclose(slope, expected[1], atol=1e-6)
  # Averaging the F1 of the shards is something else.
  naive = np.mean([f1(weights, *shard) for shard in zip(*shards, strict=True)])
  assert abs(naive - expected[0]) > 1e-3


SHARDED = """
import functools, jax, jax.numpy as jnp, numpy as np, losses
jax.config.update("jax_numpy_rank_promotion", "raise")
P = jax.sharding.PartitionSpec
axes = ("data", "more")
auto = (jax.sharding.AxisType.Auto,) * 2
mesh = jax.make_mesh((2, 2), axes, axis_types=auto)
rng = np.random.default_rng(0)
x, weights = (np.float32(rng.normal(size=s)) for s in ((12, 3), (3, 4)))
t = np.float32(rng.integers(0, 2, size=(12, 4)))
t[:6, 0] = 0  # a class that some shards have not

def total(axis_name, weights, x, t):
  p = jax.nn.sigmoid(x @ weights)
  bins = losses.reliability_bins(p, t, num_bins=3, axis_name=axis_name)
  return jnp.stack([
    losses.soft_f1_micro(p, t, axis_name=axis_name),
    losses.soft_f1_macro(p, t, smoothing=0.5, axis_name=axis_name),
    losses.expected_calibration_error(bins),
    losses.overconfidence(bins),
  ])

def values_and_gradients(axis_name, *args):
  f = functools.partial(total, axis_name)
  return f(*args), jax.jacrev(f)(*args)

def inside(check_vma):
  def of_shard(*args):
    value, slope = values_and_gradients(axes, *args)
    return value, slope if check_vma else jax.lax.pmean(slope, axes)
  return sharded(of_shard, check_vma)

def sharded(f, check_vma):
  return jax.shard_map(f, mesh=mesh, in_specs=(P(), P(axes), P(axes)),
                       out_specs=P(), check_vma=check_vma)

def outside(check_vma):
  f = sharded(functools.partial(total, axes), check_vma)
  return lambda *args: (f(*args), jax.jacrev(f)(*args))

expected = values_and_gradients(None, weights, x, t)
assert all(abs(g).max() > 1e-3 for g in expected[1])
for check_vma in (True, False):
  for f in (inside(check_vma), outside(check_vma)):
    actual = jax.jit(f)(weights, x, t)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
                 actual, expected)
print("equal")
"""


@pytest.mark.slow
def test_inside_shard_map_too(on_four_devices):
  """And reliability_bins, with the batch over two axes of the mesh."""
  assert on_four_devices(SHARDED) == "equal"


@BOTH
def test_a_single_class(f):
  # Micro and macro are the same, also for one example: 2 p / (1 + p).
  p, t = P[:, :1], T[:, :1]
  f1, slope = closed_form(p, t)
  np.testing.assert_allclose(f(p, t), f1[0], rtol=1e-6)
  np.testing.assert_allclose(SLOPE[f](p, t), slope, rtol=1e-4)
  result = f(np.float32([[0.5]]), np.ones((1, 1), np.float32))
  np.testing.assert_allclose(result, 2 / 3, rtol=1e-6)


def test_masked_entries_are_as_if_deleted():
  where = RNG.uniform(size=(B, K)) < 0.6
  where[:, 3] = False
  p, t = np.where(where, P, np.nan), np.where(where, T, 7.0)
  expected, slope = closed_form(P[where][:, None], T[where][:, None])
  np.testing.assert_allclose(MICRO(p, t, where=where), expected[0], rtol=1e-6)
  result = SLOPE[MICRO](p, t, where=where)
  np.testing.assert_allclose(result[where], slope[:, 0], rtol=1e-4)
  assert (result[~where] == 0).all()
  # Macro leaves out the class that has no entry.
  kept = [where[:, k] for k in range(3)]
  classes = [
    closed_form(P[kept[k], k], T[kept[k], k])[0].item() for k in range(3)
  ]
  result = MACRO(p, t, where=where)
  np.testing.assert_allclose(result, np.mean(classes), rtol=1e-6)
  assert MACRO(p, t, where=np.zeros((B, K), bool)) == 1


@BOTH
def test_finite_gradients_at_the_edges(f):
  zero, one = np.zeros((B, K), np.float32), np.ones((B, K), np.float32)
  slope = SLOPE[f]
  np.testing.assert_array_equal(slope(zero, zero), 0)  # 0/0
  for p, t in ((zero, one), (one, zero), (one, one), (np.float32(P), zero)):
    assert jnp.isfinite(slope(p, t)).all()
  assert f(one, zero) == 0 and f(one, one) == 1
  assert (slope(zero, one) > 0).all()


def test_smoothing_gives_false_positives_a_gradient():
  nothing = np.zeros((B, K), np.float32)
  p = np.float32(P)
  np.testing.assert_array_equal(SLOPE[MACRO](p, nothing), 0)
  assert (SLOPE[MACRO](p, nothing, smoothing=1.0) < 0).all()
  np.testing.assert_allclose(MACRO(1e-7 * p, nothing, smoothing=1.0), 1, 1e-5)


def test_mistakes_are_named():
  with pytest.raises(ValueError, match="labels must be floating point"):
    losses.soft_f1_micro(P, T.astype(int))
  with pytest.raises(ValueError, match=r"labels has shape \(12,\)"):
    losses.soft_f1_macro(P, T[:, 0])
  with pytest.raises(ValueError, match="probabilities has 3"):
    losses.soft_f1_micro(np.full_like(P, 3.0), T)
  with pytest.raises(ValueError, match="smoothing has -1"):
    losses.soft_f1_macro(P, T, smoothing=-1.0)
  # [4] would be one for each class.
  for name in ("smoothing", "empty"):
    with pytest.raises(ValueError, match=rf"{name} has shape \(4,\)"):
      losses.soft_f1_macro(P, T, **{name: np.ones(4)})
