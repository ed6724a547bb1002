# SPDX-License-Identifier: Apache-2.0
"""GlobalPointer: a score for every span of a text and every kind of entity.

Notation: n tokens, heads (one per kind), d features, spans from i to j with
i <= j. R_i is the rotation of RoPE at position i.

  s(i, j) = (R_i q_i) . (R_j k_j) / sqrt(d)                               (1)
  s(i, j) = (R_i q_i) . (R_j k_j) / sqrt(d) + (a_i + b_j) / 2             (2)

(1) is GlobalPointer (kexue.fm post 8373): each head has its own q and k. (2) is
the efficient form (post 8877, as bert4keras has it): the heads share q and k,
and each adds two numbers a, b per token. The rotations enter a score through
j - i only, which is how it sees the length of a span. Without RoPE the F1 that
the post reports falls from 95.5 to 62.6 (People's Daily, test).

The axes are [..., heads, n, d] for q and k and [..., heads, n, n] for scores; a
projection that gives [..., n, heads, d] needs swapaxes(-2, -3). Scores are not
masked. Train with ZLPR over the spans that exist, summed over the heads:

  losses.zlpr(scores, labels, where=losses.span_mask(token_mask),
              axis=(-2, -1)).sum(-1)

and predict the spans with s > 0. Results are float32, or float64 for float64.
"""

import chex
import jax
import jax.numpy as jnp

from losses import checks


def rotary_embedding(
  x: chex.Array,
  *,
  positions: chex.Array | None = None,
  base: chex.Numeric = 10_000.0,
) -> jax.Array:
  """RoPE: pairs of features rotated by their position (arXiv 2104.09864).

    (x_2m, x_2m+1) rotated by position * base^(-2m / d),  m = 0 ... d/2 - 1

  The features 2m and 2m+1 are a pair; other codes pair m with m + d/2. The map
  is linear and keeps norms, and position 0 changes nothing. (R_i q) . (R_j k) =
  q . (R_(j-i) k). Gradient: the cotangent rotated by the negative angles.

  Args:
    x: [..., n, d] with d even.
    positions: numbers broadcastable to [..., n], which may be fractional; None
      is 0 ... n - 1.
    base: a scalar at least 1; the paper has 10,000.

  Returns:
    [..., n, d].

  Raises:
    ValueError: if `x` is not floating point, d is odd, `positions` does not
      fit, or `base` is below 1 or not a scalar.

  >>> x = jnp.array([[1.0, 0.0], [1.0, 0.0]])
  >>> print(losses.rotary_embedding(x, positions=jnp.array([0.0, jnp.pi / 2])))
  [[ 1.  0.]
   [-0.  1.]]
  """
  x = checks.as_float("x", x)
  checks.rank_at_least("x", x, 2, "[..., n, d]")
  scalar = jnp.zeros((), x.dtype)
  base = checks.parameter("base", base, 1, jnp.inf, like=scalar)
  size = x.shape[-1]
  if size % 2:
    raise ValueError(
      f"x has {size} features; they rotate in pairs, so use {size + 1}"
    )
  if positions is None:
    positions = jnp.arange(x.shape[-2])
  positions = jnp.asarray(positions, x.dtype)
  checks.broadcast("positions", positions, x.shape[:-1])

  frequencies = base ** (-jnp.arange(0, size, 2, dtype=x.dtype) / size)
  # Sines are of the shape of positions, which heads mostly share.
  frequencies = jnp.expand_dims(frequencies, range(positions.ndim))
  angles = positions[..., None] * frequencies  # [..., n, d/2]
  even, odd = x[..., 0::2], x[..., 1::2]
  cos = jnp.broadcast_to(jnp.cos(angles), even.shape)
  sin = jnp.broadcast_to(jnp.sin(angles), even.shape)
  pairs = jnp.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1)
  return pairs.reshape(x.shape)


def global_pointer_scores(
  q: chex.Array, k: chex.Array, *, rope_base: chex.Numeric | None = 10_000.0
) -> jax.Array:
  """The scores of GlobalPointer (kexue.fm post 8373).

    s(i, j) = (R_i q_i) . (R_j k_j) / sqrt(d)

  Gradient on q_i: R_i^T sum_j g_ij R_j k_j / sqrt(d), for the cotangent g.

  Args:
    q: [..., heads, n, d], of each token as the first of a span. d is even,
      unless there is no rotation.
    k: [..., heads, n, d], of each token as the last of a span.
    rope_base: base of `losses.rotary_embedding`; None is no rotation.

  Returns:
    [..., heads, n, n]: s(i, j), of the first and the last token; not masked.

  Raises:
    ValueError: if `q` or `k` is not floating point, the shapes differ, or d is
      odd and there is a rotation.

  >>> q = jnp.array([[[1.0, 0.0], [0.0, 1.0]]])
  >>> print(losses.global_pointer_scores(q, q))
  [[[ 0.7071 -0.595 ]
    [-0.595   0.7071]]]
  """
  q, k = checks.as_float("q", q), checks.as_float("k", k)
  checks.rank_at_least("q", q, 2, "[..., heads, n, d]")
  checks.shape("k", k, q.shape, f"{q.shape} of q")
  size = q.shape[-1]
  if rope_base is not None:
    q = rotary_embedding(q, base=rope_base)
    k = rotary_embedding(k, base=rope_base)
  scores = jnp.einsum("...id,...jd->...ij", q, k, precision="highest")
  return scores / size**0.5


def efficient_global_pointer_scores(
  q: chex.Array,
  k: chex.Array,
  start_scores: chex.Array,
  end_scores: chex.Array,
  *,
  rope_base: chex.Numeric | None = 10_000.0,
) -> jax.Array:
  """The scores of Efficient GlobalPointer (kexue.fm post 8877).

    s(i, j) = (R_i q_i) . (R_j k_j) / sqrt(d) + (start_i + end_j) / 2

  The first term, which all heads share, tells whether i to j is a span; the
  second tells its kind. The 1/2 is that of bert4keras. There one dense layer
  gives q and k, and a second one takes the two, not rotated, and gives start
  and end: per token 2 numbers for each head instead of 2 d. Gradient on
  start_i: sum_j g_ij / 2, for the cotangent g.

  Args:
    q: [..., n, d], of each token as the first of a span. d is even, unless
      there is no rotation.
    k: [..., n, d], of each token as the last of a span.
    start_scores: [..., heads, n].
    end_scores: [..., heads, n].
    rope_base: base of `losses.rotary_embedding`; None is no rotation.

  Returns:
    [..., heads, n, n]: s(i, j), of the first and the last token; not masked.

  Raises:
    ValueError: if an array is not floating point, shapes do not fit, or d is
      odd and there is a rotation.

  >>> q = jnp.array([[1.0, 0.0], [0.0, 1.0]])
  >>> start, end = jnp.array([[2.0, 0.0]]), jnp.array([[0.0, 4.0]])
  >>> print(losses.efficient_global_pointer_scores(q, q, start, end))
  [[[ 1.7071  2.405 ]
    [-0.595   2.7071]]]
  """
  shared = global_pointer_scores(q, k, rope_base=rope_base)  # [..., n, n]
  start = checks.as_float("start_scores", start_scores)
  end = checks.as_float("end_scores", end_scores)
  checks.rank_at_least("start_scores", start, 2, "[..., heads, n]")
  expected = (*shared.shape[:-2], None, shared.shape[-1])
  meaning = f"[..., heads, n] for q of shape {jnp.shape(q)}"
  checks.shape("start_scores", start, expected, meaning)
  checks.shape("end_scores", end, start.shape, f"{start.shape} of start_scores")
  return shared[..., None, :, :] + (start[..., :, None] + end[..., None, :]) / 2


def span_mask(token_mask: chex.Array) -> jax.Array:
  """Which spans exist: i <= j, and both tokens are real.

  Args:
    token_mask: [..., n] boolean, True for real tokens.

  Returns:
    [..., 1, n, n] boolean: the `where` of losses of scores [..., heads, n, n]
    and of `losses.decode_spans`.

  Raises:
    ValueError: if `token_mask` is not boolean.

  >>> print(losses.span_mask(jnp.array([True, True, False])).astype(int))
  [[[1 1 0]
    [0 1 0]
    [0 0 0]]]
  """
  token_mask = checks.as_mask("token_mask", token_mask, jnp.shape(token_mask))
  checks.rank_at_least("token_mask", token_mask, 1, "[..., n]")
  both = token_mask[..., :, None] & token_mask[..., None, :]
  return jnp.triu(both)[..., None, :, :]


def decode_spans(
  scores: chex.Array,
  *,
  where: chex.Array,
  max_spans: int,
  threshold: chex.Numeric = 0.0,
) -> jax.Array:
  """The spans of one text that score above the threshold, the best first.

  Spans may overlap and nest. Spans of equal score are in the order of (head,
  start, end). Use jax.vmap for a batch. The result always has max_spans rows,
  so that it can be compiled. If the last row is not -1, there may be more spans
  than rows: use a larger max_spans.

  Args:
    scores: [heads, n, n].
    where: boolean, broadcastable to scores: the spans that exist;
      `losses.span_mask` gives them.
    max_spans: an integer, at least 1: the rows of the result.
    threshold: a scalar or broadcastable to scores; 0 is that of ZLPR.

  Returns:
    [max_spans, 3] int32: rows (head, start, end) by descending score, then rows
    of -1. `end` is the last token of the span, not the one after it.

  Raises:
    ValueError: if `scores` is not floating point or not of rank 3, `where` or
      `threshold` does not fit, or `max_spans` is not an integer of at least 1.

  >>> scores = jnp.array([[[1.0, 3.0], [9.0, -1.0]]])
  >>> spans = losses.span_mask(jnp.array([True, True]))
  >>> print(losses.decode_spans(scores, where=spans, max_spans=3))
  [[ 0  0  1]
   [ 0  0  0]
   [-1 -1 -1]]
  """
  scores = checks.as_float("scores", scores)
  checks.shape(
    "scores", scores, (None,) * 3, "[heads, n, n]; use jax.vmap for a batch"
  )
  checks.whole_number("max_spans", max_spans, 1)
  threshold = checks.broadcast("threshold", threshold, scores.shape)
  kept = checks.as_mask("where", where, scores.shape) & (scores > threshold)
  flat = jnp.where(kept, scores, -jnp.inf).ravel()
  best, index = jax.lax.top_k(flat, min(max_spans, flat.size))
  spans = jnp.stack(jnp.unravel_index(index, scores.shape), axis=-1)
  spans = jnp.where((best > -jnp.inf)[:, None], spans, -1).astype(jnp.int32)
  missing = max_spans - spans.shape[0]
  return jnp.pad(spans, ((0, missing), (0, 0)), constant_values=-1)
