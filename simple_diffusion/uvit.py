# SPDX-License-Identifier: Apache-2.0
"""The U-ViT of simple diffusion (arXiv 2301.11093, appendix B.2).

A U-Net whose lowest level is a transformer, scaled up there and only there:

  z [B, d, d, C] -> patching -> conv levels 128, 64, 32 -> 16x16 tokens
                                     |      |      |            |
  v [B, d, d, C] <- unpatching <- conv levels (skips) <- transformer blocks

Skips join residual blocks of the convolution levels only; the transformer has
none. Dropout is in the transformer only. (Not the U-ViT of arXiv 2209.12152,
which is all tokens.)
"""

from collections.abc import Sequence

from flax import linen as nn
import jax
import jax.numpy as jnp

from simple_diffusion import dropout
from simple_diffusion import layers
from simple_diffusion import remat
from simple_diffusion import sharding


class TransformerBlock(nn.Module):
  """Pre-norm attention and MLP on tokens [B, N, D], FiLM before the MLP.

  One FiLM per block and its place are ours (memory): with it the paper's
  configuration has the 2.0 B parameters that its name promises.
  """

  num_heads: int
  dropout: float
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, h, emb, train):
    width = h.shape[-1]
    normed = nn.LayerNorm(dtype=self.dtype)(h)
    h += layers.SelfAttention(self.num_heads, self.dtype)(normed)
    h = sharding.constrain_examples(h)
    normed = nn.LayerNorm(dtype=self.dtype, use_scale=False, use_bias=False)(h)
    scale, shift = layers.FiLM(width, self.dtype)(emb)
    y = normed * (1 + scale[:, None]) + shift[:, None]
    y = nn.Dense(4 * width, dtype=self.dtype)(y)
    y = nn.gelu(sharding.constrain_examples(y))
    y = dropout.Dropout(self.dropout)(y, train)
    y = nn.Dense(width, kernel_init=layers.zeros, dtype=self.dtype)(y)
    h = sharding.constrain_examples(h + y)
    return h, None  # a scan's carry, and nothing to stack


class Transformer(nn.Module):
  """num_blocks blocks on the pixels of [B, H, W, C], [B, H, W, D] out.

  The blocks are one scanned block with stacked parameters: compile time does
  not grow with depth.
  """

  width: int
  num_blocks: int
  num_heads: int
  dropout: float
  scan_unroll: int
  remat: str
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, h, emb, train):
    b, height, width, _ = h.shape
    h = nn.Dense(self.width, dtype=self.dtype, name="in")(h)
    h = h.reshape(b, height * width, self.width)
    # Learned and additive (memory).
    position = self.param(
      "position",
      nn.initializers.normal(0.02),
      (1, height * width, self.width),
    )
    h += position.astype(h.dtype)
    block = remat.rematerialised(
      TransformerBlock, self.remat, prevent_cse=False, static_argnums=(3,)
    )
    blocks = nn.scan(
      block,
      variable_axes={"params": 0},
      split_rngs={"params": True, "dropout": True},
      in_axes=(nn.broadcast, nn.broadcast),
      length=self.num_blocks,
      unroll=self.scan_unroll,
    )
    h, _ = blocks(self.num_heads, self.dropout, self.dtype, name="blocks")(
      h, emb, train
    )
    return h.reshape(b, height, width, self.width)


class SimpleUViT(nn.Module):
  """predict(z, logsnr, labels): [B, H, W, C], [B], [B] -> [B, H, W, C].

  Attributes:
    base_channels: width that the multipliers multiply.
    emb_channels: width of the conditioning.
    channel_multiplier: one per convolution level, from the highest resolution
      down, and a last one for the transformer.
    num_res_blocks: residual blocks of each convolution level, on the way down
      and again on the way up.
    num_transformer_blocks: depth of the transformer.
    num_heads: attention heads of the transformer.
    transformer_dropout: drop rate in the transformer's MLPs.
    logsnr_input_type: see `layers.logsnr_features`.
    patching: see `patching`.
    num_classes: labels are 0 .. num_classes - 1, and num_classes for "none";
      with 0 they are ignored.
    scan_unroll: transformer blocks per iteration of the loop over them; with 1
      compile time does not grow with depth, more run faster on a CPU.
    remat: what each block recomputes in the backward pass, for memory; see
      `remat.POLICIES`.
    dtype: of the computation; parameters are float32.

  Raises:
    ValueError: if the image's sides do not suit patching and levels.
  """

  base_channels: int
  emb_channels: int
  channel_multiplier: Sequence[int]
  num_res_blocks: Sequence[int]
  num_transformer_blocks: int
  num_heads: int
  transformer_dropout: float
  logsnr_input_type: str
  patching: str
  num_classes: int
  scan_unroll: int = 1
  remat: str = "none"
  dtype: jnp.dtype = jnp.float32

  @nn.compact
  def __call__(
    self,
    z: jax.Array,
    logsnr: jax.Array,
    labels: jax.Array,
    *,
    train: bool = False,
  ) -> jax.Array:
    *channels, width = [self.base_channels * m for m in self.channel_multiplier]
    layers.require_one_per_level(
      "num_res_blocks", self.num_res_blocks, len(channels)
    )
    levels = list(zip(channels, self.num_res_blocks, strict=True))
    res_block = remat.rematerialised(
      layers.ResBlock, self.remat, static_argnums=(3,)
    )

    emb = layers.Conditioning(
      self.base_channels,
      self.emb_channels,
      self.num_classes,
      self.logsnr_input_type,
      self.dtype,
      name="conditioning",
    )(logsnr, labels)
    h = layers.Stem(channels[0], self.patching, self.dtype, name="stem")(z)
    layers.require_poolable(h, len(levels), self.patching)

    skips = []
    for level, (num_channels, num_blocks) in enumerate(levels):
      for block in range(num_blocks):
        h = res_block(
          num_channels, 0.0, self.dtype, name=f"down_{level}_{block}"
        )(h, emb, train)
        skips.append(h)
      h = layers.average_pool(h)

    h = Transformer(
      width,
      self.num_transformer_blocks,
      self.num_heads,
      self.transformer_dropout,
      self.scan_unroll,
      self.remat,
      self.dtype,
      name="transformer",
    )(h, emb, train)

    for level, (num_channels, num_blocks) in reversed(list(enumerate(levels))):
      # Narrow before repeating: a 1x1 convolution commutes with repetition.
      h = nn.Dense(num_channels, dtype=self.dtype, name=f"narrow_{level}")(h)
      h = layers.upsample(h)
      for block in range(num_blocks):
        h = jnp.concatenate([h, skips.pop()], axis=-1)
        h = res_block(
          num_channels, 0.0, self.dtype, name=f"up_{level}_{block}"
        )(h, emb, train)
    return layers.Head(z.shape[-1], self.patching, self.dtype, name="head")(
      h, z.shape[1:]
    )
