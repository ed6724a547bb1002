# SPDX-License-Identifier: Apache-2.0
"""A blank figure as wide as a README, colours, and how a figure is saved.

Widths are in the pixels of a page (830 on GitHub); files have twice as many,
for screens that show them.
"""

from matplotlib import figure
from matplotlib import patheffects

from scripts.figures import numbers

WIDTH = 830
SCALE = 2
DPI = 72  # so a point of matplotlib's is a pixel of the page

# Okabe and Ito's colours, told apart by all kinds of colour vision
# (jfly.uni-koeln.de/color (memory)).
BLACK = "#000000"
ORANGE = "#E69F00"
SKY = "#56B4E9"
GREEN = "#009E73"
BLUE = "#0072B2"
VERMILION = "#D55E00"
GREY = "#666666"


def blank(height: int, width: int = WIDTH) -> figure.Figure:
  """A white figure of so many of the page's pixels."""
  # A little more, so that what is cut to whole pixels is not one less.
  size = ((width + 0.01) / DPI, (height + 0.01) / DPI)
  return figure.Figure(figsize=size, dpi=DPI * SCALE)


def _size(canvas):
  """(width, height) in the page's pixels."""
  return [round(side * DPI) for side in canvas.get_size_inches()]


def axes_of_pixels(canvas: figure.Figure):
  """Axes over all of a figure, in the page's pixels from its upper left."""
  width, height = _size(canvas)
  axes = canvas.add_axes((0, 0, 1, 1))
  axes.set_xlim(0, width)
  axes.set_ylim(height, 0)
  axes.axis("off")
  return axes


def write(canvas: figure.Figure, x, y, text, size=13, **options):
  """Text at (x, y) of the page's pixels from the upper left corner."""
  width, height = _size(canvas)
  options = {"va": "center", "ha": "center"} | options
  return canvas.text(x / width, 1 - y / height, text, size=size, **options)


def place(canvas: figure.Figure, x, y, pixels):
  """An image, uint8 [H, W, 3], with its upper left corner at (x, y).

  Its own pixels are those of the file, two of them a pixel of the page.
  """
  bottom = (_size(canvas)[1] - y) * SCALE - pixels.shape[0]
  canvas.figimage(pixels, round(x * SCALE), round(bottom), origin="upper")


def outlined(text, width=3):
  """Makes a white text readable on any photograph."""
  text.set_path_effects(
    [patheffects.withStroke(linewidth=width, foreground="black")]
  )
  return text


def save(canvas: figure.Figure, path) -> None:
  """Writes a PNG whose bytes depend on what is drawn and the libraries.

  It has no date, and says which matplotlib drew it and which numbers.
  """
  canvas.savefig(
    path,
    metadata={"Numbers": numbers.of(canvas)},
    pil_kwargs={"optimize": True},
  )
