# SPDX-License-Identifier: Apache-2.0
"""What a network has at each resolution, read from the traced network."""

import collections
from typing import NamedTuple

import jax
import jax.numpy as jnp

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


def _parts(network, image_shape):
  """{part: (shape of its output, parameters, multiply-adds)} of one image."""
  inputs = (
    jax.ShapeDtypeStruct((1, *image_shape), jnp.float32),
    jax.ShapeDtypeStruct((1,), jnp.float32),
    jax.ShapeDtypeStruct((1,), jnp.int32),
  )

  def init(*inputs):
    return network.init_with_output(
      jax.random.key(0),
      *inputs,
      mutable=True,
      capture_intermediates=lambda module, _: len(module.path) == 1,
    )[1]

  shapes = jax.eval_shape(init, *inputs)
  params = {"params": shapes["params"]}
  macs = collections.Counter()
  for scope, count in sizes.macs_by_scope(
    network.apply, params, *inputs
  ).items():
    macs[scope.split("/")[2]] += count
  return {
    name: (
      shapes["intermediates"][name]["__call__"][0].shape,
      sizes.num_params(part),
      macs[name],
    )
    for name, part in shapes["params"].items()
  }


def of(network, image_shape) -> tuple[list[Level], int, int]:
  """What a U-Net or U-ViT has at each resolution, and in all.

  Stem and head count at the highest resolution; the conditioning has none, and
  counts only in all.

  Returns:
    The levels from the highest resolution down, the network's parameters and
    its multiply-adds.
  """
  parts = _parts(network, image_shape)
  top = parts["stem"][0][1]
  names = collections.defaultdict(list)
  for name, (shape, _, _) in parts.items():
    if name != "conditioning":
      names[top if name == "head" else shape[1]].append(name)
  levels = []
  for resolution in sorted(names, reverse=True):
    here = names[resolution]
    blocks = collections.Counter(
      name.partition("_")[0]
      for name in here
      if name.startswith(("down", "up", "middle"))
      and not name.endswith("attention")
    )
    outputs = [n for n in here if n.startswith(("down", "transformer"))]
    levels.append(
      Level(
        resolution=resolution,
        channels=parts[outputs[-1]][0][-1],
        blocks=dict(blocks),
        attention=any(name.endswith("attention") for name in here),
        params=sum(parts[name][1] for name in here),
        macs=sum(parts[name][2] for name in here),
      )
    )
  _, params, macs = zip(*parts.values(), strict=True)
  return levels, sum(params), sum(macs)
