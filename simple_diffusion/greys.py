# SPDX-License-Identifier: Apache-2.0
"""Images of L equally spaced greys, Delta = 2 / (L - 1) apart, from -1 to 1.

Images are read with 8 bits: a grey is rounded to the nearest of 256 values v,
x = v / 127.5 - 1, and is up to 1/255 away from where it belongs. For L near 256
that is Delta / 2, within which every value has a grey: only two values that are
there together can tell that they are not L greys.
"""

import numpy as np


def grey_width(num_levels: int) -> float:
  """Delta, the distance of two of L greys that span [-1, 1]."""
  if num_levels < 2:
    raise ValueError(f"num_levels={num_levels} must be at least 2 greys")
  return 2 / (num_levels - 1)


def _check_values(values, levels, num_levels):
  """That values of 8 bits are what their greys are when rounded."""
  exact = levels * 255 / (num_levels - 1)
  # A grey halfway between two values is one of them, whichever, never both.
  twice = np.bincount(levels)[levels] > 1
  wrong = values[(np.abs(exact - values) > 0.5 + 1e-6) | twice]
  if wrong.size:
    some = ", ".join(map(str, wrong[:3]))
    raise ValueError(
      f"num_levels={num_levels}, but no {num_levels} equally spaced greys are "
      f"all the values of 0..255 in the images, {some} among them; images of 8 "
      "bits have 256"
    )


def on_grid(x: np.ndarray, *, num_levels: int) -> np.ndarray:
  """Moves images of 8 bits to the L greys that they were rounded from.

  Args:
    x: float [...] in [-1, 1], v / 127.5 - 1 with v in 0..255.
    num_levels: L.

  Returns:
    float32 [...], the nearest of L greys.

  Raises:
    ValueError: if L is above 256, x is not of 8 bits, or the values in it are
      not L greys, rounded. Fewer greys than L are no error.
  """
  width = grey_width(num_levels)
  if num_levels > 256:
    raise ValueError(
      f"num_levels={num_levels}, but images are read with 8 bits; at most 256"
    )
  scaled = (np.float64(x) + 1) * 127.5
  rounded = np.clip(np.round(scaled), 0, 255)
  farthest = np.abs(scaled - rounded).max(initial=0)
  if not farthest < 1e-3:  # what float32 does to x is a hundredth of it
    raise ValueError(
      f"a pixel is {farthest:.3g} away from the nearest of the values 0..255; "
      "give images as they are read, x / 127.5 - 1"
    )
  # The rest is known from which of the 256 values there are.
  levels = np.round(np.arange(256) * ((num_levels - 1) / 255)).astype(int)
  index = rounded.astype(np.uint8)
  values = np.flatnonzero(np.bincount(index.reshape(-1), minlength=256))
  _check_values(values, levels[values], num_levels)
  return np.float32(levels * width - 1)[index]
