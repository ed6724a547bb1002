# SPDX-License-Identifier: Apache-2.0
"""What the losses ask of their arguments: one clear sentence when refused.

Shapes and types are known even while a function is traced and are always
checked, by chex (so `chex.disable_asserts()` switches them off). Values are
checked where they are concrete: outside jit, vmap and, for what is
differentiated, grad. NaN passes every check of a value, so that it is seen in
the result.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np


def _require(assertion, *args, message):
  """A chex assertion whose failure is a ValueError of one sentence."""
  try:
    assertion(*args)
  except AssertionError:
    raise ValueError(message) from None


def _as_array(name, array):
  try:
    return jnp.asarray(array)
  except (TypeError, ValueError):
    raise ValueError(f"{name} is {array!r}, not an array of numbers") from None


def floating(name: str, array: chex.Array) -> jax.Array:
  """The array as it is; ValueError unless its type is floating."""
  array = _as_array(name, array)
  message = (
    f"{name} must be floating point, not {array.dtype}; use "
    f"{name}.astype(jnp.float32)"
  )
  _require(chex.assert_type, array, float, message=message)
  return array


def as_float(name: str, array: chex.Array) -> jax.Array:
  """The array in float32, or float64 if it was; ValueError unless floating."""
  array = floating(name, array)
  return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def as_integer(name: str, array: chex.Array) -> jax.Array:
  """The array in int32 at least; ValueError unless its type is an integer."""
  array = _as_array(name, array)
  message = (
    f"{name} must be integers, the numbers of classes, not {array.dtype}"
  )
  _require(chex.assert_type, array, int, message=message)
  # int8 would wrap as soon as it meets the number of classes.
  return array.astype(jnp.promote_types(array.dtype, jnp.int32))


def as_mask(name: str, array: chex.Array | None, shape: tuple) -> jax.Array:
  """A boolean array broadcast to `shape`; all True for None."""
  if array is None:
    return jnp.ones(shape, bool)
  array = _as_array(name, array)
  message = f"{name} must be boolean, not {array.dtype}; True is kept"
  _require(chex.assert_type, array, bool, message=message)
  return broadcast(name, array, shape)


def shape(name: str, array: jax.Array, expected: tuple, meaning: str) -> None:
  """ValueError unless array.shape matches; None in `expected` is any size."""
  message = f"{name} has shape {jnp.shape(array)}, not {meaning}"
  _require(chex.assert_shape, array, expected, message=message)


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


def parameter(
  name: str,
  value: chex.Numeric,
  low: float,
  high: float,
  *,
  like: jax.Array,
) -> jax.Array:
  """A number in [low, high], of the type of `like` and broadcast to it."""
  value = _as_array(name, value).astype(like.dtype)
  between(name, value, low, high)
  return broadcast(name, value, like.shape)


def whole_number(name: str, value: int, low: int) -> None:
  """ValueError unless a Python integer of at least `low`."""
  if not isinstance(value, int | np.integer) or value < low:
    raise ValueError(f"{name}={value!r} must be an integer of at least {low}")


def concrete(value: chex.Numeric) -> np.ndarray | None:
  """The value for NumPy, or None while it is traced or on other hosts."""
  if isinstance(value, jax.core.Tracer):
    return None
  if isinstance(value, jax.Array) and not value.is_fully_addressable:
    return None
  return np.asarray(value)


def _first(value, is_wrong, where):
  """The first concrete value that is wrong and kept, or None."""
  values, kept = concrete(value), concrete(True if where is None else where)
  if values is None or kept is None:
    return None
  wrong = is_wrong(values) & kept
  if not wrong.any():
    return None
  return np.broadcast_to(values, wrong.shape)[wrong].flat[0]


def between(
  name: str,
  value: chex.Numeric,
  low: float,
  high: float,
  *,
  where: jax.Array | None = None,
) -> None:
  """ValueError naming the first value outside [low, high], where concrete."""
  first = _first(value, lambda v: (v < low) | (v > high), where)
  if first is not None:
    bounds = f"[{low}, {high}]" if high < np.inf else f"[{low}, inf)"
    raise ValueError(f"{name} has {first}, which is outside {bounds}")


def positive(name: str, value: chex.Numeric) -> None:
  """ValueError naming the first value that is not above 0, where concrete."""
  first = _first(value, lambda v: v <= 0, None)
  if first is not None:
    raise ValueError(f"{name} has {first}, which is not above 0")


def nll(name: str, array: chex.Array) -> jax.Array:
  """`as_float` of an NLL: at least 0, but for rounding, where concrete."""
  array = as_float(name, array)
  first = _first(array, lambda v: v < -1e-3, None)
  if first is not None:
    raise ValueError(
      f"{name} has {first}, which is negative; it is -log p, not log p"
    )
  return array


def distributions(
  name: str, array: jax.Array, *, where: jax.Array | None = None
) -> None:
  """ValueError if a last axis is not in [0, 1] with sum 1, where concrete.

  Args:
    name: of the argument.
    array: [..., C].
    where: boolean [...], the distributions that count.
  """
  kept = None if where is None else where[..., None]
  between(name, array, 0, 1, where=kept)
  values = concrete(array)
  if values is None:
    return
  # Room for bfloat16.
  first = _first(
    values.sum(-1, dtype=np.float64), lambda v: np.abs(v - 1) > 2e-2, where
  )
  if first is not None:
    raise ValueError(f"{name} has a row with sum {first:.4g}, not 1")


def class_labels(
  labels: jax.Array,
  num_classes: int,
  *,
  where: jax.Array | None = None,
) -> None:
  """ValueError for a label outside [0, num_classes), where concrete."""
  first = _first(labels, lambda v: (v < 0) | (v >= num_classes), where)
  if first is not None:
    raise ValueError(
      f"labels has {first}, which is not one of the {num_classes} classes 0 to "
      f"{num_classes - 1}; leave ignored ones out with `where`"
    )


def on_present(name: str, positive: jax.Array, where: jax.Array) -> None:
  """ValueError for a label on a class that is left out, where concrete."""
  values, kept = concrete(positive), concrete(where)
  if values is None or kept is None:
    return
  wrong = np.argwhere(values & ~kept)
  if wrong.size:
    index = tuple(int(i) for i in wrong[0])
    raise ValueError(
      f"{name} has the class at {index}, which `where` or a logit of -inf "
      f"leaves out; leave it out of {name} too"
    )
