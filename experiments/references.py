# SPDX-License-Identifier: Apache-2.0
"""Features of real images, which samples are compared with, kept on disk.

Computed once for the same pixels and the same network: the file's name is a
hash of both, so that no change of data, size, crop or weights meets features of
something else. Several processes each read all images, for the hash, and share
the network's work out; their caches may be one folder or several.
"""

from collections.abc import Iterable
import hashlib
import itertools
import os
import pathlib
import tempfile
from typing import NamedTuple

import numpy as np

from experiments import processes
from experiments import shares
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

ALL = slice(None)
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


def batches(config, source, batch_size: int, part: slice = ALL):
  """Yields uint8 [B, H, W, C] and labels [B] of a source, in its order.

  Of its batches, those in a part.
  """
  stream = build.make_eval_stream(config, source, batch_size)[part]
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
  *,
  batch_size: int,
  max_kept: int = MAX_KEPT,
) -> tuple[metrics.Moments, np.ndarray]:
  """Moments of all features, and every so manieth feature.

  Args:
    network: whose features.
    pixels: this process's share of batches of batch_size.
    num_images: of all processes.
    batch_size: of the batches that were shared out.
    max_kept: how many features are kept at most.
  """
  own = shares.indices(num_images, batch_size)
  is_kept = own % -(-num_images // max_kept) == 0
  dim = network.num_features
  moments = metrics.Moments(0, np.zeros(dim), np.zeros((dim, dim)))
  kept, seen = [np.zeros((0, dim), np.float32)], 0
  pixels = iter(pixels)
  while chunk := list(itertools.islice(pixels, _CHUNK)):
    pooled, _ = features.extract(network, chunk)
    moments = metrics.merge(moments, metrics.moments_of(pooled))
    kept.append(pooled[is_kept[seen : seen + len(pooled)]])
    seen += len(pooled)
  kept = shares.gather(own[is_kept], np.concatenate(kept))
  return metrics.merge_processes(moments), kept


def require_one_hash(hashes: list[str], split: str) -> None:
  """Raises ValueError if the processes have different images of a split."""
  if len(set(hashes)) > 1:
    raise ValueError(
      f"the images of split {split!r} have hashes {', '.join(hashes)} in "
      "processes 0, 1, ...; give all of them the same data, and the same "
      "versions of the packages that decode it"
    )


def save(path: pathlib.Path, moments: metrics.Moments, kept: np.ndarray):
  """Writes a file that is not there yet, whole or not at all."""
  if path.exists():
    return
  path.parent.mkdir(parents=True, exist_ok=True)
  # Also with several evaluations at once.
  with tempfile.TemporaryDirectory(dir=path.parent) as folder:
    whole = pathlib.Path(folder) / path.name
    np.savez(whole, kept=kept, **moments._asdict())
    os.replace(whole, path)


def read(path: pathlib.Path) -> tuple[metrics.Moments, np.ndarray]:
  """What `save` wrote.

  Raises:
    ValueError: if the file is damaged.
  """
  try:
    # NumPy would leave a damaged file open.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
      moments = metrics.Moments(
        int(saved["count"]), saved["mean"], saved["scatter"]
      )
      return moments, saved["kept"]
  except Exception as error:  # zip, zlib and NumPy raise ten kinds.
    raise ValueError(
      f"{path} has no features of real images: {error}; delete it, and they "
      "are computed again"
    ) from error


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
  labels, batch_size = [], min(batch_size, len(source))

  def pixels():
    for batch, of_batch in batches(config, source, batch_size):
      labels.append(of_batch)
      yield batch

  found = content_hash(network, pixels())
  labels = np.concatenate(labels)
  with processes.same_fate():
    require_one_hash(processes.of_all(found), source.split)
  path = cache.expanduser() / f"{found}.npz"
  # Together or not at all: who computes waits for all the others.
  if all(processes.of_all(path.exists())):
    with processes.same_fate():
      return Reference(found, *read(path), labels)
  own = (b for b, _ in batches(config, source, batch_size, shares.mine()))
  moments, kept = describe(network, own, len(source), batch_size=batch_size)
  if processes.is_first():
    save(path, moments, kept)
  processes.of_all("saved")  # Whoever shares the first one's folder has it now.
  save(path, moments, kept)
  return Reference(found, moments, kept, labels)
