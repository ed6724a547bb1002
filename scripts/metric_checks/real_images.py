# SPDX-License-Identifier: Apache-2.0
"""Distances of real images in MobileNetV2's features."""

import io
import random

import numpy as np
import PIL.Image
import PIL.ImageFilter

from scripts.metric_checks import rows
from simple_diffusion import metrics

# Kernel and Frechet distances that came with the weights, of another program:
# 1,500 flowers at 160 px against as many others, these changed, and clothing.
# Its noise, and which clothing it took, are not known.
KNOWN = {
  "the other half": (-0.0001, 114.8),
  "it with noise of sigma 10 / 255": (0.136, 196.4),
  "it blurred with sigma 1.5 px": (0.313, 278.3),
  "other images": (1.38, 917.8),
}
ALLOWED_KERNEL, ALLOWED_FRECHET = 0.01, 0.03  # Absolute; relative.

JPEG_QUALITIES = (95, 75)


def halves(images, number):
  """The 2 x `number` images that come first in an order drawn by Python."""
  order = list(range(len(images)))
  random.Random(0).shuffle(order)  # As that program: its digits come out.
  first = [images[i] for i in order[: 2 * number]]
  return first[:number], first[number:]


def distances(network, images, other_images, *, number):
  """Rows for all of KNOWN; images are changed, then resized to 160 px."""

  def features(changed):
    return rows.extract(network, changed, size=160)[0]

  rng = np.random.default_rng(0)
  blur = PIL.ImageFilter.GaussianBlur(1.5)
  a, b = halves(images, number)
  other, _ = halves(other_images, number)
  features_a = features(a)
  sets = (
    b,
    [_with_noise(image, rng) for image in b],
    [image.filter(blur) for image in b],
    other,
  )
  for (name, known), changed in zip(KNOWN.items(), sets, strict=True):
    kernel, error, frechet = _both(features_a, features(changed))
    yield {
      **rows.row(
        f"kernel distance to {name}",
        kernel,
        known[0],
        against="known",
        difference=abs(kernel - known[0]),
        allowed=ALLOWED_KERNEL,
      ),
      "standard_error": error,
    }
    yield rows.row(
      f"Frechet distance to {name}",
      frechet,
      known[1],
      against="known",
      allowed=ALLOWED_FRECHET,
    )


def copies(network, images, *, number):
  """Rows of one half of the images against copies of it and of the other."""
  a, b = halves(images, number)
  features_a, _ = rows.extract(network, a)
  for other, half in (("same images", a), ("other half", b)):
    kinds = {"PNG": half}
    for quality in JPEG_QUALITIES:
      copied = [_as_jpeg(image, quality) for image in half]
      kinds[f"JPEG, quality {quality}"] = copied
    for kind, copied in kinds.items():
      features_b, _ = rows.extract(network, copied)
      kernel, error, frechet = _both(features_a, features_b)
      yield {
        "check": f"{other} as {kind}",
        "kernel_distance": kernel,
        "standard_error": error,
        "frechet_distance": frechet,
      }


def _both(a, b):
  """(kernel distance, its standard error, Frechet distance)."""
  frechet = metrics.frechet_distance(*map(metrics.moments_of, (a, b)))
  return *metrics.kernel_distance(a, b), frechet


def _with_noise(image, rng):
  pixels = np.asarray(image)
  noisy = pixels + 10 * rng.normal(size=pixels.shape)
  return PIL.Image.fromarray(np.uint8(np.clip(np.round(noisy), 0, 255)))


def _as_jpeg(image, quality):
  file = io.BytesIO()
  image.save(file, "JPEG", quality=quality)
  return PIL.Image.open(file).convert("RGB")
