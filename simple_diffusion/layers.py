# SPDX-License-Identifier: Apache-2.0
"""The pieces that the U-Net and the U-ViT are made of.

Convolutions and matrix products run in `dtype`; parameters, statistics of the
norms and the output are float32. Down-sampling is average pooling and
up-sampling repetition, so neither has weights and neither is a transposed
convolution. Branches end in a zero-initialised layer: every block starts as
the identity.
"""

import math

from flax import linen as nn
import jax
import jax.numpy as jnp

from simple_diffusion import attention
from simple_diffusion import dropout
from simple_diffusion import group_norm
from simple_diffusion import patching as patching_lib
from simple_diffusion import sharding

LOGSNR_INPUT_TYPES = ("linear", "inv_cos")

zeros = nn.initializers.zeros


def average_pool(h: jax.Array) -> jax.Array:
  """[B, H, W, C] -> [B, H/2, W/2, C], means of 2x2."""
  return nn.avg_pool(h, (2, 2), strides=(2, 2))


def upsample(h: jax.Array) -> jax.Array:
  """[B, H, W, C] -> [B, 2H, 2W, C] by repetition."""
  return h.repeat(2, axis=1).repeat(2, axis=2)


def require_poolable(h: jax.Array, num_poolings: int, patching: str) -> None:
  """Raises ValueError if the [B, H, W, C] maps cannot be halved that often."""
  height, width = h.shape[1:3]
  factor = 2**num_poolings
  if height % factor or width % factor:
    raise ValueError(
      f"patching {patching!r} leaves {height}x{width} maps, which the network "
      f"halves {num_poolings} times; their sides must be divisible by "
      f"{factor}: change data.image_size, model.patching or the number of "
      "levels in model.channel_multiplier"
    )


def logsnr_features(
  logsnr: jax.Array, channels: int, input_type: str
) -> jax.Array:
  """Sinusoidal features [B, channels] of the log-SNR [B].

  "linear" maps [-20, 20] to [0, 1], "inv_cos" undoes the cosine schedule,
  t = atan(exp(-logsnr/2)) / (pi/2) (names of arXiv 2301.11093 appendix B; their
  formulas and the bounds of 20 as in the authors' earlier code (memory)).
  Log-SNRs beyond 20, which shifted schedules reach in the last thousandth of
  the time, look like 20.

  Raises:
    ValueError: if channels is odd or below 4, or the type is not an option.
  """
  if channels % 2 or channels < 4:
    raise ValueError(
      f"model.base_channels={channels} must be even and at least 4"
    )
  logsnr = jnp.clip(logsnr.astype(jnp.float32), -20, 20)
  match input_type:
    case "linear":
      unit = (logsnr + 20) / 40
    case "inv_cos":
      unit = jnp.arctan(jnp.exp(-logsnr / 2)) / (math.pi / 2)
    case _:
      raise ValueError(
        f"logsnr_input_type={input_type!r}; the options are "
        f"{', '.join(LOGSNR_INPUT_TYPES)}"
      )
  half = channels // 2
  frequencies = jnp.exp(-math.log(1e4) * jnp.arange(half) / (half - 1))
  angles = 1000 * unit[:, None] * frequencies[None, :]
  return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


class Conditioning(nn.Module):
  """What all blocks are told: log-SNR [B] and labels [B] -> [B, E].

  Label num_classes is the learned null class of guidance. Without classes the
  labels are ignored.
  """

  base_channels: int
  emb_channels: int
  num_classes: int
  logsnr_input_type: str
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, logsnr, labels):
    emb = logsnr_features(logsnr, self.base_channels, self.logsnr_input_type)
    emb = nn.swish(nn.Dense(self.emb_channels, dtype=self.dtype)(emb))
    emb = nn.Dense(self.emb_channels, dtype=self.dtype)(emb)
    if self.num_classes:
      table = nn.Embed(
        self.num_classes + 1, self.emb_channels, dtype=self.dtype
      )
      emb += table(labels)
    return sharding.constrain_examples(nn.swish(emb))


class FiLM(nn.Module):
  """scale, shift [B, width] of h (1 + scale) + shift, from conditioning [B, E].

  Who normalises applies them, which costs no pass of its own.
  """

  width: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, emb):
    affine = nn.Dense(2 * self.width, dtype=self.dtype)(emb)
    affine = sharding.constrain_examples(affine)
    return jnp.split(affine.astype(jnp.float32), 2, axis=-1)


class ResBlock(nn.Module):
  """Two 3x3 convolutions with FiLM in between; [B, H, W, *] -> [B, H, W, C]."""

  channels: int
  dropout: float
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, h, emb, train):
    x = h
    h = nn.swish(group_norm.GroupNorm(self.dtype)(h))
    h = nn.Conv(self.channels, (3, 3), dtype=self.dtype)(h)
    h = sharding.constrain_examples(h)
    film = FiLM(self.channels, self.dtype)(emb)
    h = nn.swish(group_norm.GroupNorm(self.dtype)(h, *film))
    h = dropout.Dropout(self.dropout)(h, train)
    h = nn.Conv(self.channels, (3, 3), kernel_init=zeros, dtype=self.dtype)(h)
    if x.shape[-1] != self.channels:
      x = nn.Dense(self.channels, dtype=self.dtype, name="skip")(x)
    return sharding.constrain_examples(x + h)


class SelfAttention(nn.Module):
  """Multi-head attention of normalised tokens [B, N, D] -> [B, N, D]."""

  num_heads: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, h):
    width = h.shape[-1]
    if width % self.num_heads:
      raise ValueError(
        f"num_heads={self.num_heads} does not divide the attention's width "
        f"{width}"
      )
    qkv = nn.Dense(3 * width, dtype=self.dtype, name="qkv")(h)
    qkv = sharding.constrain_examples(qkv)
    q, k, v = (
      part.reshape(*h.shape[:2], self.num_heads, width // self.num_heads)
      for part in jnp.split(qkv, 3, axis=-1)
    )
    h = attention.attend(q, k, v).reshape(h.shape)
    return nn.Dense(width, kernel_init=zeros, dtype=self.dtype, name="out")(h)


class AttentionBlock(nn.Module):
  """Residual self-attention over the pixels of [B, H, W, C]."""

  num_heads: int
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, h):
    b, height, width, c = h.shape
    tokens = group_norm.GroupNorm(self.dtype)(h).reshape(b, height * width, c)
    tokens = SelfAttention(self.num_heads, self.dtype)(tokens)
    return h + tokens.reshape(h.shape)


class Stem(nn.Module):
  """Patching and the first convolution: [B, H, W, C] -> [B, H/k, W/k, D].

  With "conv_<k>" the two are one strided convolution.
  """

  channels: int
  patching: str
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, z):
    factor = conv_patch_factor(self.patching)
    if factor:
      patching_lib.require_divisible(z.shape, factor, self.patching)
      kernel, strides = (factor, factor), (factor, factor)
    else:
      z, kernel, strides = patching_lib.patch(z, self.patching), (3, 3), (1, 1)
    return nn.Conv(self.channels, kernel, strides=strides, dtype=self.dtype)(z)


class Head(nn.Module):
  """The last convolution and the way back to pixels, in float32."""

  out_channels: int
  patching: str
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, h, image_shape):
    factor = conv_patch_factor(self.patching)
    num_pixels = image_shape[0] * image_shape[1] // (h.shape[1] * h.shape[2])
    h = nn.swish(group_norm.GroupNorm(self.dtype)(h))
    h = nn.Conv(
      self.out_channels * num_pixels,
      (3, 3),
      kernel_init=zeros,
      dtype=jnp.float32,
    )(h)
    if factor:
      return patching_lib.depth_to_space(h, factor)
    return patching_lib.unpatch(h, self.patching)


def conv_patch_factor(patching: str) -> int | None:
  """k of "conv_<k>", None for the patchings without weights."""
  kind, _, factor = patching.partition("_")
  if kind == "conv" and factor.isdecimal() and int(factor) >= 1:
    return int(factor)
  return None


def require_one_per_level(name: str, values, num_levels: int) -> None:
  """Raises ValueError if a per-level setting has the wrong length."""
  if len(values) != num_levels:
    raise ValueError(
      f"{name}={tuple(values)} has {len(values)} entries; "
      f"model.channel_multiplier asks for {num_levels}"
    )
