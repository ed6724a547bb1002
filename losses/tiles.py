# SPDX-License-Identifier: Apache-2.0
"""Pieces of large arrays inside loops, moved at the cost of a piece."""

import math

import jax
import jax.numpy as jnp


def even_tile(size: int, at_most: int, multiple: int) -> int:
  """A tile that covers size in equal parts, rounded up to a multiple."""
  parts = math.ceil(size / at_most)
  return min(size, math.ceil(size / parts / multiple) * multiple)


def movable(array: jax.Array) -> jax.Array:
  """The array, or the bits of it if its type has 16: `from_movable` is back.

  XLA on CPU moves no bfloat16: to slice, gather or update an array it converts
  all of it to float32, each time. Integers it moves as they are.
  """
  return _bits(array) if array.dtype.itemsize == 2 else array


def from_movable(array: jax.Array, dtype) -> jax.Array:
  """The inverse of `movable`."""
  if array.dtype == dtype:
    return array
  return jax.lax.bitcast_convert_type(array, dtype)


@jax.custom_jvp
def _bits(array):
  return jax.lax.bitcast_convert_type(array, jnp.uint16)


@_bits.defjvp
def _no_tangent_of_bits(primals, tangents):
  # It would be 0, without a word.
  raise NotImplementedError(
    "the second derivative of a tiled loss needs float32 hidden states and "
    "head, not 16 bits"
  )


def take_rows(array: jax.Array, index: jax.Array, axis: int) -> jax.Array:
  """Vectors [..., D] of array [D, V] (axis 1) or [V, D] at index [...]."""
  rows = from_movable(jnp.take(movable(array), index, axis=axis), array.dtype)
  return rows if axis == 0 else jnp.moveaxis(rows, 0, -1)


def varying_alike(tree, *references):
  """The tree, varying over every mesh axis that any reference varies over.

  Inside jax.shard_map a scan's carry and a custom derivative must vary over the
  same axes as what they meet; elsewhere this does nothing.
  """
  axes = [_varying_axes(leaf) for leaf in jax.tree.leaves((tree, references))]
  axes = frozenset().union(*axes)

  def vary(leaf):
    missing = tuple(sorted(axes - _varying_axes(leaf)))
    return jax.lax.pcast(leaf, missing, to="varying") if missing else leaf

  return jax.tree.map(vary, tree)


def _varying_axes(array):
  return jax.typeof(array).mat.varying


def dot(a: jax.Array, b: jax.Array, a_axis: int, b_axis: int) -> jax.Array:
  """The product of two matrices over an axis of each, in float32 or better."""
  return jax.lax.dot_general(
    a,
    b,
    (((a_axis,), (b_axis,)), ((), ())),
    # Or accelerators would round float32 factors; 16 bits cost nothing more.
    precision=jax.lax.Precision.HIGHEST,
    preferred_element_type=jnp.promote_types(a.dtype, jnp.float32),
  )


def tile(
  array: jax.Array, k: jax.Array, size: int, axis: int
) -> tuple[jax.Array, jax.Array]:
  """(start, tile k); the last tile begins early instead of ending short."""
  total = array.shape[axis]
  start = jnp.minimum(k * size, total - size)
  # Tied to the loop's counter, or the bits would be taken of all of it at once.
  array, start = jax.lax.optimization_barrier((array, start))
  piece = jax.lax.dynamic_slice_in_dim(movable(array), start, size, axis)
  return start, from_movable(piece, array.dtype)
