# SPDX-License-Identifier: Apache-2.0
"""The numbers and words of a figure, which its PNG has beside the pixels.

A point that moves by what a text makes a claim of, a bar of the error for
instance, changes fewer pixels than another machine's rounding of a photograph.
"""

import json

from matplotlib import contour
from matplotlib import ticker
import numpy as np

# Of the numbers of a curve, those at equal distances: enough to tell it.
MAX_OF_A_CURVE = 100
# What `set_xticks` makes of labels.
NAMES = (ticker.FixedFormatter, ticker.FuncFormatter)
# Of a curve's largest number; a machine's rounding is far below.
TOLERANCE = 1e-3


def _curves(axes):
  """Arrays [N, 2] of the points of all lines, patches and collections."""
  for line in axes.lines:
    yield line.get_xydata()
  for patch in axes.patches:
    yield patch.get_patch_transform().transform(patch.get_path().vertices)
  for collection in axes.collections:
    # Rounding gives contours other vertices; their pixels tell enough.
    if isinstance(collection, contour.ContourSet):
      continue
    yield collection.get_offsets()
    for path in collection.get_paths():
      yield path.vertices


def _thinned(curve) -> list:
  """At most MAX_OF_A_CURVE points, five digits of each number."""
  curve = np.ma.filled(np.ma.asarray(curve, np.float64), np.nan)
  curve = curve[:: -(-len(curve) // MAX_OF_A_CURVE)]
  return [[float(f"{number:.5g}") for number in point] for point in curve]


def of(canvas) -> str:
  """JSON of a figure's curves and words."""
  curves = [
    _thinned(curve)
    for axes in canvas.axes
    for curve in _curves(axes)
    if np.isfinite(curve).any()  # Not the offsets of bars, which have none.
  ]
  words = [text.get_text() for text in canvas.texts]
  for legend in canvas.legends:
    words += [text.get_text() for text in legend.get_texts()]
  for axes in canvas.axes:
    for axis in (axes.xaxis, axes.yaxis):
      # Names in place of numbers, which the points tell.
      if isinstance(axis.get_major_formatter(), NAMES):
        words += [label.get_text() for label in axis.get_ticklabels()]
    words += [axes.get_title(), axes.get_xlabel(), axes.get_ylabel()]
    words += [text.get_text() for text in axes.texts]
    words += axes.get_legend_handles_labels()[1]
  return json.dumps({"curves": curves, "words": list(filter(None, words))})


def difference(old: str, new: str) -> str | None:
  """How two figures' `of` differ, or None."""
  if not old:
    return "has no numbers yet"
  old, new = json.loads(old), json.loads(new)
  if old["words"] != new["words"]:
    return f"has the words {old['words']}, drawn again {new['words']}"
  curves, others = ([np.array(c) for c in f["curves"]] for f in (old, new))
  if [c.shape for c in curves] != [c.shape for c in others]:
    return "has more or fewer curves, or points, than drawn again"
  for one, other in zip(curves, others, strict=True):
    # Over each of x and y, for their units differ; of zeros their own.
    scale = np.abs(np.nan_to_num(one)).max(axis=0)
    atol = TOLERANCE * np.where(scale > 0, scale, 1)
    close = np.isclose(one, other, rtol=0, atol=atol, equal_nan=True)
    if not close.all():
      i, j = np.argwhere(~close)[0]
      return f"has a point at {one[i, j]:g}, drawn again at {other[i, j]:g}"
  return None
