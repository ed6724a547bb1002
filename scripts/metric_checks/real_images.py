# SPDX-License-Identifier: Apache-2.0
"""Distances of real images in MobileNetV2's features."""

import io

import numpy as np
import PIL.Image
import PIL.ImageFilter

from scripts.metric_checks import rows
from simple_diffusion import metrics

# Kernel and Frechet distances that another program found with the same weights
# and 1,500 images a side, at 160 px: one half of the flowers against the other,
# against it changed, and against clothing. Its halves and noise are not known.
KNOWN = {
  "the other half": (-0.0001, 114.8),
  "it with noise of sigma 10 / 255": (0.136, 196.4),
  "it blurred with sigma 1.5 px": (0.313, 278.3),
  "other images": (1.38, 917.8),
}
ALLOWED_KERNEL, ALLOWED_FRECHET = 0.01, 0.03  # Absolute; relative.

JPEG_QUALITIES = (95, 75)


def distances(network, images, other_images, *, number, num_splits):
  """Rows for all of KNOWN: means over random halves, with their spread.

  Images are changed at their own size and then resized to 160 px.
  """
  rng = np.random.default_rng(0)
  blur = PIL.ImageFilter.GaussianBlur(1.5)
  clean, noisy, blurred, other = (
    rows.extract(network, changed, size=160)[0]
    for changed in (
      images,
      [_with_noise(image, rng) for image in images],
      [image.filter(blur) for image in images],
      other_images,
    )
  )
  found = []
  for _ in range(num_splits):
    a, b = np.split(rng.permutation(len(images))[: 2 * number], 2)
    c = rng.permutation(len(other_images))[:number]
    sets = (clean[b], noisy[b], blurred[b], other[c])
    found.append([_both(clean[a], features) for features in sets])
  # [4 sets, (kernel, its standard error, Frechet)]
  means, spreads = np.mean(found, 0).tolist(), np.std(found, 0).tolist()
  for name, mean, spread in zip(KNOWN, means, spreads, strict=True):
    kernel, frechet = KNOWN[name]
    yield {
      **rows.row(
        f"kernel distance to {name}",
        mean[0],
        kernel,
        against="known",
        difference=abs(mean[0] - kernel),
        allowed=ALLOWED_KERNEL,
      ),
      "spread": spread[0],
      "standard_error": mean[1],
    }
    yield {
      **rows.row(
        f"Frechet distance to {name}",
        mean[2],
        frechet,
        against="known",
        allowed=ALLOWED_FRECHET,
      ),
      "spread": spread[2],
    }


def copies(network, images, *, number):
  """Rows of one half of the images against copies of it and of the other."""
  order = np.random.default_rng(0).permutation(len(images))[: 2 * number]
  halves = np.split(order, 2)
  png, _ = rows.extract(network, images)
  saved = {"PNG": png}
  for quality in JPEG_QUALITIES:
    recompressed = [_as_jpeg(image, quality) for image in images]
    saved[f"JPEG, quality {quality}"], _ = rows.extract(network, recompressed)
  for name, copy in saved.items():
    for other, half in zip(("same images", "other half"), halves, strict=True):
      kernel, error, frechet = _both(png[halves[0]], copy[half])
      yield {
        "check": f"{other} as {name}",
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
