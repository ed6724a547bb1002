# SPDX-License-Identifier: Apache-2.0
"""Table 2 by the loss of small networks, against the cosine's, by size."""

from scripts import photograph_loss_ratios
from scripts import results
from scripts.figures import canvas as canvas_lib
from scripts.figures import measured
from scripts.figures import photograph_schedules
from scripts.figures import plots

COMMAND = (
  "python -m scripts.sweep run --config=configs/photographs.py:128,table2,small"
  " --config.data.data_dir=data/clothing --root=runs/table2_128_small"
)


def draw():
  found = results.lines("photographs")
  by_size = {
    size: photograph_loss_ratios.schedules(size, found)
    for size in photograph_schedules.SIZES
  }
  if not any(by_size.values()):
    raise measured.NotYetRun(COMMAND)
  canvas = canvas_lib.blank(330)
  for i, title in enumerate(photograph_loss_ratios.SCHEDULES):
    axes = plots.panel(
      canvas,
      (0.09 + 0.31 * i, 0.19, 0.28, 0.63),
      title=title,
      x="log-SNR",
      y="" if i else "loss against the cosine's",
    )
    if i:
      axes.sharex(canvas.axes[0])
      axes.sharey(canvas.axes[0])
      axes.tick_params(labelleft=False)
    axes.set_xticks(range(-12, 13, 6))
    axes.axhline(1, color=canvas_lib.GREY, linewidth=1)
    for size, (colour, mark) in photograph_schedules.SIZES.items():
      bins = by_size[size].get(title)
      if bins and photograph_loss_ratios.is_apart(size, title):
        photograph_schedules.draw_by_logsnr(
          axes,
          bins,
          color=colour,
          marker=mark,
          capsize=4,
          label=f"{size} pixels",
        )
  plots.shared_legend(
    canvas, loc="upper center", ncols=3, bbox_to_anchor=(0.5, 1.02)
  )
  return canvas
