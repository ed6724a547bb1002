# SPDX-License-Identifier: Apache-2.0
"""One batch of a source as arrays.

Work is done per batch where it can be: with images of a few pixels, Python
steps per example would cost more than a small model's training step.
"""

import numpy as np

from simple_diffusion import images


def load(source, indices, *, np_rngs, image_size, num_channels, crop):
  """Reads, decodes and crops the examples of a batch.

  Args:
    source: sequence of {"image", "label"} with `describe`; see `sources`.
    indices: int64 [B].
    np_rngs: B generators of the random crops; anything for other crops.
    image_size, num_channels, crop: see `images`.

  Returns:
    uint8 [B, H, W, C] and labels int32 [B].

  Raises:
    ValueError: an image is broken or too small; names data set and index.
  """
  height, width = images.size_pair(image_size)
  pixels = np.empty((len(indices), height, width, num_channels), np.uint8)
  labels = np.empty(len(indices), np.int32)
  for row, index in enumerate(indices.tolist()):
    example = source[index]
    name = source.describe(index)
    image = example["image"]
    if isinstance(image, bytes):
      image = images.decode(image, num_channels=num_channels, name=name)
    else:
      image = images.with_channels(image, num_channels=num_channels)
    pixels[row] = images.resize_and_crop(
      image,
      image_size=(height, width),
      crop=crop,
      np_rng=np_rngs[row],
      name=name,
    )
    labels[row] = example["label"]
  return pixels, labels
