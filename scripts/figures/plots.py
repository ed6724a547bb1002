# SPDX-License-Identifier: Apache-2.0
"""Axes of curves as all figures of measurements have them."""


def panel(canvas, place, *, title="", x="", y=""):
  """Axes at (left, bottom, width, height) of the figure, readable and plain."""
  axes = canvas.add_axes(place)
  axes.set_title(title, size=16)
  axes.set_xlabel(x, size=15)
  axes.set_ylabel(y, size=15)
  axes.tick_params(labelsize=14)
  axes.grid(alpha=0.3)
  axes.spines[["top", "right"]].set_visible(False)
  return axes


def legend(axes, **options):
  """Names of the curves, without a box."""
  return axes.legend(**({"fontsize": 13, "frameon": False} | options))


def shared_legend(canvas, where=None, **options):
  """The same of all axes of a figure, each name once; in one of them or not."""
  named = {}
  for axes in canvas.axes:
    for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
      named.setdefault(label, handle)
  return legend(
    where or canvas,
    handles=list(named.values()),
    labels=list(named),
    **options,
  )
