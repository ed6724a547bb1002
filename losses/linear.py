# SPDX-License-Identifier: Apache-2.0
"""Losses from hidden states and a linear head, for large vocabularies.

The logits z = h W of N tokens and V classes are never in memory: the statistics
of `linear_statistics` are computed and differentiated tile by tile. With
log_others the log-sum-exp of all logits but the label's,

  nll = softplus(log_others - z_y)                                        (1)
  uniform_nll = log sum_j exp(z_j) - mean_j z_j                           (2)
  emd = (1 - p_y) sum_{j != y} q_j c_jy,  q = softmax over j != y         (3)

Memory beyond inputs and gradients: a few tiles [token_tile, vocab_tile], and
arrays of the size of h. Time: 4 matrix products for 3 of the dense form, 6 for
4 with emd. The method is that of Cut Cross-Entropy (arXiv 2411.09009) without
its filter of small gradients: exact.

With W sharded by vocabulary over a mesh axis, call these inside jax.shard_map
with `axis_name`; labels stay global. Tokens sharded over other axes need
nothing there; under jit alone XLA would gather them for each tile. Derivatives
are by reverse mode; the second needs float32 and keeps the logits.
"""

from typing import NamedTuple
from typing import TypedDict
from typing import Unpack

import chex
import jax
import jax.numpy as jnp

from losses import checks
from losses import earth_mover
from losses import linear_statistics
from losses import logspace
from losses import tiles


class HeadOptions(TypedDict, total=False):
  """What all functions of this file also take, by keyword.

  bias: [V], or None.
  offset: [V], added to the capped logits; or None. A constant:
    `losses.logit_adjustment`, or -inf for rows that only pad the vocabulary.
  where: [...] boolean: the tokens that count. The others have loss 0 and
    gradient 0, whatever their label and hidden state.
  vocab_axis: the axis of head that is V; 1, as in a kernel [D, V], by default,
    and 0 for an embedding [V, D].
  soft_cap: logits become soft_cap tanh(logits / soft_cap), as in
    arXiv 2408.00118; by default they do not.
  axis_name: mesh axis that V is sharded over, inside jax.shard_map.
  token_tile: at most this many tokens at a time; default 1024.
  vocab_tile: at most this many classes at a time; default 4096.
  """

  bias: chex.Array | None
  offset: chex.Array | None
  where: chex.Array | None
  vocab_axis: int
  soft_cap: float | None
  axis_name: str | None
  token_tile: int
  vocab_tile: int


class NLLTerms(NamedTuple):
  """nll [...] and uniform_nll [...], for `losses.label_smoothing`."""

  nll: jax.Array
  uniform_nll: jax.Array


def linear_nll(
  hidden: chex.Array,
  head: chex.Array,
  labels: chex.Array,
  **options: Unpack[HeadOptions],
) -> jax.Array:
  """-log p of the label under softmax(hidden head), equation (1).

  Feed it to any map of `token_level`. Gradient on the logits, tile by tile:
  (p - onehot) times the token's cotangent.

  Args:
    hidden: [..., D] floating; its type is that of the matrix products, which
      accumulate in float32.
    head: [D, V], or [V, D] with vocab_axis=0; with axis_name the local shard.
    labels: [...] integers in [0, V).
    **options: see `HeadOptions`.

  Returns:
    [...] in float32, at least 0.

  Raises:
    ValueError: if a shape or type does not fit, or a label that counts is not
      in [0, V) (where it is concrete).

  >>> hidden, head = jnp.ones((2, 3)), jnp.eye(3, 5)
  >>> print(losses.linear_nll(hidden, head, jnp.array([0, 4])))
  [1.318 2.318]
  """
  stats, _, where = _per_token(hidden, head, labels, **options)
  return jnp.where(where, _nll(stats), 0)


def linear_nll_terms(
  hidden: chex.Array,
  head: chex.Array,
  labels: chex.Array,
  **options: Unpack[HeadOptions],
) -> NLLTerms:
  """The nll of `linear_nll` and uniform_nll, equation (2), in one pass.

  For `losses.label_smoothing`. Classes whose offset is -inf get no part of the
  smoothing.

  Args:
    hidden: as in `linear_nll`.
    head: as in `linear_nll`.
    labels: as in `linear_nll`.
    **options: see `HeadOptions`.

  Returns:
    nll [...] and uniform_nll [...] in float32, 0 for tokens left out.

  Raises:
    ValueError: as `linear_nll`.

  >>> hidden, head = jnp.ones((2, 3)), jnp.eye(3, 5)
  >>> terms = losses.linear_nll_terms(hidden, head, jnp.array([0, 4]))
  >>> print(losses.label_smoothing(*terms, smoothing=0.1))
  [1.358 2.258]
  """
  stats, num_classes, where = _per_token(hidden, head, labels, **options)
  nll = _nll(stats)
  uniform_nll = nll + stats.z_label - stats.z_sum / num_classes
  return NLLTerms(jnp.where(where, nll, 0), jnp.where(where, uniform_nll, 0))


def linear_emo_terms(
  hidden: chex.Array,
  head: chex.Array,
  labels: chex.Array,
  *,
  cost_embedding: chex.Array | None = None,
  **options: Unpack[HeadOptions],
) -> earth_mover.EMOTerms:
  """The nll of `linear_nll` and the earth mover's distance, equation (3).

  The two terms of `losses.emo_terms`, to be mixed with `losses.emo_mode1` or
  `losses.emo_mode2`. Gradient of emd on the logits: p_j (c_jy - emd).

  Args:
    hidden: as in `linear_nll`.
    head: as in `linear_nll`.
    labels: as in `linear_nll`.
    cost_embedding: [V, d], whatever vocab_axis is: the vectors that costs are
      cosines of, never differentiated. A copy of the pretrained head gives
      "fixed" costs (a projection of it to fewer dimensions saves memory and
      time); None gives "adaptive" ones, of the head as it is. With axis_name
      the local shard.
    **options: see `HeadOptions`.

  Returns:
    nll [...] at least 0 and emd [...] in [0, 2], in float32; 0 for tokens left
    out.

  Raises:
    ValueError: as `linear_nll`.

  >>> hidden, head = jnp.ones((2, 3)), jnp.eye(3, 5)
  >>> terms = losses.linear_emo_terms(hidden, head, jnp.array([0, 4]))
  >>> print(terms.emd)
  [0.7323 0.9015]
  """
  if cost_embedding is None:
    costs = head, options.get("vocab_axis", 1)
  else:
    costs = cost_embedding, 0
  stats, _, where = _per_token(hidden, head, labels, costs=costs, **options)
  nll = _nll(stats)
  emd = logspace.one_minus_exp(nll) * stats.cost_others
  return earth_mover.EMOTerms(
    jnp.where(where, nll, 0), jnp.where(where, emd, 0)
  )


def _nll(stats):
  return jax.nn.softplus(stats.log_others - stats.z_label)


def _per_token(
  hidden,
  head,
  labels,
  *,
  bias=None,
  offset=None,
  where=None,
  vocab_axis=1,
  soft_cap=None,
  axis_name=None,
  token_tile=1024,
  vocab_tile=4096,
  costs=None,
):
  """(Statistics [...] over the whole vocabulary, its size, where)."""
  hidden, head = jnp.asarray(hidden), jnp.asarray(head)
  labels = checks.as_integer("labels", labels)
  where = checks.as_mask("where", where, labels.shape)
  _check(hidden, head, labels, bias, offset, vocab_axis, soft_cap, costs)
  for name, tile in (("token_tile", token_tile), ("vocab_tile", vocab_tile)):
    if tile < 1:
      raise ValueError(f"{name}={tile} must be at least 1")
  num_classes = head.shape[vocab_axis]
  first = 0
  if axis_name is None:
    checks.class_labels(labels, num_classes, where=where)
  else:
    first = jax.lax.axis_index(axis_name) * num_classes

  # Labels of this shard count from its first class; ignored ones are class 0.
  labels = jnp.where(where, labels, 0) - first
  hidden = jnp.where(where[..., None], hidden, 0)
  n, width = labels.size, hidden.shape[-1]
  tile = tiles.even_tile(max(n, 1), token_tile, 8)
  pad = -n % tile
  labels_nt = jnp.pad(labels.reshape(-1), (0, pad)).reshape(-1, tile)
  hidden_nt = jnp.pad(hidden.reshape(-1, width), ((0, pad), (0, 0)))
  hidden_nt = hidden_nt.reshape(-1, tile, width)

  layout = linear_statistics.Layout(
    vocab_axis=vocab_axis,
    cost_axis=0 if costs is None else costs[1],
    soft_cap=soft_cap,
    vocab_tile=tiles.even_tile(num_classes, vocab_tile, 128),
  )
  bias = None if bias is None else jnp.asarray(bias)
  if offset is not None:
    offset = jax.lax.stop_gradient(jnp.asarray(offset))
  head = linear_statistics.Head(head, bias, offset)
  cost = None if costs is None else _cost(*costs, labels_nt, axis_name)
  arguments = hidden_nt, head, labels_nt, cost
  arguments = tiles.varying_alike(arguments, first)
  stats = linear_statistics.statistics(layout, *arguments)
  stats = jax.tree.map(lambda s: s.reshape(-1)[:n].reshape(where.shape), stats)

  real = num_classes if offset is None else jnp.sum(offset != -jnp.inf)
  if axis_name is not None:
    stats = linear_statistics.over_shards(stats, axis_name)
    real = jax.lax.psum(real, axis_name)
  return stats, real, where


def _check(hidden, head, labels, bias, offset, vocab_axis, soft_cap, costs):
  checks.as_float("hidden", hidden[:0])
  checks.as_float("head", head[:0])
  if vocab_axis not in (0, 1):
    raise ValueError(
      f"vocab_axis={vocab_axis}; it is 1 for a head [D, V] and 0 for [V, D]"
    )
  if soft_cap is not None and soft_cap <= 0:
    raise ValueError(f"soft_cap={soft_cap} must be positive, or None")
  checks.shape("labels", labels, hidden.shape[:-1], "that of hidden[..., 0]")
  width = hidden.shape[-1]
  expected = (width, None) if vocab_axis == 1 else (None, width)
  names = "[D, V]" if vocab_axis == 1 else "[V, D]"
  meaning = f"{names} with D = {width} of hidden; see vocab_axis"
  checks.shape("head", head, expected, meaning)
  num_classes = head.shape[vocab_axis]
  for name, row in (("bias", bias), ("offset", offset)):
    if row is not None:
      checks.as_float(name, jnp.asarray(row)[:0])
      checks.shape(name, row, (num_classes,), f"[V] with V = {num_classes}")
  if costs is not None:
    table, axis = costs
    checks.as_float("cost_embedding", jnp.asarray(table)[:0])
    expected = (None, num_classes) if axis == 1 else (num_classes, None)
    meaning = f"[V, d] with V = {num_classes}"
    checks.shape("cost_embedding", table, expected, meaning)


def _cost(table, axis, labels, axis_name):
  """The frozen table and the rows of the labels, wherever they are sharded."""
  table = jax.lax.stop_gradient(jnp.asarray(table))
  dtype = jnp.promote_types(table.dtype, jnp.float32)
  square = jnp.sum(jnp.square(table.astype(dtype)), axis=1 - axis)
  num_classes = square.size
  owned = (labels >= 0) & (labels < num_classes)
  index = jnp.where(owned, labels, 0)
  rows = tiles.take_rows(table, index, axis)
  rows = jnp.where(owned[..., None], rows, 0)
  label_square = jnp.where(owned, square[index], 0)
  if axis_name is not None:
    rows, label_square = jax.lax.psum((rows, label_square), axis_name)
  scale, label_scale = (
    jnp.where(s > 0, jax.lax.rsqrt(jnp.where(s > 0, s, 1)), 0)
    for s in (square, label_square)
  )
  return linear_statistics.Cost(table, scale, rows, label_scale)
