# SPDX-License-Identifier: Apache-2.0
"""Features of real images, which samples are compared with, kept on disk.

Computed once for the same pixels and the same network: the file's name is a
hash of both, so that no change of data, size, crop or weights meets features of
something else.
"""

from collections.abc import Iterable
import hashlib
import itertools
import os
import pathlib
import tempfile
from typing import NamedTuple

import numpy as np

from simple_diffusion import build
from simple_diffusion import data
from simple_diffusion import features
from simple_diffusion import images
from simple_diffusion import metrics

CACHE = pathlib.Path("~/.cache/simple_diffusion/features")

# Of what is computed: to be raised when the code of a feature network or of
# this file changes it, since a hash of weights does not tell.
VERSION = 1

# Features that are kept, of images at equal distances in the source's order.
# Distances of pairs go over them; a million would be 10^12 pairs.
MAX_KEPT = 50_000

_CHUNK = 16  # Batches whose features are in memory at once.


class Reference(NamedTuple):
  """What is known of a split.

  Attributes:
    hash: of its pixels and the network.
    moments: of the features of all images.
    kept: float32 [min(N, MAX_KEPT) or so, D], some of the features.
    labels: int32 [N] of all images.
  """

  hash: str
  moments: metrics.Moments
  kept: np.ndarray
  labels: np.ndarray


def batches(config, source, batch_size: int):
  """Yields uint8 [B, H, W, C] and labels [B] of a source, in its order."""
  stream = build.make_eval_stream(config, source, min(batch_size, len(source)))
  for batch in data.iterate(stream, num_threads=config.data.num_threads):
    mask = batch["mask"]
    yield images.to_uint8(batch["image"][mask]), batch["label"][mask]


def content_hash(
  network: features.FeatureNetwork, pixels: Iterable[np.ndarray]
) -> str:
  """First 16 hexadecimal digits of a hash of images and network."""
  digest, shape = hashlib.sha256(), None
  for batch in pixels:
    shape = batch.shape[1:]
    digest.update(np.ascontiguousarray(batch).data)
  for text in (
    shape,
    network.name,
    network.weights_hash,
    network.resize,
    VERSION,
    MAX_KEPT,
  ):
    digest.update(f"{text}\n".encode())
  return digest.hexdigest()[:16]


def describe(
  network: features.FeatureNetwork,
  pixels: Iterable[np.ndarray],
  num_images: int,
  max_kept: int = MAX_KEPT,
) -> tuple[metrics.Moments, np.ndarray]:
  """Moments of all features, and every so manieth feature."""
  stride = -(-num_images // max_kept)
  moments, kept, seen = None, [], 0
  pixels = iter(pixels)
  while chunk := list(itertools.islice(pixels, _CHUNK)):
    pooled, _ = features.extract(network, chunk)
    part = metrics.moments_of(pooled)
    moments = part if moments is None else metrics.merge(moments, part)
    kept.append(pooled[-seen % stride :: stride])
    seen += len(pooled)
  return moments, np.concatenate(kept)


def load(
  network: features.FeatureNetwork,
  config,
  source,
  *,
  batch_size: int,
  cache: pathlib.Path = CACHE,
) -> Reference:
  """What is known of all images of a source, from the cache if it is there."""
  # Twice over the images, not all of them in memory: reading is the less work.
  labels = []

  def pixels():
    for batch, of_batch in batches(config, source, batch_size):
      labels.append(of_batch)
      yield batch

  found = content_hash(network, pixels())
  labels = np.concatenate(labels)
  path = cache.expanduser() / f"{found}.npz"
  if path.exists():
    with np.load(path, allow_pickle=False) as saved:
      moments = metrics.Moments(
        int(saved["count"]), saved["mean"], saved["scatter"]
      )
      return Reference(found, moments, saved["kept"], labels)
  again = (batch for batch, _ in batches(config, source, batch_size))
  moments, kept = describe(network, again, len(source))
  path.parent.mkdir(parents=True, exist_ok=True)
  # Whole or not at all, also with several evaluations at once.
  with tempfile.TemporaryDirectory(dir=path.parent) as folder:
    whole = pathlib.Path(folder) / path.name
    np.savez(whole, kept=kept, **moments._asdict())
    os.replace(whole, path)
  return Reference(found, moments, kept, labels)
