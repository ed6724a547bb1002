# SPDX-License-Identifier: Apache-2.0
"""Per-token statistics of the logits of a linear head, without the logits.

Notation: hidden states h [N, D], head W and b, label y of each token, costs c,

  z_j = cap tanh((h W_j + b_j) / cap) + offset_j         (cap, b, offset if any)
  z_label = z_y                                                           (1)
  log_others = log sum_{j != y} exp(z_j)                                  (2)
  z_sum = sum_j z_j                                                       (3)
  cost_others = sum_{j != y} q_j c_jy,   q_j = exp(z_j - log_others)      (4)
  c_jy = 1 - <e_j, e_y> / (|e_j| |e_y|)                                   (5)

The label stays out of (2) and (4), so that a confident token loses no digits:
its NLL is softplus(log_others - z_label). Every loss of `linear` is plain
JAX on these four numbers per token; only their derivative is written here:

  dz_j = q_j (g_log + g_cost (c_jy - cost_others)) + g_sum,     j != y
  dz_y = g_label + g_sum,    dh = dz W^T,    dW = h^T dz                  (6)

Logits and costs exist for one tile of tokens and vocabulary at a time, and are
computed again for (6): 4 matrix products in place of 3, and 6 in place of 4
with costs. Products are of the type of h and accumulate in float32.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from losses import tiles


class Statistics(NamedTuple):
  """Equations (1) to (4), each [T, n]; cost_others is 0 without costs."""

  z_label: jax.Array
  log_others: jax.Array
  z_sum: jax.Array
  cost_others: jax.Array


class Head(NamedTuple):
  """A vocabulary, or one shard of it.

  weight is [D, V] or [V, D], bias and offset are [V] or None. A label outside
  [0, V) is somebody else's: z_label is then 0.
  """

  weight: jax.Array
  bias: jax.Array | None
  offset: jax.Array | None


class Cost(NamedTuple):
  """What (5) is made of; label_ is of e_y. None of it gets a gradient."""

  table: jax.Array  # [d, V] or [V, d]
  scale: jax.Array  # [V], 1 / |e_j|, 0 for a row of zeros
  label_rows: jax.Array  # [T, n, d]
  label_scale: jax.Array  # [T, n]


class Layout(NamedTuple):
  """Static: where V is in weight and table, the cap, columns in a tile."""

  vocab_axis: int
  cost_axis: int
  soft_cap: float | None
  vocab_tile: int


def _squash(z, bias, offset, soft_cap):
  """The logits from h W, and their slope in h W if it is not 1."""
  slope = None
  if bias is not None:
    z += bias
  if soft_cap is not None:
    tanh = jnp.tanh(z / soft_cap)
    z, slope = soft_cap * tanh, 1 - tanh**2
  if offset is not None:
    z += offset
  return z, slope


def _vocab_tile(layout, dtype, head, cost, k):
  """Tile k of the head, of the type of h, and of the costs."""
  size = layout.vocab_tile
  start, weight = tiles.tile(head.weight, k, size, layout.vocab_axis)
  bias, offset = (
    None if row is None else tiles.tile(row, k, size, 0)[1][None]
    for row in (head.bias, head.offset)
  )
  head = Head(weight.astype(dtype), bias, offset)
  if cost is not None:
    cost = cost._replace(
      table=tiles.tile(cost.table, k, size, layout.cost_axis)[1],
      scale=tiles.tile(cost.scale, k, size, 0)[1],
    )
  return start, head, cost


def _logits(layout, h, start, head, k, labels):
  """Of tile k: z [n, v], its slope, what is new, what is the token's label."""
  z = tiles.dot(h, head.weight, 1, 1 - layout.vocab_axis)
  bias, offset = (
    None if row is None else row.astype(z.dtype)
    for row in (head.bias, head.offset)
  )
  z, slope = _squash(z, bias, offset, layout.soft_cap)
  column = start + jnp.arange(layout.vocab_tile)[None]
  is_new = (column >= k * layout.vocab_tile) & (z != -jnp.inf)
  return z, slope, is_new, column == labels[:, None]


def _costs(layout, cost, t):
  """c_jy of (5) for a tile of costs and the tokens of tile t, [n, v]."""
  cosine = tiles.dot(cost.label_rows[t], cost.table, 1, 1 - layout.cost_axis)
  cosine *= cost.label_scale[t][:, None] * cost.scale[None]
  return jnp.maximum(1 - cosine, 0)


def _num_tiles(layout, head):
  return math.ceil(head.weight.shape[layout.vocab_axis] / layout.vocab_tile)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def statistics(
  layout: Layout,
  hidden: jax.Array,
  head: Head,
  labels: jax.Array,
  cost: Cost | None,
) -> Statistics:
  """Equations (1) to (4), of hidden [T, n, D] and labels [T, n].

  Differentiable in hidden, head.weight and head.bias. All arguments must vary
  over the same mesh axes (`tiles.varying_alike`).
  """

  def token_tile(t):
    h, y = hidden[t], labels[t]

    def vocab_tile(carry, k):
      top, total, z_sum, cost_total = carry
      start, part, part_cost = _vocab_tile(layout, h.dtype, head, cost, k)
      z, _, is_new, is_label = _logits(layout, h, start, part, k, y)
      others = jnp.where(is_new & ~is_label, z, -jnp.inf)
      new_top = jnp.maximum(top, others.max(1))
      base = jnp.where(new_top != -jnp.inf, new_top, 0)  # Nothing seen yet.
      weights = jnp.exp(others - base[:, None])
      rescale = jnp.exp(top - base)
      total = total * rescale + weights.sum(1)
      z_sum += jnp.where(is_new, z, 0).sum(1)
      if cost is not None:
        c = _costs(layout, part_cost, t)
        cost_total = cost_total * rescale + (weights * c).sum(1)
      return (new_top, total, z_sum, cost_total), None

    zeros = jnp.zeros(y.shape, jnp.promote_types(h.dtype, jnp.float32))
    init = tiles.varying_alike((zeros - jnp.inf, zeros, zeros, zeros), h)
    steps = jnp.arange(_num_tiles(layout, head))
    (top, total, z_sum, cost_total), _ = jax.lax.scan(vocab_tile, init, steps)
    some = total != 0
    total = jnp.where(some, total, 1)
    return Statistics(
      z_label=_label_logits(layout, h, head, y),
      log_others=jnp.where(some, top + jnp.log(total), -jnp.inf),
      z_sum=z_sum,
      cost_others=cost_total / total,
    )

  return jax.lax.map(token_tile, jnp.arange(hidden.shape[0]))


def _label_logits(layout, h, head, labels):
  """z_y [n], 0 for a label of another shard."""
  num_classes = head.weight.shape[layout.vocab_axis]
  owned = (labels >= 0) & (labels < num_classes)
  labels = jnp.where(owned, labels, 0)

  dtype = jnp.promote_types(h.dtype, jnp.float32)
  rows = tiles.take_rows(head.weight, labels, layout.vocab_axis).astype(h.dtype)
  bias, offset = (
    None if row is None else row[labels].astype(dtype)
    for row in (head.bias, head.offset)
  )
  z = jnp.sum(h.astype(dtype) * rows.astype(dtype), axis=1)
  z, _ = _squash(z, bias, offset, layout.soft_cap)
  return jnp.where(owned, z, 0)


def _forward(layout, hidden, head, labels, cost):
  stats = statistics(layout, hidden, head, labels, cost)
  return stats, (hidden, head, labels, cost, stats)


def _backward(layout, residuals, g):
  """Equation (6), a tile of W at a time, so that each is written once."""
  hidden, head, labels, cost, stats = residuals
  # Transposed once: the product below is twice as fast on CPUs so.
  hidden_t = hidden.swapaxes(1, 2)
  has_others = stats.log_others != -jnp.inf
  log_others = jnp.where(has_others, stats.log_others, 0)
  g_others = g.log_others - g.cost_others * stats.cost_others
  dtype = stats.z_label.dtype

  def token_tile(carry, t, k, start, part, part_cost):
    dh, dweight_t, dbias = carry
    h = hidden[t]
    z, slope, is_new, is_label = _logits(layout, h, start, part, k, labels[t])
    # Of the label itself it is not used, and may be infinite, which a second
    # derivative would multiply by 0.
    z_others = jnp.where(is_label, -jnp.inf, z)
    q = jnp.exp(z_others - log_others[t][:, None])
    factor = g_others[t][:, None]
    if cost is not None:
      c = _costs(layout, part_cost, t)
      factor = factor + g.cost_others[t][:, None] * c
    dz = jnp.where(is_label, g.z_label[t][:, None], q * factor)
    dz = jnp.where(is_new, dz + g.z_sum[t][:, None], 0)
    if slope is not None:
      dz *= slope
    dbias += dz.sum(0)
    dz = dz.astype(h.dtype)
    dh = dh.at[t].add(tiles.dot(dz, part.weight, 1, layout.vocab_axis))
    return (dh, dweight_t + tiles.dot(hidden_t[t], dz, 1, 0), dbias), None

  def vocab_tile(carry, k):
    dh, dweight, dbias = carry
    start, part, part_cost = _vocab_tile(layout, hidden.dtype, head, cost, k)
    init = (
      jnp.zeros((hidden.shape[-1], layout.vocab_tile), dtype),
      jnp.zeros(layout.vocab_tile, dtype),
    )
    (dh, dpart, dbias_part), _ = jax.lax.scan(
      functools.partial(
        token_tile, k=k, start=start, part=part, part_cost=part_cost
      ),
      (dh, *tiles.varying_alike(init, hidden)),
      jnp.arange(hidden.shape[0]),
    )
    dpart = dpart if layout.vocab_axis == 1 else dpart.T
    dweight = jax.lax.dynamic_update_slice_in_dim(
      dweight,
      tiles.movable(dpart.astype(head.weight.dtype)),
      start,
      layout.vocab_axis,
    )
    dbias = jax.lax.dynamic_update_slice_in_dim(dbias, dbias_part, start, 0)
    return (dh, dweight, dbias), None

  num_classes = head.weight.shape[layout.vocab_axis]
  init = (
    jnp.zeros(hidden.shape, dtype),
    tiles.movable(jnp.zeros_like(head.weight)),
    jnp.zeros(num_classes, dtype),
  )
  (dh, dweight, dbias), _ = jax.lax.scan(
    vocab_tile,
    tiles.varying_alike(init, hidden),
    jnp.arange(_num_tiles(layout, head)),
    # From the last: what it has in common with its neighbour, which is not new
    # in it, is written again by the neighbour.
    reverse=True,
  )
  dweight = tiles.from_movable(dweight, head.weight.dtype)
  dbias = None if head.bias is None else dbias.astype(head.bias.dtype)
  return dh.astype(hidden.dtype), Head(dweight, dbias, None), None, None


statistics.defvjp(_forward, _backward)


def over_shards(stats: Statistics, axis_name: str) -> Statistics:
  """The statistics of the union of disjoint vocabularies."""
  top = jax.lax.pmax(jax.lax.stop_gradient(stats.log_others), axis_name)
  top = jnp.where(top != -jnp.inf, top, 0)
  part = jnp.exp(stats.log_others - top)
  total = jax.lax.psum(part, axis_name)
  some = total != 0
  total = jnp.where(some, total, 1)
  cost = jax.lax.psum(part * stats.cost_others, axis_name)
  return Statistics(
    z_label=jax.lax.psum(stats.z_label, axis_name),
    log_others=jnp.where(some, top + jnp.log(total), -jnp.inf),
    z_sum=jax.lax.psum(stats.z_sum, axis_name),
    cost_others=cost / total,
  )
