# SPDX-License-Identifier: Apache-2.0
"""From a user's hidden states and head to `linear_statistics`, and back.

Checks what was given, cuts tokens and vocabulary into tiles, and adds up what
the shards of a vocabulary say.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from losses import checks
from losses import linear_statistics
from losses import tiles


class HeadOptions(NamedTuple):
  """What the losses of a linear head also take, by keyword.

  All but the arrays are Python values, static under jit.

  bias: [V], finite; or None.
  offset: [V], added to the capped logits; or None. A constant:
    `losses.logit_adjustment`, or -inf for rows that only pad the vocabulary.
  where: [...] boolean: the tokens that count. The others have loss 0 and
    gradient 0, whatever their label and hidden state. None is all.
  vocab_axis: the axis of head that is V: 1 for a kernel [D, V], 0 for an
    embedding [V, D].
  soft_cap: above 0: logits become soft_cap tanh(logits / soft_cap), as in
    arXiv 2408.00118. None is none.
  axis_name: mesh axis that V is sharded over, inside jax.shard_map; or None.
  token_tile: at most this many tokens at a time.
  vocab_tile: at most this many classes at a time.
  """

  bias: chex.Array | None = None
  offset: chex.Array | None = None
  where: chex.Array | None = None
  vocab_axis: int = 1
  soft_cap: float | None = None
  axis_name: str | None = None
  token_tile: int = 1024
  vocab_tile: int = 4096


class Terms(NamedTuple):
  """What the losses of a linear head are made of, [...] each."""

  nll: jax.Array
  lse: jax.Array
  mean_logit: jax.Array
  cost_others: jax.Array
  where: jax.Array


def make_options(options: dict) -> HeadOptions:
  """The options; TypeError for a name that is none of them."""
  for name in options:
    if name not in HeadOptions._fields:
      raise TypeError(
        f"{name} is no option of a linear head; the options are "
        f"{', '.join(HeadOptions._fields)}"
      )
  return HeadOptions(**options)


def terms(
  hidden: chex.Array,
  head: chex.Array,
  labels: chex.Array,
  options: HeadOptions,
  costs: tuple[chex.Array, int] | None = None,
) -> Terms:
  """The terms over the whole vocabulary.

  Args:
    hidden: [..., D].
    head: [D, V] or [V, D].
    labels: [...] integers.
    options: see `HeadOptions`.
    costs: the table that costs are cosines of, with the axis of it that is V.

  Returns:
    `Terms`. A label that is no class has NaN; one whose logit is -inf, inf.

  Raises:
    ValueError: if anything does not fit.
  """
  hidden = checks.floating("hidden", hidden)
  head = checks.floating("head", head)
  labels = checks.as_integer("labels", labels)
  checks.rank_at_least("hidden", hidden, 1, "[..., D]")
  checks.shape("labels", labels, hidden.shape[:-1], "that of hidden[..., 0]")
  where = checks.as_mask("where", options.where, labels.shape)
  _check_sizes(hidden, head, options)
  axis_name, vocab_axis = options.axis_name, options.vocab_axis
  num_here = head.shape[vocab_axis]
  bias = _row("bias", options.bias, num_here)
  offset = _row("offset", options.offset, num_here)
  first, num_classes = 0, num_here
  if axis_name is not None:
    first = jax.lax.axis_index(axis_name) * num_here
    num_classes = jax.lax.axis_size(axis_name) * num_here
  checks.class_labels(labels, num_classes, where=where)
  is_class = (labels >= 0) & (labels < num_classes)

  # Labels of this shard count from its first class; ignored ones are class 0.
  # Ignored hidden states are made harmless: a gradient of 0 * inf is NaN.
  shape, n = labels.shape, labels.size
  labels = jnp.where(where, labels, 0) - first
  hidden = jnp.where(where[..., None], hidden, 0)
  tile = tiles.even_tile(max(n, 1), options.token_tile, 8)
  pad = max(-n % tile, tile - n)
  labels = jnp.pad(labels.reshape(-1), (0, pad)).reshape(-1, tile)
  hidden = jnp.pad(hidden.reshape(n, hidden.shape[-1]), ((0, pad), (0, 0)))
  hidden = hidden.reshape(-1, tile, hidden.shape[-1])

  layout = linear_statistics.Layout(
    vocab_axis=vocab_axis,
    cost_axis=0 if costs is None else costs[1],
    soft_cap=options.soft_cap,
    vocab_tile=tiles.even_tile(num_here, options.vocab_tile, 128),
  )
  if offset is not None:
    offset = jax.lax.stop_gradient(offset)
  cost = None if costs is None else _cost(*costs, labels, num_here, axis_name)
  arguments = hidden, linear_statistics.Head(head, bias, offset), labels, cost
  arguments = tiles.varying_alike(arguments, first)
  stats = linear_statistics.statistics(layout, *arguments)
  stats = jax.tree.map(lambda s: s.reshape(-1)[:n].reshape(shape), stats)
  num_real = num_here if offset is None else jnp.sum(offset != -jnp.inf)
  if axis_name is not None:
    stats = linear_statistics.over_shards(stats, axis_name)
    num_real = jax.lax.psum(num_real, axis_name)

  z_label, log_others = stats.z_label, stats.log_others
  # Without another class the NLL is 0, even if the label does not exist either.
  alone, absent = log_others == -jnp.inf, z_label == -jnp.inf
  gap = jnp.where(alone, 0, log_others) - jnp.where(alone, 0, z_label)
  nll = jax.nn.softplus(jnp.where(alone, -jnp.inf, gap))
  nll = jnp.where(is_class, nll, jnp.nan)
  lse = jnp.where(absent, jnp.where(alone, 0, log_others), nll + z_label)
  return Terms(
    nll=nll,
    lse=lse,
    mean_logit=stats.z_sum / jnp.maximum(num_real, 1),
    cost_others=stats.cost_others,
    where=where,
  )


def _check_sizes(hidden, head, options):
  checks.whole_number("token_tile", options.token_tile, 1)
  checks.whole_number("vocab_tile", options.vocab_tile, 1)
  if options.vocab_axis not in (0, 1):
    raise ValueError(
      f"vocab_axis={options.vocab_axis}; it is 1 for a head [D, V] and 0 for "
      "[V, D]"
    )
  if options.soft_cap is not None:
    if isinstance(options.soft_cap, jax.core.Tracer):
      raise ValueError("soft_cap is traced; it must be a Python number")
    checks.positive("soft_cap", options.soft_cap)
  width = hidden.shape[-1]
  expected = (width, None) if options.vocab_axis == 1 else (None, width)
  names = "[D, V]" if options.vocab_axis == 1 else "[V, D]"
  meaning = f"{names} with D = {width} of hidden; see vocab_axis"
  checks.shape("head", head, expected, meaning)
  if 0 in head.shape:
    raise ValueError(f"head has shape {head.shape}; D and V must be at least 1")


def _row(name, row, num_classes):
  """A floating array [V], or None."""
  if row is None:
    return None
  row = checks.floating(name, row)
  checks.shape(name, row, (num_classes,), f"[V] with V = {num_classes}")
  if name == "bias":
    checks.between(name, row, jnp.finfo(row.dtype).min, jnp.inf)
  return row


def _cost(table, axis, labels, num_classes, axis_name):
  """The frozen table and the rows of the labels, wherever they are sharded."""
  table = jax.lax.stop_gradient(checks.floating("cost_embedding", table))
  expected = (None, num_classes) if axis == 1 else (num_classes, None)
  meaning = f"[V, d] with V = {num_classes}"
  checks.shape("cost_embedding", table, expected, meaning)
  dtype = jnp.promote_types(table.dtype, jnp.float32)
  square = jnp.sum(jnp.square(table.astype(dtype)), axis=1 - axis)
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
