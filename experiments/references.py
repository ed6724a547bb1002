# SPDX-License-Identifier: Apache-2.0
"""Features of real images, which samples are compared with, kept on disk.

Computed once for the same pixels and the same network: the file's name is a
hash of both, so that no change of data, size, crop or weights meets features of
something else.
"""

import hashlib
import os
import pathlib
import tempfile
from typing import NamedTuple

import numpy as np

from simple_diffusion import data
from simple_diffusion import features
from simple_diffusion import images

CACHE = pathlib.Path("~/.cache/simple_diffusion/features")


class Reference(NamedTuple):
  """Features [N, D] of a split, and the hash of pixels and network."""

  pooled: np.ndarray
  hash: str


def batches(config, source, batch_size: int):
  """Yields uint8 [<= batch_size, H, W, C] of a source, in its order."""
  stream = data.make_eval_stream(
    source,
    batch_size=min(batch_size, len(source)),
    image_size=config.data.image_size,
    num_channels=config.data.num_channels,
    crop="squash" if config.data.crop == "squash" else "center",
  )
  for batch in data.iterate(stream, num_threads=config.data.num_threads):
    yield images.to_uint8(batch["image"][batch["mask"]])


def content_hash(network: features.FeatureNetwork, pixels) -> str:
  """First 16 hexadecimal digits of a hash of images and network."""
  digest, shape = hashlib.sha256(), None
  for batch in pixels:
    shape = batch.shape[1:]
    digest.update(np.ascontiguousarray(batch).data)
  for text in (shape, network.name, network.weights_hash, network.resize):
    digest.update(f"{text}\n".encode())
  return digest.hexdigest()[:16]


def load(
  network: features.FeatureNetwork,
  config,
  source,
  *,
  batch_size: int,
  cache: pathlib.Path = CACHE,
) -> Reference:
  """Features of all images of a source, from the cache if they are there."""
  # Twice over the images, not all of them in memory: reading is the less work.
  found = content_hash(network, batches(config, source, batch_size))
  path = cache.expanduser() / f"{found}.npy"
  if path.exists():
    return Reference(np.load(path, allow_pickle=False), found)
  pooled, _ = features.extract(network, batches(config, source, batch_size))
  path.parent.mkdir(parents=True, exist_ok=True)
  # Whole or not at all, also with several evaluations at once.
  with tempfile.NamedTemporaryFile(
    dir=path.parent, suffix=".npy", delete=False
  ) as file:
    np.save(file, pooled)
  os.replace(file.name, path)
  return Reference(pooled, found)
