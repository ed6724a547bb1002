# SPDX-License-Identifier: Apache-2.0
"""GlobalPointer scores and decoding against float64 NumPy loops."""

import jax
from jax import test_util
import jax.numpy as jnp
import numpy as np
import pytest

import losses

RNG = np.random.default_rng(0)
HEADS, N, D = 3, 5, 6
Q, K = RNG.normal(size=(2, 2, HEADS, N, D))  # [B, heads, n, d]
ROTATE = jax.jit(losses.rotary_embedding)
DECODE = jax.jit(losses.decode_spans, static_argnames="max_spans")


def rotated(x, position, base=10_000.0):
  """x [d] as complex numbers, turned by exp(i position base^(-2m/d))."""
  z = x[0::2] + 1j * x[1::2]
  turn = position * base ** (-2 * np.arange(z.size) / x.size)
  z = z * np.exp(1j * turn)
  return np.stack([z.real, z.imag], axis=-1).ravel()


def scores_by_loop(q, k, base):
  """One head, [n, n]."""
  result = np.empty((len(q), len(k)))
  for i, q_i in enumerate(q):
    for j, k_j in enumerate(k):
      a = q_i if base is None else rotated(q_i, i, base)
      b = k_j if base is None else rotated(k_j, j, base)
      result[i, j] = a @ b / np.sqrt(q.shape[-1])
  return result


def test_rotary_embedding_is_a_complex_rotation():
  positions = np.array([0.0, 3.0, 1.5, 100.0, 7.0])
  result = ROTATE(Q, positions=positions, base=100.0)
  for index in np.ndindex(2, HEADS, N):
    expected = rotated(Q[index], positions[index[-1]], 100.0)
    np.testing.assert_allclose(result[index], expected, atol=2e-5)


def test_rotary_embedding_keeps_norms_and_position_0():
  result = ROTATE(Q)
  np.testing.assert_allclose(
    np.linalg.norm(result, axis=-1), np.linalg.norm(Q, axis=-1), rtol=1e-6
  )
  np.testing.assert_array_equal(result[..., 0, :], np.float32(Q[..., 0, :]))
  nothing = ROTATE(Q, positions=np.zeros(N, int))
  np.testing.assert_array_equal(nothing, np.float32(Q))


def test_positions_may_differ_by_example():
  positions = np.stack([np.arange(N), np.arange(N) + 4])[:, None]  # [B, 1, n]
  result = ROTATE(Q, positions=positions)
  np.testing.assert_allclose(result[0], ROTATE(Q)[0], atol=1e-6)
  expected = ROTATE(Q[1], positions=np.arange(N) + 4)
  np.testing.assert_allclose(result[1], expected, atol=1e-6)


def test_scores_depend_on_the_distance_only():
  def score(i, j):
    a = ROTATE(Q[0, 0, :1], positions=np.array([i]))
    b = ROTATE(K[0, 0, :1], positions=np.array([j]))
    return float((a * b).sum())

  for i, j in ((0, 3), (2, 2), (5, 1)):
    np.testing.assert_allclose(score(i, j), score(i + 9, j + 9), atol=1e-5)
  assert abs(score(0, 3) - score(0, 4)) > 1e-2


@pytest.mark.parametrize("base", [10_000.0, 50.0, None])
def test_scores_are_those_of_a_loop(base):
  result = losses.global_pointer_scores(Q, K, rope_base=base)
  assert result.shape == (2, HEADS, N, N)
  for index in np.ndindex(2, HEADS):
    expected = scores_by_loop(Q[index], K[index], base)
    np.testing.assert_allclose(result[index], expected, atol=1e-5)


@pytest.mark.parametrize("base", [10_000.0, None])
def test_efficient_scores_are_those_of_a_loop(base):
  start, end = RNG.normal(size=(2, 2, HEADS, N))
  q, k = Q[:, 0], K[:, 0]  # [B, n, d]
  result = losses.efficient_global_pointer_scores(
    q, k, start, end, rope_base=base
  )
  assert result.shape == (2, HEADS, N, N)
  for b, head in np.ndindex(2, HEADS):
    expected = scores_by_loop(q[b], k[b], base)
    expected += np.add.outer(start[b, head], end[b, head]) / 2
    np.testing.assert_allclose(result[b, head], expected, atol=1e-5)


def test_derivatives():
  with jax.enable_x64(True):
    q, k = jnp.asarray(Q[0, 0]), jnp.asarray(K[0, 0])
    start, end = jnp.asarray(RNG.normal(size=(2, HEADS, N)))
    f = jax.jit(losses.efficient_global_pointer_scores)
    test_util.check_grads(f, (q, k, start, end), order=2, modes=["rev"])


def test_span_mask_is_i_to_j_of_real_tokens():
  tokens = np.array([[True, True, False, True], [True, True, True, False]])
  mask = losses.span_mask(tokens)
  assert mask.shape == (2, 1, 4, 4)
  for b, i, j in np.ndindex(2, 4, 4):
    assert mask[b, 0, i, j] == (i <= j and tokens[b, i] and tokens[b, j])


def test_trains_with_zlpr_under_the_mask():
  """Padding and the lower triangle have no effect and no gradient."""
  tokens = jnp.array([True, True, True, False, False])
  labels = np.zeros((HEADS, N, N), np.float32)
  labels[0, 0, 2] = labels[2, 1, 1] = 1

  @jax.jit
  @jax.value_and_grad
  def loss(scores):
    where = losses.span_mask(tokens)
    return losses.zlpr(scores, labels, where=where, axis=(-2, -1)).sum(-1)

  scores = losses.global_pointer_scores(Q[0], K[0])
  value, slope = loss(scores)
  mask = np.broadcast_to(losses.span_mask(tokens), scores.shape)
  other, _ = loss(jnp.where(mask, scores, 77.0))
  np.testing.assert_allclose(value, other, rtol=1e-6)
  assert (slope[~mask] == 0).all() and (slope[mask] != 0).all()


def decode_by_loop(scores, mask, threshold, max_spans):
  found = [
    (-scores[head, i, j], head, i, j)
    for head, i, j in np.ndindex(scores.shape)
    if i <= j and mask[i] and mask[j] and scores[head, i, j] > threshold
  ]
  rows = [row[1:] for row in sorted(found)][:max_spans]
  return rows + [(-1, -1, -1)] * (max_spans - len(rows))


@pytest.mark.parametrize("max_spans", [1, 4, 200])  # 200 > heads n^2
@pytest.mark.parametrize("threshold", [0.0, -1.0, 1e3])
def test_decoding_is_that_of_a_loop(max_spans, threshold):
  # Of few values, so that there are ties, and some exactly at the threshold.
  scores = RNG.integers(-3, 4, size=(HEADS, N, N)).astype(np.float32)
  tokens = np.array([True, True, True, True, False])
  result = DECODE(
    scores,
    where=losses.span_mask(tokens),
    threshold=threshold,
    max_spans=max_spans,
  )
  assert result.dtype == jnp.int32
  expected = decode_by_loop(scores, tokens, threshold, max_spans)
  np.testing.assert_array_equal(result, expected)


def test_decoding_a_batch_of_padding_and_infinities():
  scores = np.full((2, 1, 2, 2), 5.0, np.float32)
  scores[1, 0] = [[np.inf, np.nan], [9.0, -np.inf]]
  tokens = np.array([[False, False], [True, True]])
  result = jax.vmap(lambda s, m: losses.decode_spans(s, where=m, max_spans=2))(
    scores, losses.span_mask(tokens)
  )
  np.testing.assert_array_equal(result[0], -1)
  np.testing.assert_array_equal(result[1], [[0, 0, 0], [-1, -1, -1]])


def test_mistakes_are_named():
  with pytest.raises(ValueError, match="5 features; they rotate in pairs"):
    losses.rotary_embedding(np.ones((4, 5), np.float32))
  with pytest.raises(ValueError, match=r"positions has shape \(3,\)"):
    losses.rotary_embedding(Q, positions=np.arange(3))
  with pytest.raises(ValueError, match="base has 0"):
    losses.rotary_embedding(Q, base=0.0)
  with pytest.raises(ValueError, match=r"k has shape .* of q"):
    losses.global_pointer_scores(Q, K[0])
  with pytest.raises(ValueError, match=r"start_scores has shape \(2, 3, 4\)"):
    start = np.ones((2, 3, 4), np.float32)
    losses.efficient_global_pointer_scores(Q[:, 0], K[:, 0], start, start)
  with pytest.raises(ValueError, match="token_mask must be boolean"):
    losses.span_mask(np.ones(3, int))
  with pytest.raises(ValueError, match="use jax.vmap for a batch"):
    losses.decode_spans(Q, where=np.True_, max_spans=3)
  for number in (0, 2.0):
    with pytest.raises(ValueError, match=f"max_spans={number} must be an int"):
      losses.decode_spans(Q[0], where=np.True_, max_spans=number)
  with pytest.raises(ValueError, match=r"threshold has shape \(2,\)"):
    threshold = np.ones(2, np.float32)
    losses.decode_spans(Q[0], where=True, max_spans=1, threshold=threshold)
