# SPDX-License-Identifier: Apache-2.0
"""The U-Net of simple diffusion (arXiv 2301.11093, appendix B.1).

Most blocks sit at 16x16, where features are small and kernels are large
(tables 1 and 4), and dropout starts there too (table 3). "12 + 13" blocks at
a level are num_res_blocks = 12: the way up has one more, for the skip of the
level's input.
"""

from collections.abc import Sequence

from flax import linen as nn
import jax
import jax.numpy as jnp

from simple_diffusion import layers
from simple_diffusion import remat


class UNet(nn.Module):
  """predict(z, logsnr, labels): [B, H, W, C], [B], [B] -> [B, H, W, C].

  Resolutions below are those of the feature maps: after patching, in pixels of
  the shorter side.

  Attributes:
    base_channels: width that the multipliers multiply.
    emb_channels: width of the conditioning.
    channel_multiplier: one per level, from the highest resolution down.
    num_res_blocks: residual blocks per level on the way down.
    attn_resolutions: resolutions with self-attention after each block.
    num_heads: heads of the self-attention.
    dropout: drop rate of the residual blocks where there is dropout.
    dropout_from_resolution: the highest resolution with dropout; 0 for none.
    logsnr_input_type: see `layers.logsnr_features`.
    patching: see `patching`.
    num_classes: labels are 0 .. num_classes - 1, and num_classes for "none";
      with 0 they are ignored.
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
  attn_resolutions: Sequence[int]
  num_heads: int
  dropout: float
  dropout_from_resolution: int
  logsnr_input_type: str
  patching: str
  num_classes: int
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
    channels = [self.base_channels * m for m in self.channel_multiplier]
    layers.require_one_per_level(
      "num_res_blocks", self.num_res_blocks, len(channels)
    )
    levels = list(zip(channels, self.num_res_blocks, strict=True))
    res_block = remat.rematerialised(
      layers.ResBlock, self.remat, static_argnums=(3,)
    )
    attention = remat.rematerialised(layers.AttentionBlock, self.remat)

    def block(h, num_channels, name, *, attend=True):
      resolution = min(h.shape[1:3])
      rate = self.dropout * (resolution <= self.dropout_from_resolution)
      h = res_block(num_channels, rate, self.dtype, name=name)(h, emb, train)
      if attend and resolution in self.attn_resolutions:
        h = attention(self.num_heads, self.dtype, name=f"{name}_attention")(h)
      return h

    emb = layers.Conditioning(
      self.base_channels,
      self.emb_channels,
      self.num_classes,
      self.logsnr_input_type,
      self.dtype,
      name="conditioning",
    )(logsnr, labels)
    h = layers.Stem(channels[0], self.patching, self.dtype, name="stem")(z)
    layers.require_poolable(h, len(levels) - 1, self.patching)

    skips = [h]
    for level, (num_channels, num_blocks) in enumerate(levels):
      if level > 0:
        h = layers.average_pool(h)
        skips.append(h)
      for i in range(num_blocks):
        h = block(h, num_channels, f"down_{level}_{i}")
        skips.append(h)

    h = block(h, channels[-1], "middle_0")
    h = block(h, channels[-1], "middle_1", attend=False)

    for level, (num_channels, num_blocks) in reversed(list(enumerate(levels))):
      for i in range(num_blocks + 1):
        h = jnp.concatenate([h, skips.pop()], axis=-1)
        h = block(h, num_channels, f"up_{level}_{i}")
      if level > 0:
        h = layers.upsample(h)
    return layers.Head(z.shape[-1], self.patching, self.dtype, name="head")(
      h, z.shape[1:]
    )
