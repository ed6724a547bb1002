# SPDX-License-Identifier: Apache-2.0
"""The blocks of FID's Inception-v3, over any convolution.

Functions here take conv(name, x, channels, kernel, *, stride, padding), which
is a convolution with batch norm and ReLU, or what only looks at the shapes of
their weights. Names are those of the weights' file.
"""

from collections.abc import Callable
import functools

import jax
import jax.numpy as jnp

ONE, THREE, FIVE = (1, 1), (3, 3), (5, 5)
WIDE3, TALL3, WIDE7, TALL7 = (1, 3), (3, 1), (1, 7), (7, 1)  # (height, width)


def pooled(conv: Callable, x: jax.Array) -> jax.Array:
  """Features [B, 2048] of scaled images [B, 299, 299, 3]."""
  step = functools.partial(_same, conv)
  x = _shrink(conv, "Conv2d_1a_3x3", x, 32)  # [B, 149, 149, 32]
  x = conv("Conv2d_2a_3x3", x, 32, THREE, stride=1, padding="VALID")
  x = step("Conv2d_2b_3x3", x, 64, THREE)
  x = _max_pool(x, 2, "VALID")  # [B, 73, 73, 64]
  x = step("Conv2d_3b_1x1", x, 80, ONE)
  x = conv("Conv2d_4a_3x3", x, 192, THREE, stride=1, padding="VALID")
  x = _max_pool(x, 2, "VALID")  # [B, 35, 35, 192]
  x = _a(_within(step, "Mixed_5b"), x, pool_channels=32)
  x = _a(_within(step, "Mixed_5c"), x, pool_channels=64)
  x = _a(_within(step, "Mixed_5d"), x, pool_channels=64)  # [B, 35, 35, 288]
  x = _b(conv, "Mixed_6a", x)  # [B, 17, 17, 768]
  x = _c(_within(step, "Mixed_6b"), x, channels=128)
  x = _c(_within(step, "Mixed_6c"), x, channels=160)
  x = _c(_within(step, "Mixed_6d"), x, channels=160)
  x = _c(_within(step, "Mixed_6e"), x, channels=192)
  x = _d(conv, "Mixed_7a", x)  # [B, 8, 8, 1280]
  x = _e(_within(step, "Mixed_7b"), x, _average_pool)
  # Average in every other Inception; this graph's maximum is part of FID.
  x = _e(_within(step, "Mixed_7c"), x, lambda x: _max_pool(x, 1, "SAME"))
  return x.mean((1, 2))


def _a(step, x, *, pool_channels):
  five = step("branch5x5_1", x, 48, ONE)
  double = step("branch3x3dbl_1", x, 64, ONE)
  double = step("branch3x3dbl_2", double, 96, THREE)
  return _join(
    step("branch1x1", x, 64, ONE),
    step("branch5x5_2", five, 64, FIVE),
    step("branch3x3dbl_3", double, 96, THREE),
    step("branch_pool", _average_pool(x), pool_channels, ONE),
  )


def _b(conv, block, x):
  step = _within(functools.partial(_same, conv), block)
  double = step("branch3x3dbl_1", x, 64, ONE)
  double = step("branch3x3dbl_2", double, 96, THREE)
  return _join(
    _shrink(conv, f"{block}.branch3x3", x, 384),
    _shrink(conv, f"{block}.branch3x3dbl_3", double, 96),
    _max_pool(x, 2, "VALID"),
  )


def _c(step, x, *, channels):
  seven = step("branch7x7_1", x, channels, ONE)
  seven = step("branch7x7_2", seven, channels, WIDE7)
  double = step("branch7x7dbl_1", x, channels, ONE)
  double = step("branch7x7dbl_2", double, channels, TALL7)
  double = step("branch7x7dbl_3", double, channels, WIDE7)
  double = step("branch7x7dbl_4", double, channels, TALL7)
  return _join(
    step("branch1x1", x, 192, ONE),
    step("branch7x7_3", seven, 192, TALL7),
    step("branch7x7dbl_5", double, 192, WIDE7),
    step("branch_pool", _average_pool(x), 192, ONE),
  )


def _d(conv, block, x):
  step = _within(functools.partial(_same, conv), block)
  three = step("branch3x3_1", x, 192, ONE)
  seven = step("branch7x7x3_1", x, 192, ONE)
  seven = step("branch7x7x3_2", seven, 192, WIDE7)
  seven = step("branch7x7x3_3", seven, 192, TALL7)
  return _join(
    _shrink(conv, f"{block}.branch3x3_2", three, 320),
    _shrink(conv, f"{block}.branch7x7x3_4", seven, 192),
    _max_pool(x, 2, "VALID"),
  )


def _e(step, x, pool):
  three = step("branch3x3_1", x, 384, ONE)
  double = step("branch3x3dbl_1", x, 448, ONE)
  double = step("branch3x3dbl_2", double, 384, THREE)
  return _join(
    step("branch1x1", x, 320, ONE),
    step("branch3x3_2a", three, 384, WIDE3),
    step("branch3x3_2b", three, 384, TALL3),
    step("branch3x3dbl_3a", double, 384, WIDE3),
    step("branch3x3dbl_3b", double, 384, TALL3),
    step("branch_pool", pool(x), 192, ONE),
  )


def _same(conv, name, x, channels, kernel):
  return conv(name, x, channels, kernel, stride=1, padding="SAME")


def _shrink(conv, name, x, channels):
  return conv(name, x, channels, THREE, stride=2, padding="VALID")


def _within(step, block):
  """The step with names inside a block."""
  return lambda name, *args: step(f"{block}.{name}", *args)


def _join(*branches):
  return jnp.concatenate(branches, axis=-1)


def _max_pool(x, stride, padding):
  return jax.lax.reduce_window(
    x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, stride, stride, 1), padding
  )


def _average_pool(x):
  """Means over 3 x 3 pixels, at edges of those that exist."""
  total = functools.partial(
    jax.lax.reduce_window,
    init_value=0.0,
    computation=jax.lax.add,
    window_dimensions=(1, 3, 3, 1),
    window_strides=(1, 1, 1, 1),
    padding="SAME",
  )
  return total(x) / total(jnp.ones_like(x[:1, :, :, :1]))
