# SPDX-License-Identifier: Apache-2.0
"""A hash that says on which images something was measured.

Of their pixels as whole numbers of 0..255, in their order; neither batches nor
processes are in it. (The hashes of `references` have the feature network too.)
"""

import hashlib

import numpy as np

from simple_diffusion import images


def digests(batch: np.ndarray) -> np.ndarray:
  """uint32 [B, 8], the SHA-256 of each image [H, W, C] in [-1, 1]."""
  found = []
  for pixels in images.to_uint8(batch):
    digest = hashlib.sha256(f"{pixels.shape}".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    found.append(np.frombuffer(digest.digest(), np.uint32))
  return np.stack(found)


def combined(of_images: np.ndarray) -> str:
  """First 16 hexadecimal digits of the hash of all images' digests [N, 8]."""
  return hashlib.sha256(np.ascontiguousarray(of_images).data).hexdigest()[:16]
