# SPDX-License-Identifier: Apache-2.0
"""GlobalPointer: a score for every span of a text and every kind of entity.

Notation: n tokens, heads (one per kind), d features, spans from i to j with
i <= j. R_i is the rotation of RoPE at position i.

  s(i, j) = (R_i q_i) . (R_j k_j) / sqrt(d)                               (1)
  s(i, j) = (R_i q_i) . (R_j k_j) / sqrt(d) + (a_i + b_j) / 2             (2)

(1) is GlobalPointer (kexue.fm post 8373), with q and k of each head; (2) is the
efficient form (post 8877, as bert4keras has it), with q and k shared by the
heads and two numbers a, b per token and head. R_i . R_j depends on j - i only,
which is how the score knows the length of a span; without RoPE the F1 of the
post falls from 95.5 to 62.6 (People's Daily, test).

Layout: [..., heads, n, d] and [..., heads, n, n], so a projection to [..., n,
heads, d] needs swapaxes(-2, -3). Scores are not masked. Train with ZLPR over
the spans that exist, summed over the heads:

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
  """RoPE: features rotated by the position, in pairs (arXiv 2104.09864).

    (x_2m, x_2m+1) turned by position * base^(-2m / d),  m = 0 ... d/2 - 1

  Neighbours (even, odd) are a pair, not x_m and x_(m + d/2). Linear and
  orthogonal: norms stay, position 0 changes nothing, (R_i q) . (R_j k) =
  q . (R_(j-i) k). The gradient is turned back by the same angles.

  Args:
    x: [..., n, d] with d even.
    positions: broadcastable to [..., n], whole or not; None is 0 ... n - 1.
    base: at least 1; the paper has 10,000.

  Returns:
    [..., n, d].

  Raises:
    ValueError: if `x` is not floating point, d is odd, `positions` does not fit
      or `base` is below 1.

  >>> x = jnp.array([[1.0, 0.0], [1.0, 0.0]])
  >>> print(losses.rotary_embedding(x, positions=jnp.array([0.0, jnp.pi / 2])))
  [[ 1.  0.]
   [-0.  1.]]
  """
  x = checks.as_float("x", x)
  checks.rank_at_least("x", x, 2, "[..., n, d]")
  checks.between("base", base, 1, jnp.inf)
  size = x.shape[-1]
  if size % 2:
    raise ValueError(
      f"x has {size} features; they turn in pairs, so use {size + 1}"
    )
  if positions is None:
    positions = jnp.arange(x.shape[-2])
  positions = jnp.asarray(positions, x.dtype)
  checks.broadcast("positions", positions, x.shape[:-1])

  frequencies = base ** (-jnp.arange(0, size, 2, dtype=x.dtype) / size)
  # Of the rank of positions, so that heads share one sine.
  frequencies = jnp.expand_dims(frequencies, range(positions.ndim))
  angles = positions[..., None] * frequencies  # [..., n, d/2]
  even, odd = x[..., 0::2], x[..., 1::2]
  cos = jnp.broadcast_to(jnp.cos(angles), even.shape)
  sin = jnp.broadcast_to(jnp.sin(angles), even.shape)
  turned = jnp.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1)
  return turned.reshape(x.shape)


def global_pointer_scores(
  q: chex.Array, k: chex.Array, *, rope_base: chex.Numeric | None = 10_000.0
) -> jax.Array:
  """The scores of GlobalPointer (kexue.fm post 8373).

    s(i, j) = (R_i q_i) . (R_j k_j) / sqrt(d)

  Gradient on q_i: R_i^T sum_j g_ij R_j k_j / sqrt(d), for the cotangent g.

  Args:
    q: [..., heads, n, d] of the first token of a span, d even.
    k: [..., heads, n, d] of the last.
    rope_base: of `losses.rotary_embedding`; None leaves the rotation out.

  Returns:
    [..., heads, n, n], of first and last token; not masked.

  Raises:
    ValueError: if `q` or `k` is not floating point, the shapes differ or d is
      odd.

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

  The first term finds spans, whatever their kind; the second is of each head.
  The 1/2 is that of bert4keras. There one dense layer gives q and k, and
  another gives start and end from the two (before the rotation): 2 numbers per
  head instead of 2 d. Gradient on start_i: sum_j g_ij / 2, for the cotangent g.

  Args:
    q: [..., n, d] of the first token of a span, d even.
    k: [..., n, d] of the last.
    start_scores: [..., heads, n].
    end_scores: [..., heads, n].
    rope_base: of `losses.rotary_embedding`; None leaves the rotation out.

  Returns:
    [..., heads, n, n], of first and last token; not masked.

  Raises:
    ValueError: if an array is not floating point, shapes do not fit or d is
      odd.

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
    [..., 1, n, n] boolean, for `where` of the losses of scores [..., heads, n,
    n] and of `losses.decode_spans`.

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

  Spans may overlap and nest. Of equal scores the first in the order of (head,
  start, end) comes first. Use jax.vmap for a batch. The size of the result is
  fixed, so that it can be compiled; a last row without -1 means that spans may
  have been left out.

  Args:
    scores: [heads, n, n].
    where: boolean, broadcastable to scores: the spans that exist, of
      `losses.span_mask`.
    max_spans: rows of the result, at least 1.
    threshold: a scalar; 0 is that of ZLPR.

  Returns:
    [max_spans, 3] int32 of (head, start, end), the end included, by descending
    score; then rows of -1.

  Raises:
    ValueError: if `scores` is not floating point or not of rank 3, `where` does
      not fit or `max_spans` is not positive.

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
  checks.between("max_spans", max_spans, 1, jnp.inf)
  kept = checks.as_mask("where", where, scores.shape) & (scores > threshold)
  flat = jnp.where(kept, scores, -jnp.inf).ravel()
  best, index = jax.lax.top_k(flat, min(max_spans, flat.size))
  spans = jnp.stack(jnp.unravel_index(index, scores.shape), axis=-1)
  spans = jnp.where((best > -jnp.inf)[:, None], spans, -1).astype(jnp.int32)
  missing = max_spans - spans.shape[0]
  return jnp.pad(spans, ((0, missing), (0, 0)), constant_values=-1)
