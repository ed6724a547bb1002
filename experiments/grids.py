# SPDX-License-Identifier: Apache-2.0
"""Grids of images in files."""

import math
import os
import pathlib

import numpy as np
import PIL.Image

SUFFIXES = (".png", ".jpg")

# Of images of 1024 pixels; a JPEG has 65,500 at most.
MAX_CLASS_COLUMNS = 32


def columns_of(num_classes: int) -> int:
  """A column a class; of no classes, or of more than a file can take, ten."""
  return num_classes if 0 < num_classes <= MAX_CLASS_COLUMNS else 10


def checked_path(grid: str) -> pathlib.Path:
  """The path that --grid names.

  Raises:
    ValueError: if it has another ending than SUFFIXES.
  """
  path = pathlib.Path(grid)
  if path.suffix not in SUFFIXES:
    raise ValueError(f"--grid={grid} must end in {' or '.join(SUFFIXES)}")
  return path


def first_of_each(
  labels: np.ndarray, num_classes: int, num_rows: int
) -> np.ndarray:
  """Indices of the first num_rows of each class, a column a class.

  Args:
    labels: int [N] of photographs.
    num_classes: K, of labels 0..K-1.
    num_rows: of the grid.

  Raises:
    ValueError: if a class has fewer.
  """
  of_class = [np.flatnonzero(labels == c) for c in range(num_classes)]
  fewest = min(map(len, of_class), default=0)
  if fewest < num_rows:
    raise ValueError(
      f"a grid of {num_rows} rows needs as many photographs of each class, and "
      f"one class has {fewest}"
    )
  return np.stack([found[:num_rows] for found in of_class], axis=1).reshape(-1)


def save_grid(
  path: pathlib.Path, pixels: np.ndarray, *, num_columns: int
) -> None:
  """Writes images uint8 [N, H, W, C] in rows, a pixel apart: .png or .jpg.

  Images below 64 pixels are enlarged by repetition, so that a person sees
  them.
  """
  n, h, w, c = pixels.shape
  enlarge = max(1, 64 // h)
  pixels = pixels.repeat(enlarge, axis=1).repeat(enlarge, axis=2)
  h, w = h * enlarge + 1, w * enlarge + 1
  num_rows = math.ceil(n / num_columns)
  canvas = np.zeros((num_rows * h + 1, num_columns * w + 1, c), np.uint8)
  for i, image in enumerate(pixels):
    top, left = divmod(i, num_columns)
    top, left = top * h + 1, left * w + 1
    canvas[top : top + h - 1, left : left + w - 1] = image
  path.parent.mkdir(parents=True, exist_ok=True)
  image = PIL.Image.fromarray(canvas.squeeze(-1) if c == 1 else canvas)
  # Whole or not at all: a resumed run makes only those that are missing.
  temporary = path.with_name(f"{path.stem}.tmp{path.suffix}")
  image.save(temporary, quality=90)  # Of a JPEG.
  os.replace(temporary, path)
