# SPDX-License-Identifier: Apache-2.0
"""Sparse ZLPR against the formula in float64, and against the dense one."""

import functools

import jax
from jax import test_util
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special
import test_losses_multilabel as many_hot

import losses

sparse_zlpr = jax.jit(losses.sparse_zlpr, static_argnames="padding")


def direct(s, t, where=True):
  """The dense oracle, with the gradient on a threshold of each row."""
  loss, grad = many_hot.direct(s, t, where)
  return loss, grad, -grad.sum(-1, keepdims=True)


@jax.jit
def loss_and_grads(logits, indices, threshold=0.0, where=None):
  """Losses and the gradients of their sum on the logits and the threshold."""

  def total(logits, threshold):
    loss = losses.sparse_zlpr(logits, indices, threshold=threshold, where=where)
    return loss.sum(), loss

  grads, loss = jax.grad(total, argnums=(0, 1), has_aux=True)(logits, threshold)
  return loss, *grads


def official(s, positive):
  """The negative term as kexue.fm post 8888 has it, in float32."""
  s = np.float32(s)
  a = special.logsumexp(np.append(s, np.float32(0)))
  b = special.logsumexp(s[positive])
  difference = np.float32(1) - np.exp(b - a)
  return a + np.log(np.maximum(difference, np.float32(1e-7)))


@pytest.mark.parametrize(
  "score, broken",  # What the official formula gives in place of 0 and 1.56.
  [(9.05, None), (16.0, -0.118), (20.0, 3.88), (30.0, 13.9)],
)
def test_a_high_positive_score(score, broken):
  rng = np.random.default_rng(6)
  for negatives, truth, tolerance in (
    (np.full(1000, -30.0), 0, 1e-9),
    # log(1 + 1000 e^(-6 + 1/2)) = 1.6266, with a standard deviation of
    # sqrt((e - 1) / 1000) 0.80 = 0.033: 1.5645 is of another seed.
    (rng.normal(-6, 1, 1000), 1.6266, 0.1),
  ):
    logits = np.float32([[score, *negatives]])
    term = special.logsumexp([0, *negatives])
    np.testing.assert_allclose(term, truth, atol=tolerance)
    wrong = official(logits[0], [0])
    if broken is not None:
      np.testing.assert_allclose(wrong, broken, rtol=0.01)
    elif truth == 0:
      assert -4e-3 < wrong < -5e-4
    labels = np.eye(1, 1001, dtype=np.float32)
    loss, grad, _ = loss_and_grads(logits, np.zeros((1, 1), int))
    expected, expected_grad, _ = direct(logits, labels)
    np.testing.assert_allclose(loss, expected, rtol=2e-6)
    np.testing.assert_allclose(grad, expected_grad, rtol=1e-5)
    assert grad[0, 0] < 0  # Up, not down.
    dense = jax.jit(losses.zlpr)(logits, labels)
    np.testing.assert_allclose(loss, dense, rtol=1e-6)


def test_is_dense_whatever_the_order_duplicates_and_padding():
  rng = np.random.default_rng(7)
  logits = np.float32(rng.normal(size=(2, 2, 6)) * 4)
  sets = [[[0, 5], [3]], [[], [1, 2, 4]]]
  labels = np.zeros((2, 2, 6), np.float32)
  for i in range(2):
    for j in range(2):
      labels[i, j, sets[i][j]] = 1
  threshold = np.float32(rng.normal(size=(2, 2, 1)))
  expected = direct(logits - threshold, labels)
  for pad in (-1, 6, 99):
    indices = np.array(
      [[[5, pad, 0, 5], [3, 3, 3, 3]], [[pad] * 4, [4, 1, 2, pad]]]
    )
    result = jax.vmap(functools.partial(losses.sparse_zlpr, padding=pad))(
      logits, indices, threshold=threshold
    )
    np.testing.assert_allclose(result, expected[0], rtol=1e-6)
  indices = np.where(indices == 99, -1, indices)
  result = loss_and_grads(logits, indices, threshold)
  for a, b in zip(result, expected, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
  no_indices = sparse_zlpr(logits, np.zeros((2, 2, 0), int))
  np.testing.assert_allclose(
    no_indices, losses.zlpr(logits, 0 * labels), rtol=1e-6
  )


def test_absent_classes():
  logits = np.float32(np.random.default_rng(0).normal(size=(4, 6)) * 3)
  where = np.array([False, True, True, True, False, True])
  indices = np.array([[1, 0], [0, 0], [3, 5], [5, 2]])
  labels = np.zeros((4, 6), np.float32)
  np.put_along_axis(labels, indices, 1, axis=-1)
  labels[:, 0] = 0
  expected = direct(logits, labels, where)
  # Class 0 as padding, absent; also where a positive cannot be refused.
  result = sparse_zlpr(logits, indices, padding=0, where=where)
  np.testing.assert_allclose(result, expected[0], rtol=1e-6)
  infinite = np.where(where, logits, -np.inf)
  for z, mask in ((logits, where), (infinite, None)):
    result = loss_and_grads(z, indices, 0.0, mask)
    for a, b in zip(result[:2], expected[:2], strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_an_index_that_is_no_class_is_nan_where_it_cannot_be_refused():
  logits = np.float32(np.random.default_rng(0).normal(size=(3, 6)))
  for unknown in (6, -2, 99):
    indices = np.array([[1, -1], [3, unknown], [unknown, -1]])
    loss, *_ = loss_and_grads(logits, indices)
    expected = losses.sparse_zlpr(logits[:1], indices[:1])
    np.testing.assert_allclose(loss, [expected[0], np.nan, np.nan], rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_small_integers_and_many_classes(dtype):
  rng = np.random.default_rng(8)
  logits = np.float32(rng.normal(size=(2, 300)))
  # One past the last class, 300, is 44 in eight bits.
  indices = np.array([[5, 127], [9, 0]])
  expected = sparse_zlpr(logits, indices, padding=9)
  result = sparse_zlpr(logits, indices.astype(dtype), padding=9)
  np.testing.assert_array_equal(result, expected)
  labels = np.zeros((2, 300))
  labels[[0, 0, 1], [5, 127, 0]] = 1
  np.testing.assert_allclose(result, direct(logits, labels)[0], rtol=1e-6)


def test_a_single_class():
  logits = np.float32([[2.0], [2.0]])
  loss, grad, _ = loss_and_grads(logits, np.array([[0], [-1]]))
  x = np.exp(2.0)
  np.testing.assert_allclose(loss, [np.log1p(1 / x), np.log1p(x)], rtol=1e-6)
  np.testing.assert_allclose(grad[:, 0], [-1 / (1 + x), x / (1 + x)], rtol=2e-6)


def test_derivatives():
  with jax.enable_x64(True):
    logits = jnp.array(np.random.default_rng(9).normal(size=(2, 4)))
    indices = np.array([[2, 0, 2], [-1, 3, -1]])
    f = jax.jit(lambda s, s_0: losses.sparse_zlpr(s, indices, threshold=s_0))
    test_util.check_grads(f, (logits, jnp.array(0.4)), order=2, modes=["rev"])


Z, I = jnp.zeros((2, 3)), jnp.ones((2, 3), int)  # noqa: E741


@pytest.mark.parametrize(
  "call, message",
  [
    (lambda: losses.sparse_zlpr(Z, Z), "indices must be integers"),
    (lambda: losses.sparse_zlpr(Z, I[0]), "indices has shape"),
    (
      lambda: losses.sparse_zlpr(Z, 3 * I),
      r"indices, other than padding=-1, has 3, which is outside \[0, 2\]",
    ),
    (
      lambda: losses.sparse_zlpr(Z, I, where=jnp.array([True, False, True])),
      r"indices has the class at \(0, 1\)",
    ),
    (
      lambda: losses.sparse_zlpr(Z.at[1, 1].set(-jnp.inf), I),
      r"indices has the class at \(1, 1\)",
    ),
  ],
)
def test_mistakes(call, message):
  with pytest.raises(ValueError, match=message):
    call()
