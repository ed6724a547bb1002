# SPDX-License-Identifier: Apache-2.0
"""What a loss asks of its arguments, said in one sentence when it is refused.

Shapes and types are known even while a function is traced and are always
checked, by chex (so `chex.disable_asserts()` switches them off). Values are
checked where they are concrete: outside jit, vmap and, for what is
differentiated, grad.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np


def as_float(name: str, array: chex.Array) -> jax.Array:
  """The array in float32, or float64 if it was; ValueError unless floating."""
  array = jnp.asarray(array)
  chex.assert_type(
    array,
    float,
    custom_message=f"{name} must be floating point, not {array.dtype}; "
    f"use {name}.astype(jnp.float32)",
    exception_type=ValueError,
  )
  return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def as_integer(name: str, array: chex.Array) -> jax.Array:
  """The array as it is; ValueError unless its type is an integer."""
  array = jnp.asarray(array)
  chex.assert_type(
    array,
    int,
    custom_message=f"{name} must be integers, not {array.dtype}; for one-hot "
    f"labels use {name}.argmax(-1)",
    exception_type=ValueError,
  )
  return array


def as_mask(name: str, array: chex.Array | None, shape: tuple) -> jax.Array:
  """A boolean array broadcast to `shape`; all True for None."""
  if array is None:
    return jnp.ones(shape, bool)
  array = jnp.asarray(array)
  chex.assert_type(
    array,
    bool,
    custom_message=f"{name} must be boolean, not {array.dtype}; True is kept",
    exception_type=ValueError,
  )
  return broadcast(name, array, shape)


def shape(name: str, array: jax.Array, expected: tuple, meaning: str) -> None:
  """ValueError unless array.shape matches; None in `expected` is any size."""
  chex.assert_shape(
    array,
    expected,
    custom_message=f"{name} has shape {array.shape}, not {meaning}",
    exception_type=ValueError,
  )


def rank_at_least(name: str, array: jax.Array, rank: int, meaning: str) -> None:
  """ValueError if the array has fewer than `rank` axes."""
  if array.ndim < rank:
    raise ValueError(f"{name} has shape {array.shape}, not {meaning}")


def broadcast(name: str, array: chex.Array, to_shape: tuple) -> jax.Array:
  """The array broadcast to a shape, new axes at the left."""
  try:
    return jnp.broadcast_to(array, to_shape)
  except ValueError:
    raise ValueError(
      f"{name} has shape {jnp.shape(array)}, which does not broadcast to "
      f"{to_shape}"
    ) from None


def concrete(value: chex.Numeric) -> np.ndarray | None:
  """The value for NumPy, or None while it is being traced."""
  return None if isinstance(value, jax.core.Tracer) else np.asarray(value)


def between(
  name: str,
  value: chex.Numeric,
  low: float,
  high: float,
  *,
  where: jax.Array | None = None,
) -> None:
  """ValueError naming the first value outside [low, high], where concrete."""
  values, kept = concrete(value), concrete(True if where is None else where)
  if values is None or kept is None:
    return
  wrong = ~((values >= low) & (values <= high)) & kept
  if wrong.any():
    first = values[wrong].flat[0] if values.ndim else values
    raise ValueError(f"{name} has {first}, which is outside [{low}, {high}]")


def class_labels(
  labels: jax.Array,
  num_classes: int,
  *,
  where: jax.Array | None = None,
) -> None:
  """ValueError for a label outside [0, num_classes), where concrete."""
  values, kept = concrete(labels), concrete(True if where is None else where)
  if values is None or kept is None:
    return
  wrong = ((values < 0) | (values >= num_classes)) & kept
  if wrong.any():
    first = values[wrong].flat[0] if values.ndim else values
    raise ValueError(
      f"labels has {first}, which is not one of the {num_classes} classes 0 to "
      f"{num_classes - 1}; leave ignored ones out with `where`"
    )


def on_present(positive: jax.Array, where: jax.Array) -> None:
  """ValueError for a label on a class that is left out, where concrete."""
  values, kept = concrete(positive), concrete(where)
  if values is None or kept is None:
    return
  wrong = np.argwhere(values & ~kept)
  if wrong.size:
    index = tuple(int(i) for i in wrong[0])
    raise ValueError(
      f"labels has the class at {index}, which `where` or a logit of -inf "
      "leaves out; leave it out of the labels too"
    )
