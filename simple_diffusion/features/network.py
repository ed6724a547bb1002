# SPDX-License-Identifier: Apache-2.0
"""What a feature network is, and images through it."""

from collections.abc import Callable
from collections.abc import Iterable
import hashlib
import pathlib
from typing import NamedTuple

import chex
import jax
import numpy as np

# Images at once in a network, at its size: about 1 GB of Inception's maps.
MAX_AT_ONCE = 128


class Features(NamedTuple):
  """Outputs for a batch of images.

  Attributes:
    pooled: float32 [B, D], averaged over the last feature map.
    logits: float32 [B, K] of the network's classes, or None.
  """

  pooled: jax.Array
  logits: jax.Array | None


class FeatureNetwork(NamedTuple):
  """A network with its weights; its numbers compare only with its own.

  Attributes:
    name: of the architecture, as `load` takes it.
    num_features: D.
    weights_hash: first 16 hexadecimal digits of the file's SHA-256.
    resize: in words, what happens to images of another size than it takes.
    apply: jitted; uint8 [B, H, W, 3] of any size to Features.
  """

  name: str
  num_features: int
  weights_hash: str
  resize: str
  apply: Callable[[jax.Array], Features]

  def __repr__(self):  # Else all weights would be printed.
    return f"FeatureNetwork({self.name}, weights {self.weights_hash})"


def file_hash(path: pathlib.Path) -> str:
  """First 16 hexadecimal digits of a file's SHA-256, as sha256sum prints."""
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def extract(
  network: FeatureNetwork, batches: Iterable[np.ndarray]
) -> tuple[np.ndarray, np.ndarray | None]:
  """Features of all images, in their order.

  Batches of more than MAX_AT_ONCE go through in equal parts. Those smaller than
  the first, such as the last, are padded to its size, so that nothing is
  compiled again.

  Args:
    network: from `load`.
    batches: of uint8 [B, H, W, 3], all of one H and W.

  Returns:
    float32 [N, D] and float32 [N, K], or None if the network has no logits.

  Raises:
    ValueError: if there is no image, a batch is not uint8 RGB, or a feature is
      not finite.
  """
  found, size = [], None
  for batch in _parts(batches):
    size = size or len(batch)
    padding = max(0, size - len(batch))
    padded = np.pad(batch, ((0, padding), (0, 0), (0, 0), (0, 0)))
    pooled, logits = jax.device_get(network.apply(padded))
    if not np.isfinite(pooled).all():
      raise ValueError(
        f"features of {network.name} are not finite; are its weights whole?"
      )
    if logits is not None:
      logits = logits[: len(batch)]
    found.append(Features(pooled[: len(batch)], logits))
  if not found:
    raise ValueError("no image to extract features of; give at least one batch")
  pooled = np.concatenate([features.pooled for features in found])
  chex.assert_shape(pooled, (None, network.num_features))
  if found[0].logits is None:
    return pooled, None
  return pooled, np.concatenate([features.logits for features in found])


def _parts(batches):
  for batch in batches:
    batch = np.asarray(batch)
    _check_batch(batch)
    yield from np.array_split(batch, -(-len(batch) // MAX_AT_ONCE))


def _check_batch(batch):
  if batch.dtype != np.uint8:
    raise ValueError(
      f"images are {batch.dtype}; features are defined on uint8, as in image "
      "files: round [-1, 1] as clip((x + 1) * 127.5 + 0.5, 0, 255) would be"
    )
  if batch.ndim != 4 or batch.shape[-1] != 3 or not len(batch):
    raise ValueError(
      f"images have shape {batch.shape}, not [B, H, W, 3] with B > 0; repeat a "
      "grey image's channel three times"
    )
