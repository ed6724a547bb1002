# SPDX-License-Identifier: Apache-2.0
"""Small networks that the comparisons share."""

from flax import linen as nn

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
      x = nn.relu(nn.Conv(channels, (3, 3), strides=(2, 2))(x))
    x = x.reshape(*x.shape[:1], -1)
    return nn.Dense(self.num_outputs)(x)


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
