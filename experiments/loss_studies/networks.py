# SPDX-License-Identifier: Apache-2.0
"""Small networks that the comparisons share."""

from flax import linen as nn
import jax.numpy as jnp

from experiments.loss_studies import encoder


class MLP(nn.Module):
  """Dense layers with ReLU; without widths it is linear in the features."""

  num_outputs: int
  widths: tuple[int, ...] = ()

  @nn.compact
  def __call__(self, x):
    x = x.reshape(*x.shape[:1], -1)
    for width in self.widths:
      x = nn.relu(nn.Dense(width)(x))
    return nn.Dense(self.num_outputs)(x)


class SmallCNN(nn.Module):
  """3x3 convolutions that each halve the sides, then one dense layer."""

  num_outputs: int
  channels: tuple[int, ...] = (16, 32)

  @nn.compact
  def __call__(self, x):
    for channels in self.channels:
      x = nn.relu(nn.Dense(channels)(every_second_3x3(x)))
    x = x.reshape(*x.shape[:1], -1)
    return nn.Dense(self.num_outputs)(x)


def every_second_3x3(x):
  """What a 3x3 convolution of stride 2, padded "SAME", looks at.

  A dense layer of it is that convolution: a product of matrices, which takes a
  fifth of the time of XLA's convolutions on a CPU in a compiled loop.

  Args:
    x: images [B, H, W, C].

  Returns:
    [B, ceil(H / 2), ceil(W / 2), 9 C].
  """
  h, w = (-(-side // 2) for side in x.shape[1:3])
  # An odd side has a pixel before it, and both have one after the last.
  x = jnp.pad(x, ((0, 0), *((side % 2, 1) for side in x.shape[1:3]), (0, 0)))
  return jnp.concatenate(
    [
      x[:, i : i + 2 * h - 1 : 2, j : j + 2 * w - 1 : 2]
      for i in range(3)
      for j in range(3)
    ],
    axis=-1,
  )


class HashedLinear(nn.Module):
  """Linear in features that are there or not, named by buckets [N, F]."""

  num_outputs: int
  num_buckets: int

  @nn.compact
  def __call__(self, buckets):
    table = nn.Embed(
      self.num_buckets, self.num_outputs, embedding_init=nn.initializers.zeros
    )
    bias = self.param("bias", nn.initializers.zeros, (self.num_outputs,))
    return table(buckets).sum(-2) + bias[None]


NETWORKS = {
  "mlp": MLP,
  "cnn": SmallCNN,
  "hashed": HashedLinear,
  "words": encoder.WordNetwork,
}


def make(options: dict, num_outputs: int) -> nn.Module:
  """The network of a config's section: its name and its fields.

  Raises:
    ValueError: if there is none of this name.
  """
  options = dict(options)
  name = options.pop("name")
  if name not in NETWORKS:
    raise ValueError(
      f"network.name={name!r} is none of {', '.join(sorted(NETWORKS))}"
    )
  fields = {
    k: tuple(v) if isinstance(v, list) else v for k, v in options.items()
  }
  return NETWORKS[name](num_outputs=num_outputs, **fields)
