# SPDX-License-Identifier: Apache-2.0
"""Invertible transforms that shrink an image before the network sees it.

Simple diffusion (arXiv 2301.11093, table 5) keeps feature maps
small by exchanging space for channels at the network's two ends:

  "none"                    [B, H, W, C]
  "space_to_depth_<k>"      [B, H/k, W/k, k k C]
  "dwt_1", "dwt_2", ...     [B, H/2, W/2, 4 C], [B, H/4, W/4, 16 C]

The wavelet is LeGall's 5/3, lifted, in floating point and without rounding
(memory, high confidence; golden values in the tests):

  d[n] = x[2n+1] - (x[2n] + x[2n+2]) / 2                                  (1)
  s[n] = x[2n] + (d[n-1] + d[n]) / 4                                      (2)

with symmetric extension. The inverse undoes (2), then (1). Two levels follow
the paper: 512x512x3 becomes four 128x128 maps (of the low-pass band's own
transform) and three 256x256 maps, moved to 128x128x4 by space-to-depth:
3 (4 + 3*4) = 48 channels.

The fourth patching, a strided convolution, has weights and lives in `layers`.
Heights and widths may differ; an odd one, or one that the patch does not
divide, raises ValueError.
"""

import jax
import jax.numpy as jnp


def require_divisible(shape, factor, name):
  height, width = shape[1:3]
  if height % factor or width % factor:
    raise ValueError(
      f"patching {name!r} needs image sides divisible by {factor}, got "
      f"{height}x{width}; use {max(1, height // factor) * factor}x"
      f"{max(1, width // factor) * factor}"
    )


def space_to_depth(x: jax.Array, factor: int) -> jax.Array:
  """[B, H, W, C] -> [B, H/k, W/k, k k C], the pixels of a patch in order."""
  require_divisible(x.shape, factor, f"space_to_depth_{factor}")
  b, h, w, c = x.shape
  x = x.reshape(b, h // factor, factor, w // factor, factor, c)
  x = x.transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(b, h // factor, w // factor, factor * factor * c)


def depth_to_space(y: jax.Array, factor: int) -> jax.Array:
  """The inverse of `space_to_depth`."""
  b, h, w, c = y.shape
  y = y.reshape(b, h, w, factor, factor, c // factor**2)
  y = y.transpose(0, 1, 3, 2, 4, 5)
  return y.reshape(b, h * factor, w * factor, c // factor**2)


def _lift(x):
  """Equations (1) and (2) along axis 0: x [2N, ...] -> (s, d), each [N, ...].

  Symmetric extension mirrors about the end samples: x[2N] = x[2N-2] and
  d[-1] = d[0].
  """
  even, odd = x[0::2], x[1::2]
  d = odd - (even + jnp.concatenate([even[1:], even[-1:]])) / 2
  s = even + (jnp.concatenate([d[:1], d[:-1]]) + d) / 4
  return s, d


def _unlift(s, d):
  even = s - (jnp.concatenate([d[:1], d[:-1]]) + d) / 4
  odd = d + (even + jnp.concatenate([even[1:], even[-1:]])) / 2
  return jnp.stack([even, odd], axis=1).reshape((-1,) + s.shape[1:])


def _along(axis, lift, *arrays):
  out = lift(*(jnp.moveaxis(array, axis, 0) for array in arrays))
  return jax.tree.map(lambda array: jnp.moveaxis(array, 0, axis), out)


def dwt_bands(x: jax.Array) -> tuple[jax.Array, jax.Array]:
  """One level of the 5/3 wavelet.

  Args:
    x: [B, H, W, C] with even H and W.

  Returns:
    The low-pass band LL [B, H/2, W/2, C] and the details LH, HL, HH (high-pass
    across the width, the height, both) side by side: [B, H/2, W/2, 3 C].
  """
  require_divisible(x.shape, 2, "dwt")
  low, high = _along(1, _lift, x)
  ll, lh = _along(2, _lift, low)
  hl, hh = _along(2, _lift, high)
  return ll, jnp.concatenate([lh, hl, hh], axis=-1)


def inverse_dwt_bands(ll: jax.Array, details: jax.Array) -> jax.Array:
  """The inverse of `dwt_bands`."""
  lh, hl, hh = jnp.split(details, 3, axis=-1)
  low = _along(2, _unlift, ll, lh)
  high = _along(2, _unlift, hl, hh)
  return _along(1, _unlift, low, high)


def _dwt(x, levels):
  require_divisible(x.shape, 2**levels, f"dwt_{levels}")
  ll, details = dwt_bands(x)
  if levels > 1:
    ll = _dwt(ll, levels - 1)
    details = space_to_depth(details, 2 ** (levels - 1))
  return jnp.concatenate([ll, details], axis=-1)


def _inverse_dwt(y, levels):
  ll, details = jnp.split(y, [y.shape[-1] // 4], axis=-1)
  if levels > 1:
    ll = _inverse_dwt(ll, levels - 1)
    details = depth_to_space(details, 2 ** (levels - 1))
  return inverse_dwt_bands(ll, details)


def _parse(name):
  match name.rsplit("_", 1):
    case ["none"]:
      return "none", 1
    case ["space_to_depth" | "dwt" as kind, digits] if digits.isdecimal():
      if int(digits) >= 1:
        return kind, int(digits)
  raise ValueError(
    f"patching={name!r}; the options are none, space_to_depth_<k>, "
    "dwt_<levels>, conv_<k>"
  )


def patch(x: jax.Array, name: str) -> jax.Array:
  """The transform called `name` of images [B, H, W, C]; see the module."""
  match _parse(name):
    case "none", _:
      return x
    case "space_to_depth", factor:
      return space_to_depth(x, factor)
    case _, levels:
      return _dwt(x, levels)


def unpatch(y: jax.Array, name: str) -> jax.Array:
  """The inverse of `patch`: [B, H/k, W/k, k k C] -> [B, H, W, C]."""
  match _parse(name):
    case "none", _:
      return y
    case "space_to_depth", factor:
      return depth_to_space(y, factor)
    case _, levels:
      return _inverse_dwt(y, levels)
