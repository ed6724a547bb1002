# SPDX-License-Identifier: Apache-2.0
"""Samples of the U-ViT on flowers: over training, by sampler, with guidance.

Cut out of grids that experiments.train and experiments.evaluate drew, which lie
in experiments/results/samples: ten images a row, two of each class, of the same
noise in every row.
"""

import numpy as np
import PIL.Image

from scripts import results
from scripts.figures import canvas

FOLDER = results.FOLDER / "samples" / "flowers128"

SIDE, NUM_IMAGES = 128, 10
LEFT, GAP = 170, 6  # of the page's pixels

ROWS = (
  ("step_2000", "step 2,000, (2M), 32"),
  ("step_4000", "step 4,000, (2M), 32"),
  ("dpmpp_2m_16", "DPM-Solver++(2M), 16"),
  ("dpmpp_2m_32", "DPM-Solver++(2M), 32"),
  ("ancestral_512", "ancestral, 512"),
  ("guidance_2", "(2M), 32, guidance 2"),
)


def cut(grid: np.ndarray) -> list[np.ndarray]:
  """The first images of a grid of `experiments.grids`, which go along rows."""
  pitch = SIDE + 1
  num_columns = (grid.shape[1] - 1) // pitch
  places = (divmod(i, num_columns) for i in range(NUM_IMAGES))
  return [
    grid[i * pitch + 1 : (i + 1) * pitch, j * pitch + 1 : (j + 1) * pitch]
    for i, j in places
  ]


def draw():
  step = SIDE // canvas.SCALE
  figure = canvas.blank(len(ROWS) * (step + GAP) + GAP)
  for i, (name, label) in enumerate(ROWS):
    top = GAP + i * (step + GAP)
    canvas.write(figure, LEFT - 10, top + step / 2, label, ha="right")
    with PIL.Image.open(FOLDER / f"{name}.jpg") as image:
      pixels = np.asarray(image.convert("RGB"))
    for j, cell in enumerate(cut(pixels)):
      canvas.place(figure, LEFT + j * (step + 1), top, cell)
  return figure
