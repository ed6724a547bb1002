# SPDX-License-Identifier: Apache-2.0
"""What a network has at each resolution, read from the traced network."""

import collections
from typing import NamedTuple

import jax

from simple_diffusion import sizes


class Level(NamedTuple):
  """All parts of a network whose feature maps have one size.

  Attributes:
    resolution: side of the maps, in pixels.
    channels: of what the level puts out.
    blocks: residual blocks on the way "down" and "up", and between them.
    attention: whether they have self-attention.
    params: parameters.
    macs: multiply-adds for one image.
  """

  resolution: int
  channels: int
  blocks: dict[str, int]
  attention: bool
  params: int
  macs: int


def _output_shapes(network, image_shape):
  """{part: shape of its output} for one image."""

  def intermediates(*inputs):
    return network.init_with_output(
      jax.random.key(0),
      *inputs,
      mutable=True,
      capture_intermediates=lambda module, _: len(module.path) == 1,
    )[1]["intermediates"]

  shapes = jax.eval_shape(intermediates, *sizes.one_image(image_shape))
  return {part: shapes[part]["__call__"][0].shape for part in shapes}


def of(network, image_shape) -> tuple[list[Level], int, int]:
  """What a U-Net or U-ViT has at each resolution, and in all.

  Stem and head count at the highest resolution; the conditioning has none, and
  counts only in all.

  Returns:
    The levels from the highest resolution down, the network's parameters and
    its multiply-adds.
  """
  parts = sizes.by_part(network, image_shape)
  outputs = _output_shapes(network, image_shape)
  top = outputs["stem"][1]
  names = collections.defaultdict(list)
  for name in parts:
    if name != "conditioning":
      names[top if name == "head" else outputs[name][1]].append(name)
  levels = []
  for resolution in sorted(names, reverse=True):
    here = names[resolution]
    blocks = collections.Counter(
      name.partition("_")[0]
      for name in here
      if name.startswith(("down", "up", "middle"))
      and not name.endswith("attention")
    )
    last = [n for n in here if n.startswith(("down", "transformer"))][-1]
    levels.append(
      Level(
        resolution=resolution,
        channels=outputs[last][-1],
        blocks=dict(blocks),
        attention=any(name.endswith("attention") for name in here),
        params=sum(parts[name][0] for name in here),
        macs=sum(parts[name][1] for name in here),
      )
    )
  params, macs = zip(*parts.values(), strict=True)
  return levels, sum(params), sum(macs)
