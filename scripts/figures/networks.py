# SPDX-License-Identifier: Apache-2.0
"""The paper's U-Net and U-ViT at 512 pixels, with what each level costs.

Drawn from configs/imagenet.py: maps, channels, parameters and multiply-adds are
those of the traced network.
"""

from matplotlib import patches

from configs import imagenet
from scripts.figures import canvas as canvas_lib
from scripts.figures import levels as levels_lib
from simple_diffusion import build

# Places on the page, in its pixels.
DOWN, UP, BARS = 118, 412, 610
WIDTH, HEIGHT, ROW = 152, 44, 62  # of a box, and from level to level
TOP = 92  # of the first level
LONGEST = 95  # a bar that is all of the network

PARAMS, MACS = canvas_lib.SKY, canvas_lib.ORANGE
CONVOLUTIONS, TRANSFORMER = f"{canvas_lib.BLUE}40", f"{canvas_lib.GREEN}60"


def _box(axes, x, y, width, height, colour, text):
  axes.add_patch(
    patches.FancyBboxPatch(
      (x, y),
      width,
      height,
      boxstyle="round,pad=0,rounding_size=4",
      facecolor=colour,
      edgecolor="none",
    )
  )
  axes.text(
    x + width / 2, y + height / 2, text, size=12.5, ha="center", va="center"
  )


def _arrow(axes, start, end, style="-", colour=canvas_lib.GREY):
  axes.annotate(
    "",
    end,
    start,
    arrowprops=dict(
      arrowstyle="->", linestyle=style, color=colour, shrinkA=0, shrinkB=0
    ),
  )


def _count(number) -> str:
  unit, name = (1e9, "B") if number >= 1e9 else (1e6, "M")
  return f"{number / unit:.3g} {name}"


def _bars(axes, y, level, total_params, total_macs):
  """Parameters and multiply-adds of a level, as shares of the network's."""
  for offset, value, total, colour, text in (
    (0, level.params, total_params, PARAMS, _count(level.params)),
    (22, level.macs, total_macs, MACS, f"{level.macs / 1e9:.0f} G"),
  ):
    share = value / total
    axes.barh(
      y + offset + 11, LONGEST * share, 16, left=BARS, color=colour, linewidth=0
    )
    axes.text(
      BARS + LONGEST * share + 6,
      y + offset + 11,
      f"{text}, {share:.0%}" if share >= 0.005 else f"{text}, <1%",
      size=12.5,
      va="center",
    )


def _level(axes, y, level, network):
  """The boxes of one level, with the skips between them."""
  side = f"{level.resolution} x {level.resolution}"
  axes.text(14, y + HEIGHT / 2, side, size=14, va="center", weight="bold")
  if not level.blocks:
    text = (
      f"{network.num_transformer_blocks} transformer blocks, {level.channels} "
      f"wide\n{level.resolution**2} tokens, {network.num_heads} heads, no skips"
    )
    _box(axes, DOWN, y, UP + WIDTH - DOWN, HEIGHT, TRANSFORMER, text)
    return
  attention = " + attention" if level.attention else ""
  for x, way in ((DOWN, "down"), (UP, "up")):
    text = f"{level.blocks[way]} blocks{attention}\n{level.channels} channels"
    _box(axes, x, y, WIDTH, HEIGHT, CONVOLUTIONS, text)
  left, gap, skip = DOWN + WIDTH, UP - DOWN - WIDTH, y + HEIGHT / 2
  if "middle" in level.blocks:
    start, end = left + gap / 4, UP - gap / 4
    text = f"{level.blocks['middle']} blocks"
    low, skip = y + HEIGHT * 5 / 8, y + HEIGHT / 8
    _box(axes, start, y + HEIGHT * 3 / 8, gap / 2, 22, CONVOLUTIONS, text)
    _arrow(axes, (left, low), (start, low))
    _arrow(axes, (end, low), (UP, low))
  _arrow(axes, (left, skip), (UP, skip), style="--")


def _captions(axes, config, top_level, params, macs):
  """What goes in and out, and the network's totals."""
  height, width, channels = build.image_shape(config)
  image = f"{height} x {width} x {channels}"
  patched = channels * (height // top_level.resolution) ** 2
  into = f"{image}\n{config.model.patching} to {patched} channels"
  for x, text in ((DOWN, into), (UP, f"{image}\nthe inverse")):
    at = (x + WIDTH / 2, TOP - 40)
    axes.text(*at, text, size=12.5, ha="center", va="center")
  _arrow(axes, (DOWN + WIDTH / 2, TOP - 20), (DOWN + WIDTH / 2, TOP))
  _arrow(axes, (UP + WIDTH / 2, TOP), (UP + WIDTH / 2, TOP - 20))
  for y, colour, text in (
    (TOP - 52, PARAMS, f"{_count(params)} parameters"),
    (TOP - 30, MACS, f"{macs / 1e9:.0f} G multiply-adds"),
  ):
    axes.barh(y, 10, 12, left=BARS, color=colour, linewidth=0)
    axes.text(BARS + 18, y, text, size=14, va="center")


def draw(arg: str, title: str):
  """The network of configs/imagenet.py:<arg>."""
  config = imagenet.get_config(arg)
  network = build.make_network(config.model)
  levels, params, macs = levels_lib.of(network, build.image_shape(config))
  canvas = canvas_lib.blank(TOP + ROW * len(levels))
  axes = canvas_lib.axes_of_pixels(canvas)
  axes.text(14, 20, title, size=16, va="center", weight="bold")
  _captions(axes, config, levels[0], params, macs)
  for i, level in enumerate(levels):
    y = TOP + ROW * i
    _level(axes, y, level, network)
    _bars(axes, y, level, params, macs)
    if i:
      above = y - ROW + HEIGHT
      _arrow(axes, (DOWN + WIDTH / 2, above), (DOWN + WIDTH / 2, y))
      _arrow(axes, (UP + WIDTH / 2, y), (UP + WIDTH / 2, above))
  return canvas
