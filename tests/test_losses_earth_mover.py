# SPDX-License-Identifier: Apache-2.0
"""EMO against float64, linear programming and its published golden values."""

import jax
from jax import test_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import optimize
from scipy import special

import losses

# The golden example: all numbers were derived independently, by hand and LP.
Z = np.float32([1, 2, 0.5, -0.3])
E = np.float32([[1, 0], [0.6, 0.8], [0, 1], [-1, 0]])
P = [0.217517, 0.591272, 0.131931, 0.059280]
TAU = np.float32([0.7, 0.3, 0, 0])


def random_problem(seed=0, n=6, v=9, d=4):
  rng = np.random.default_rng(seed)
  logits = np.float32(rng.normal(size=(n, v)) * 2)
  embedding = np.float32(rng.normal(size=(v, d)))
  return logits, rng.integers(0, v, n), embedding


def costs64(embedding):
  e = np.float64(embedding)
  e /= np.maximum(np.linalg.norm(e, axis=1, keepdims=True), 1e-300)
  c = 1 - e @ e.T
  np.fill_diagonal(c, 0)
  return c


def terms64(logits, labels, embedding):
  """nll and emd in float64 as sums of terms of one sign."""
  z, c = np.float64(logits), costs64(embedding)
  nll, emd = [], []
  for row, t in zip(z, labels, strict=True):
    others = np.delete(row, t)
    nll.append(np.log1p(np.exp(others - row[t]).sum()))
    p = np.exp(row - special.logsumexp(row))
    emd.append(np.delete(p, t) @ np.delete(c[:, t], t))
  return np.array(nll), np.array(emd)


def transport(p, tau, cost):
  """The earth mover's distance by linear programming."""
  v = len(p)
  rows = np.kron(np.eye(v), np.ones(v))
  columns = np.kron(np.ones(v), np.eye(v))
  return optimize.linprog(
    cost.ravel(), A_eq=np.r_[rows, columns], b_eq=np.r_[p, tau]
  ).fun


def test_golden_values():
  nll, emd = losses.emo_terms(Z, 0, E)
  np.testing.assert_allclose(emd, 0.487000, atol=5e-7)
  np.testing.assert_allclose(nll, 1.525479, atol=5e-7)
  np.testing.assert_allclose(
    losses.stabilized_emd(nll, emd), 0.704517, atol=5e-7
  )
  gradient = jax.grad(lambda z: losses.emo_terms(z, 0, E).emd)(Z)
  np.testing.assert_allclose(
    gradient, [-0.105931, -0.051441, 0.067680, 0.089691], atol=5e-7
  )
  # p_j (c_jt - emd), of the printed p.
  expected = P * (costs64(E)[:, 0] - 0.487)
  np.testing.assert_allclose(gradient, expected, atol=1e-6)


def test_golden_bound_for_soft_targets():
  bound = losses.soft_emo_terms(Z, TAU, E).emd
  np.testing.assert_allclose(bound, 0.403372, atol=5e-7)
  distance = transport(P, np.float64(TAU), costs64(E))
  np.testing.assert_allclose(distance, 0.314228, atol=2e-6)
  assert distance <= bound
  # The bound at p = tau, by float64 and by logits whose softmax is tau.
  own = TAU @ costs64(E) @ TAU
  np.testing.assert_allclose(own, 0.168, atol=1e-6)
  with np.errstate(divide="ignore"):
    logits = np.log(TAU)
  np.testing.assert_allclose(
    losses.soft_emo_terms(logits, TAU, E).emd, own, rtol=1e-6
  )


def test_hard_distance_is_the_linear_programme():
  logits, labels, embedding = random_problem()
  emd = losses.emo_terms(logits, labels, embedding).emd
  p = special.softmax(np.float64(logits), axis=1)
  for i, label in enumerate(labels):
    expected = transport(p[i], np.eye(9)[label], costs64(embedding))
    np.testing.assert_allclose(emd[i], expected, rtol=1e-5)


def test_one_hot_targets_are_labels():
  logits, labels, embedding = random_problem(1)
  logits[0] *= 20  # A confident row.
  labels[0] = logits[0].argmax()
  hard = losses.emo_terms(logits, labels, embedding)
  soft = losses.soft_emo_terms(logits, np.float32(np.eye(9))[labels], embedding)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=3e-6), hard, soft
  )


def test_cross_entropy_of_soft_targets_is_that_of_optax():
  logits, _, embedding = random_problem(2)
  targets = special.softmax(
    np.random.default_rng(3).normal(size=(6, 9)), axis=1
  )
  targets = np.float32(targets)
  nll = losses.soft_emo_terms(logits, targets, embedding).nll
  expected = optax.softmax_cross_entropy(logits, targets)
  np.testing.assert_allclose(nll, expected, rtol=1e-5)


def test_cost_of_identity_is_smooth_accuracy():
  logits, labels, _ = random_problem(3)
  nll, emd = losses.emo_terms(logits, labels, np.eye(9, dtype=np.float32))
  np.testing.assert_allclose(emd, losses.smooth_accuracy_loss(nll), rtol=1e-6)
  expected = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
  np.testing.assert_allclose(nll, expected, rtol=1e-5)


def confident(gap, v=5000, d=64, dtype=jnp.bfloat16):
  """A row whose label has p_t = 1 - gap, and its embedding, in bfloat16."""
  rng = np.random.default_rng(4)
  logits = rng.normal(size=v)
  others = special.logsumexp(logits[1:])
  logits[0] = others + np.log1p(-gap) - np.log(gap)
  embedding = rng.normal(size=(v, d)) + 0.5
  return jnp.asarray(logits, dtype), jnp.asarray(embedding, dtype)


@pytest.mark.parametrize("gap", [1e-2, 1e-6, 1e-7, 1e-12])
def test_ratio_of_a_confident_token_in_bfloat16(gap):
  logits, embedding = confident(gap)
  nll, emd = losses.emo_terms(logits[None], np.array([0]), embedding)
  assert nll.dtype == emd.dtype == jnp.float32
  nll64, emd64 = terms64(np.float64(logits)[None], [0], np.float64(embedding))
  np.testing.assert_allclose(nll / emd, nll64 / emd64, rtol=1e-4)
  np.testing.assert_allclose(nll, nll64, rtol=1e-5)
  # What mode 1 gives the gradient of emd, is that ratio.
  weight = jax.grad(lambda emd: 2 * losses.emo_mode1(nll, emd).sum())(emd)
  np.testing.assert_allclose(weight, nll64 / emd64, rtol=1e-3)
  # Where the cancelling form has lost it: this test can fail.
  e = np.float32(embedding)
  e /= np.linalg.norm(e, axis=1, keepdims=True)
  naive = 1 - jax.nn.softmax(np.float32(logits)) @ e @ e[0]
  if gap <= 1e-7:
    assert abs(naive / emd64[0] - 1) > 0.1


def test_values_and_gradients_of_the_mixings():
  nll, emd = jnp.array([1.5, 0.01, 3.0]), jnp.array([0.5, 0.002, 1.2])
  np.testing.assert_allclose(losses.emo_mode1(nll, emd), nll, rtol=1e-6)
  np.testing.assert_allclose(losses.emo_mode2(nll, emd), 2 * emd, rtol=1e-6)

  def gradients(mode):
    return jax.grad(lambda n, e: mode(n, e).sum(), (0, 1))(nll, emd)

  by_nll, by_emd = gradients(losses.emo_mode1)
  np.testing.assert_allclose(by_nll, 0.5, rtol=1e-6)
  np.testing.assert_allclose(by_emd, 0.5 * nll / emd, rtol=1e-6)
  by_nll, by_emd = gradients(losses.emo_mode2)
  np.testing.assert_allclose(by_nll, emd / nll, rtol=1e-6)
  np.testing.assert_allclose(by_emd, 1, rtol=1e-6)


def test_stabilised_mixing_is_that_of_the_newer_program():
  logits, labels, embedding = random_problem(5)

  def newer(logits):  # Written out: emd + p_t in the ratio, gradient of emd.
    nll, emd = losses.emo_terms(logits, labels, embedding)
    p = jnp.exp(-nll)
    ratio = jax.lax.stop_gradient(nll / (emd + p))
    return (0.5 * (nll + ratio * emd)).sum()

  def ours(logits):
    nll, emd = losses.emo_terms(logits, labels, embedding)
    return losses.emo_mode1(nll, losses.stabilized_emd(nll, emd)).sum()

  np.testing.assert_allclose(
    jax.grad(ours)(logits), jax.grad(newer)(logits), atol=1e-6
  )


@pytest.mark.slow
def test_second_derivatives():
  with jax.enable_x64(True):
    logits, labels, embedding = random_problem(9, n=2, v=4)
    logits = jnp.asarray(logits, jnp.float64)
    soft = special.softmax(np.float64(logits) / 3, axis=1)
    for f in (
      lambda z: losses.emo_terms(z, labels, embedding),
      lambda z: losses.soft_emo_terms(z, soft, embedding),
    ):
      test_util.check_grads(f, (logits,), order=2, atol=1e-5, rtol=1e-5)
