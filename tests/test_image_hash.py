# SPDX-License-Identifier: Apache-2.0
"""Numbers say of which images they are."""

import numpy as np
import pytest

from experiments import image_hash


def hashed(*batches):
  return image_hash.combined(
    np.concatenate([image_hash.digests(np.float32(b)) for b in batches])
  )


def test_batches_are_not_in_it():
  images = np.random.default_rng(0).uniform(-1, 1, (6, 4, 4, 3))
  whole = hashed(images)
  assert whole == hashed(images[:4], images[4:]) and len(whole) == 16
  # Nor is rounding, within a grey.
  assert whole == hashed((np.round(images * 127.5 + 127.5) - 127.5) / 127.5)


@pytest.mark.parametrize(
  "change",
  [
    lambda images: images[::-1],
    lambda images: images[:-1],
    lambda images: images.reshape(6, 8, 2, 3),
    lambda images: images * [1, 1, -1],
  ],
)
def test_images_their_order_and_sides_are(change):
  images = np.random.default_rng(0).uniform(-1, 1, (6, 4, 4, 3))
  assert hashed(images) != hashed(change(images))
