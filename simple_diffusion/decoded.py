# SPDX-License-Identifier: Apache-2.0
"""A small data set decoded once, instead of once an epoch.

A small network on an accelerator sees more images in a second than a core can
decode. 3,000 photographs of 256x256 take 0.6 GB in
each process.
"""

from concurrent import futures
import dataclasses

import numpy as np

from simple_diffusion import batches
from simple_diffusion import images
from simple_diffusion import sources

_CHUNK = 64  # Images that a thread decodes at a time.


def in_memory(
  source: sources.Source,
  *,
  image_size,
  num_channels: int,
  crop: str,
  num_threads: int,
) -> sources.Source:
  """The same source, of uint8 [H, W, C] at the training size, read at once.

  Args:
    source: from `data.make_source`.
    image_size, num_channels, crop: see `images`.
    num_threads: that decode.

  Raises:
    ValueError: crop is "random", which cuts differently in every epoch; or an
      image is broken or too small.
  """
  if crop == "random":
    raise ValueError(
      'data.in_memory keeps images as they were cropped once: use data.crop="'
      'center" or "squash", or data.in_memory=False'
    )
  images.check_crop(crop)

  def load(start):
    indices = np.arange(start, min(start + _CHUNK, len(source)))
    return batches.load(
      source,
      indices,
      np_rngs=[None] * len(indices),
      image_size=image_size,
      num_channels=num_channels,
      crop=crop,
    )

  starts = range(0, len(source), _CHUNK)
  with futures.ThreadPoolExecutor(num_threads) as pool:
    examples = [
      {"image": image, "label": int(label)}
      for part in pool.map(load, starts)
      for image, label in zip(*part, strict=True)
    ]
  return dataclasses.replace(
    source, examples=examples, image_key="image", label_key="label"
  )
