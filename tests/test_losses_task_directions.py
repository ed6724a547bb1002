# SPDX-License-Identifier: Apache-2.0
"""Directions for several tasks, against scipy in float64 and closed forms.

Weights come from float32 Gram matrices; what is compared is u = sum a_i g_i, as
the weights are not unique where gradients depend on each other.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

import losses
from losses import quadratic

MAX_TASKS = 6
KINDS = ("general", "zero", "parallel", "opposed", "equal", "cone", "primary")


def degenerate(vectors, kind, factors, rng):
  """The vectors, made dependent in one of the ways that occur."""
  vectors = vectors.copy()
  i, j = rng.choice(len(vectors), 2, replace=False)
  if kind == "zero":
    vectors[i] = 0
  elif kind == "parallel":
    vectors[i] = factors[0] * vectors[j]
  elif kind == "opposed":
    vectors[i] = -factors[0] * vectors[j]
  elif kind == "equal":
    vectors[i] = vectors[j]
  elif kind == "cone":  # -g_0 in the cone of the others
    vectors[0] = -factors[1:] @ vectors[1:]
  elif kind == "primary":  # opposed to one auxiliary
    vectors[0] = -vectors[1]
  return vectors


@functools.cache
def problems(source, count=1000):
  """Gradients of 2 to 6 tasks in R^3 to R^20, a kind of degeneracy in each.

  "integer": small integers times powers of two, so that the Gram matrix is
  exact in float32. "normal": it is rounded, after degeneracy in float64.
  """
  rng = np.random.default_rng(0)
  found = []
  for k in range(count):
    shape = rng.integers(2, MAX_TASKS + 1), rng.integers(3, 21)
    if source == "integer":
      vectors = rng.integers(-9, 10, shape).astype(float)
      factors = rng.integers(1, 5, shape[0]).astype(float)
      scale = 2.0 ** rng.integers(-8, 9, (shape[0], 1))
    else:
      vectors = rng.standard_normal(shape)
      factors = rng.uniform(0.1, 10, shape[0])
      scale = 10.0 ** rng.uniform(-2, 2, (shape[0], 1))
    found.append(degenerate(vectors, KINDS[k % 7], factors, rng) * scale)
  return found


def grams(vectors):
  """[problems, 6, 6] in float32, tasks that are not there having gradient 0."""
  gram = np.zeros((len(vectors), MAX_TASKS, MAX_TASKS), np.float32)
  for i, v in enumerate(vectors):
    gram[i, : len(v), : len(v)] = v @ v.T
  return gram


def norms(vectors):
  return np.linalg.norm(vectors, axis=1)


def project(g, vectors):
  """The projection of g on the dual cone of the vectors, by scipy."""
  lengths = norms(vectors)
  units = vectors[lengths > 0] / lengths[lengths > 0, None]
  length = np.linalg.norm(g)
  if not (units.size and length):
    return g
  x, _ = optimize.nnls(units.T, -g / length)
  return g + length * x @ units


def min_norm(vectors):
  """The shortest of the hull: the best of the stationary points of its faces.

  Not scipy: SLSQP stops at 1e-6.
  """
  n, best = len(vectors), None
  for size in range(1, n + 1):
    for face in map(list, itertools.combinations(range(n), size)):
      base, *others = vectors[face]
      if others:
        edges = (np.array(others) - base).T
        a = np.linalg.lstsq(edges, -base, rcond=None)[0]
        if a.min() < -1e-9 or a.sum() > 1 + 1e-9:
          continue
        base = base + edges @ a
      if best is None or base @ base < best @ best:
        best = base
  return best


def directions(weights, vectors):
  weights = np.asarray(weights, np.float64)
  for a, v in zip(weights, vectors, strict=True):
    assert not a[len(v) :].any()  # tasks that are not there
    yield a[: len(v)] @ v


# With a rounded Gram matrix: about 1 in 2,000 problems has gradients so near to
# dependence that the rounding itself moves the exact answer by more than 1e-5.
@pytest.mark.parametrize("source, misses", [("integer", 0), ("normal", 2)])
def test_primary_secondary_is_the_projection_on_the_dual_cone(source, misses):
  vectors = problems(source)
  solve = jax.jit(jax.vmap(losses.primary_secondary_weights))
  weights = solve(grams(vectors))
  assert weights.dtype == jnp.float32
  assert (weights[:, 0] == 1).all() and (weights >= 0).all()
  errors, slack = [], []
  for k, u in enumerate(directions(weights, vectors)):
    g, others = vectors[k][0], vectors[k][1:]
    expected = project(g, others)
    if KINDS[k % 7] in ("cone", "primary"):
      assert np.linalg.norm(expected) <= 1e-12 * np.linalg.norm(g)
    length = max(np.linalg.norm(g), 1e-30)  # g is 0 in some
    errors.append(np.linalg.norm(u - expected) / length)
    # What it is for: no task is opposed, and <u, g_0> = |u|^2.
    inner = others @ u / np.maximum(norms(others), 1e-30)
    slack += [-inner.min() / length, abs(u @ g - u @ u) / length**2]
  assert len(errors) == 1000
  assert sum(error > 1e-5 for error in errors) <= misses
  assert max(errors) <= (1e-3 if misses else 1e-5)
  assert max(slack) <= 1e-5


# Found among 100,000: three that plain float32 residuals get wrong by 5e-4 to
# 8e-3, one that needs the decision of what depends on what.
HARD = (
  [[7, 1, 9], [4, -8, -7], [-2, 5, -2], [-3, 5, 9]],
  [[5, -4, 4, -3], [7, 0, -2, -8], [8, 6, -6, 9], [-6, 1, 3, 5],
   [-7, -6, 2, -1]],
  [[8, -8, -7, -7], [-2, 0, 0, 3], [9, -8, -7, -3], [8, -8, -7, -7],
   [5, -6, 0, -3], [2, 5, 2, -8]],
  [[5, 1, -6], [-5, 1, 8], [0, -9, -2], [1, 9, 2], [0, 9, 2], [-7, -8, -8]],
)  # fmt: skip


def test_gradients_that_nearly_depend_on_each_other():
  vectors = [np.array(v, float) for v in HARD]
  solve = jax.jit(jax.vmap(losses.primary_secondary_weights))
  weights = solve(grams(vectors))
  # Unbatched, too: rounding depends on it.
  alone = losses.primary_secondary_weights(grams(vectors)[3])
  weights = jnp.concatenate([weights, alone[None]])
  vectors.append(vectors[3])
  for v, u in zip(vectors, directions(weights, vectors), strict=True):
    error = np.linalg.norm(u - project(v[0], v[1:]))
    assert error <= 1e-5 * np.linalg.norm(v[0])


def test_primary_secondary_in_float64():
  vectors = problems("normal")[:200]
  with jax.enable_x64(True):
    gram = np.zeros((200, MAX_TASKS, MAX_TASKS))
    for i, v in enumerate(vectors):
      gram[i, : len(v), : len(v)] = v @ v.T
    weights = jax.vmap(losses.primary_secondary_weights)(gram)
    assert weights.dtype == jnp.float64
  for v, u in zip(vectors, directions(weights, vectors), strict=True):
    error = np.linalg.norm(u - project(v[0], v[1:]))
    assert error <= 1e-11 * np.linalg.norm(v[0])


def test_upgrad_is_the_mean_of_projections():
  vectors = problems("integer", 300)
  weights = jax.jit(jax.vmap(losses.upgrad_weights))(grams(vectors))
  # It divides by the tasks that have a gradient of 0, too.
  weights = np.asarray(weights, np.float64) * MAX_TASKS
  for a, v in zip(weights, vectors, strict=True):
    expected = sum(project(g, v) for g in v)
    error = np.linalg.norm(a[: len(v)] @ v - expected)
    assert error <= 1e-5 * norms(v).sum()


def test_min_norm_is_the_shortest_of_the_hull():
  """With the norms as scales, and without them for gradients of like size."""
  vectors = [v for v in problems("integer") if len(v) < 5][:150]
  power = [np.round(np.log2(norms(v) + 1e-3) / 3) for v in vectors]
  alike = [v / 8.0 ** p[:, None] for v, p in zip(vectors, power, strict=True)]
  # A repeated gradient does not change the hull: all have 5.
  full = [v[np.minimum(np.arange(5), len(v) - 1)] for v in vectors + alike]
  gram = np.float32([v @ v.T for v in full])
  scales = np.float32([norms(v) for v in full])
  scales[150:] = 1
  weights = jax.jit(
    jax.vmap(lambda g, s: losses.min_norm_weights(g, scales=s))
  )(gram, scales)
  assert (weights >= 0).all()
  scales = np.where(scales > 0, scales, 1)
  np.testing.assert_allclose((weights * scales).sum(1), 1, rtol=1e-5)
  for a, s, v in zip(np.float64(weights), scales, full, strict=True):
    v = v / s[:, None]
    error = np.linalg.norm((a * s) @ v - min_norm(v))
    assert error <= 1e-5 * norms(v).max()


@pytest.mark.parametrize("norms", [(1e-36, 1e3), (2e-38, 9.0), (1e3, 1e-36)])
def test_min_norm_of_a_saturated_task(norms):
  found = losses.min_norm_weights(jnp.diag(jnp.float32(norms)))
  expected = np.float32(norms) == min(norms)
  np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("small", [1.0, 1e-3])
def test_min_norm_of_two_small_tasks_beside_a_huge_one(small):
  found = losses.min_norm_weights(jnp.diag(jnp.float32([1e38, small, small])))
  np.testing.assert_allclose(found, [0, 0.5, 0.5], atol=1e-6)


def test_many_unknowns_meet_the_conditions_of_optimality():
  rng = np.random.default_rng(5)
  a = rng.standard_normal((24, 30))
  h, b = a @ a.T, a @ rng.standard_normal(30)
  x = jax.jit(quadratic.nonnegative_argmin)(np.float32(h), np.float32(b))
  x = np.float64(x)
  w = b - h @ x
  assert (x >= 0).all() and 4 < (x > 0).sum() < 20
  assert (w <= 1e-4).all() and abs(x * w).max() < 1e-4
