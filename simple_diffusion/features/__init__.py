# SPDX-License-Identifier: Apache-2.0
"""Networks whose features images are compared in.

  network = features.load("mobilenet_v2", "weights.npz")
  pooled, logits = features.extract(network, batches)  # of uint8 [B, H, W, 3]

`network` has what all share; each other file is one network. Weights are files
that you name: nothing is fetched.
"""

import functools
import pathlib

from simple_diffusion.features import inception
from simple_diffusion.features import mobilenet
from simple_diffusion.features.network import FeatureNetwork
from simple_diffusion.features.network import Features
from simple_diffusion.features.network import extract
from simple_diffusion.features.network import file_hash

__all__ = [
  "NETWORKS",
  "FeatureNetwork",
  "Features",
  "extract",
  "file_hash",
  "load",
]

NETWORKS = {
  mobilenet.NAME: mobilenet.load,
  **{
    name: functools.partial(inception.load, name=name)
    for name in inception.PROTOCOLS
  },
}


def load(name: str, path: str | pathlib.Path) -> FeatureNetwork:
  """A feature network with the weights of a local file.

  Args:
    name: a key of NETWORKS.
    path: file of its weights; docs/metrics.md says where they are from.

  Raises:
    ValueError: if the name is unknown, or the file is of another network.
    FileNotFoundError: if there is no such file.
  """
  if name not in NETWORKS:
    raise ValueError(
      f"unknown feature network {name!r}; choose one of {sorted(NETWORKS)}"
    )
  path = pathlib.Path(path)
  if not path.is_file():
    raise FileNotFoundError(
      f"{path} with the weights of {name} does not exist; docs/metrics.md says "
      "how to get them"
    )
  return NETWORKS[name](path)
