# SPDX-License-Identifier: Apache-2.0
"""Samples of networks trained on photographs, a row for each way of sampling.

Cut out of grids that experiments.train and experiments.evaluate drew, and
scripts.photograph_grid of photographs; they were copied into
experiments/results/samples, some of them as their upper rows alone. All rows of
a network's samples begin with the same classes and the same noise.
"""

import numpy as np
import PIL.Image

from scripts import results
from scripts.figures import canvas

FOLDER = results.FOLDER / "samples"

LEFT, GAP = 170, 6  # of the page's pixels

# A file without its ending, a label, the side of its images and how often each
# pixel of theirs is repeated, so that all can be seen.
FLOWERS = (
  ("flowers128/step_2000", "step 2,000, (2M), 32", 128, 1),
  ("flowers128/step_4000", "step 4,000, (2M), 32", 128, 1),
  ("flowers128/dpmpp_2m_16", "DPM-Solver++(2M), 16", 128, 1),
  ("flowers128/dpmpp_2m_32", "DPM-Solver++(2M), 32", 128, 1),
  ("flowers128/ancestral_512", "ancestral, 512", 128, 1),
  ("flowers128/guidance_2", "(2M), 32, guidance 2", 128, 1),
)

CLOTHING = (
  ("clothing64/photographs", "photographs, held out", 64, 2),
  ("clothing64/dpmpp_2m_sde_32", "SDE-(2M), 32", 64, 2),
  ("clothing64/ancestral_512", "ancestral, 512", 64, 2),
  ("clothing64/ancestral_32", "ancestral, 32", 64, 2),
  ("clothing64/dpmpp_2m_32", "DPM-Solver++(2M), 32", 64, 2),
  ("clothing64/ddim_32", "DDIM, 32", 64, 2),
  ("clothing64/guidance_2", "SDE-(2M), guidance 2", 64, 2),
  ("clothing64/guidance_4", "SDE-(2M), guidance 4", 64, 2),
)

SCHEDULES = (
  ("clothing_schedules/64_cosine", "64, cosine", 64, 2),
  ("clothing_schedules/64_shifted", "64, shifted to 32", 64, 2),
  ("clothing_schedules/128_cosine", "128, cosine", 128, 1),
  ("clothing_schedules/128_shifted", "128, shifted to 32", 128, 1),
  ("clothing_schedules/256_cosine", "256, narrow, cosine", 256, 1),
  ("clothing_schedules/256_shifted", "256, narrow, shifted", 256, 1),
)

PATCHINGS = (
  ("clothing_patchings/none", "64, none", 64, 2),
  ("clothing_patchings/dwt_1", "64, 5/3 wavelet", 64, 2),
  ("clothing_patchings/conv_2", "64, convolution", 64, 2),
  ("clothing_patchings/128_none", "128, none", 128, 1),
  ("clothing_patchings/128_dwt_1", "128, 5/3 wavelet", 128, 1),
)

MULTISCALE = (
  ("clothing_multiscale/without", "without", 128, 1),
  ("clothing_multiscale/with", "multiscale loss", 128, 1),
)


def cut(grid: np.ndarray, side: int, num_images: int) -> list[np.ndarray]:
  """The first images of a grid of `experiments.grids`, which go along rows."""
  pitch = side + 1
  num_columns = (grid.shape[1] - 1) // pitch
  if num_images > num_columns * (grid.shape[0] // pitch):
    raise ValueError(
      f"a grid of {grid.shape[:2]} pixels has no {num_images} images of {side}"
    )
  places = (divmod(i, num_columns) for i in range(num_images))
  return [
    grid[i * pitch + 1 : (i + 1) * pitch, j * pitch + 1 : (j + 1) * pitch]
    for i, j in places
  ]


def draw(rows, width=canvas.WIDTH):
  """A figure of rows, each of as many images as fit into the width."""
  steps = [side * zoom // canvas.SCALE for *_, side, zoom in rows]
  figure = canvas.blank(sum(steps) + GAP * (len(rows) + 1), width)
  top = GAP
  for (name, label, side, zoom), step in zip(rows, steps, strict=True):
    canvas.write(figure, LEFT - 10, top + step / 2, label, ha="right")
    with PIL.Image.open(FOLDER / f"{name}.jpg") as image:
      pixels = np.asarray(image.convert("RGB"))
    num_images = (width - LEFT) // (step + 1)
    for j, cell in enumerate(cut(pixels, side, num_images)):
      cell = cell.repeat(zoom, axis=0).repeat(zoom, axis=1)
      canvas.place(figure, LEFT + j * (step + 1), top, cell)
    top += step + GAP
  return figure
