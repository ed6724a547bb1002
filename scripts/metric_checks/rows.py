# SPDX-License-Identifier: Apache-2.0
"""One comparison as it is recorded, and the images that are compared."""

import pathlib

import numpy as np
import PIL.Image

from simple_diffusion import features


def row(check, ours, known, *, against, difference=None, allowed):
  """One comparison; the difference is relative unless it is given."""
  if difference is None:
    difference = abs(ours - known) / max(abs(known), 1e-9)
  return {
    "check": check,
    "ours": ours,
    "reference": known,
    "against": against,
    "difference": float(difference),
    "allowed": allowed,
  }


def beyond_what_is_allowed(found) -> list[str]:
  """The checks among rows that failed; NaN does, rows without a limit don't."""
  return [
    row["check"]
    for row in found
    if "allowed" in row and not row["difference"] <= row["allowed"]
  ]


def read_images(folder):
  """Pillow's RGB images below a folder, in the order of their paths."""
  paths = sorted(pathlib.Path(folder).rglob("*.jpg"))
  if not paths:
    raise ValueError(f"{folder} has no *.jpg; give the folder of a data set")
  return [PIL.Image.open(path).convert("RGB") for path in paths]


def extract(network, images, size=None, batch_size=50):
  """Features [N, D] and logits [N, K] of Pillow images, resized to a square."""

  def pixels(image):
    # Pillow's default, bicubic; smoother when it makes images smaller.
    return np.asarray(image if size is None else image.resize((size, size)))

  starts = range(0, len(images), batch_size)
  return features.extract(
    network,
    (np.stack([pixels(i) for i in images[s : s + batch_size]]) for s in starts),
  )
