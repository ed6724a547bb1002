# SPDX-License-Identifier: Apache-2.0
"""A photograph and its 5/3 wavelet, of one and two levels (paper, appendix)."""

import numpy as np

from scripts.figures import canvas as canvas_lib
from scripts.figures import photographs
from simple_diffusion import patching

GAIN = 2  # of the details, which have a fraction of the image's contrast


def bands(image):
  """LL, LH, HL, HH, each [H/2, W/2, 3], of an image [H, W, 3]."""
  ll, details = patching.dwt_bands(image[None])
  parts = (ll, *np.split(np.asarray(details), 3, axis=-1))
  return [np.asarray(part)[0] for part in parts]


def mosaic(image, levels, level=1):
  """The bands side by side as one image, and where each of them is.

  Returns:
    [H, W, 3] with details times `GAIN`, and [(row, column, name, standard
    deviation)] with the upper left corner of each band.
  """
  ll, lh, hl, hh = bands(image)
  height, width = ll.shape[:2]
  where = [(0, 0), (0, width), (height, 0), (height, width)]
  places = [
    (*corner, f"{name}{level}", float(band.std()))
    for corner, name, band in zip(
      where, ("LL", "LH", "HL", "HH"), (ll, lh, hl, hh), strict=True
    )
  ]
  if level < levels:
    ll, inner = mosaic(ll, levels, level + 1)
    places = inner + places[1:]
  lh, hl, hh = (np.clip(GAIN * band, -1, 1) for band in (lh, hl, hh))
  lines = [np.concatenate(pair, axis=1) for pair in ((ll, lh), (hl, hh))]
  image = np.concatenate(lines)
  image[height, :], image[:, width] = 1, 1  # white lines between the bands
  return image, places


def draw():
  photograph = photographs.load("hat")
  size, gap, top, below = photograph.shape[0], 22, 26, 44
  canvas = canvas_lib.blank(top + size + below)
  left = (canvas_lib.WIDTH - 3 * size - 2 * gap) / 2
  whole = (photograph, [(0, 0, "", float(photograph.std()))])
  for i, title in enumerate(("photograph", "one level", "two levels")):
    x = left + i * (size + gap)
    image, places = mosaic(photograph, levels=i) if i else whole
    canvas_lib.write(canvas, x + size / 2, top / 2, title, 15)
    shown = photographs.shown(image, canvas_lib.SCALE)
    canvas_lib.place(canvas, x, top, shown)
    for row, column, name, _ in places:
      corner = {"ha": "left", "va": "top", "color": "white"}
      at = (x + column + 4, top + row + 4)
      text = canvas_lib.write(canvas, *at, name, 12, **corner)
      canvas_lib.outlined(text)
    stds = [f"{name or 'std'} {std:.2f}" for _, _, name, std in places]
    for line, part in enumerate((stds[:4], stds[4:])):
      at = (x + size / 2, top + size + 12 + 18 * line)
      canvas_lib.write(canvas, *at, "  ".join(part), 12)
  return canvas
