# SPDX-License-Identifier: Apache-2.0
"""The photographs of docs/figures/source; ATTRIBUTION.md has the authors."""

import pathlib

import numpy as np
import PIL.Image

from simple_diffusion import images

ROOT = pathlib.Path(__file__).parent.parent.parent
SOURCE = ROOT / "docs" / "figures" / "source"

NAMES = ("hat", "daisy")


def load(name: str) -> np.ndarray:
  """float32 [H, W, 3] in [-1, 1], as networks see images."""
  with PIL.Image.open(SOURCE / f"{name}.jpg") as image:
    return images.to_float(np.asarray(image.convert("RGB")))


def shown(image, enlarge: int) -> np.ndarray:
  """uint8 [kH, kW, 3] of an image in [-1, 1], clipped, each pixel k x k."""
  return images.to_uint8(image).repeat(enlarge, 0).repeat(enlarge, 1)
