# SPDX-License-Identifier: Apache-2.0
"""Table 2 on photographs: a shift to 32 against no shift, seed by seed."""

from configs import photographs
from scripts import photograph_loss_ratios
from scripts import photograph_runs
from scripts import photograph_tables
from scripts.figures import canvas as canvas_lib
from scripts.figures import measured
from scripts.figures import plots

COMMAND = (
  "python -m scripts.sweep run --config=configs/photographs.py:128,table2 "
  "--config.data.data_dir=data/clothing --root=runs/table2_128"
)

# By the images' size: colour, mark.
SIZES = {
  64: (canvas_lib.VERMILION, "o"),
  128: (canvas_lib.BLUE, "s"),
  256: (canvas_lib.GREEN, "^"),
}

# By the network's width, its loss and its mark: the form of the study.
WIDTHS = {"full width, v-MSE ●": "", "half width, sigmoid ○": ",sampled"}


def schedules(size: int, form: str, found: list[dict]) -> dict:
  """{"cosine": runs, "shifted to 32": runs} on clothes, if there are of both.

  At 256 in full width of the narrow network, as long as the config's has none.
  """
  names = ("cosine", "shifted to 32")
  arg = f"{size},table2{form}"
  tried = [{}, photograph_runs.NARROW] if (size, form) == (256, "") else [{}]
  for changes in tried:
    by_name = photograph_runs.by_name(arg, found, **changes)
    if by_name.keys() >= set(names):
      return {name: by_name[name] for name in names}
  return {}


def by_width(found: list[dict]) -> dict:
  """{width: {size: `schedules`}} of the sizes that have both."""
  of_all = {
    width: {size: schedules(size, form, found) for size in photographs.PATCHING}
    for width, form in WIDTHS.items()
  }
  return {
    width: {size: runs for size, runs in of_sizes.items() if runs}
    for width, of_sizes in of_all.items()
  }


def draw_seeds(axes, x, values, **style):
  """Mean and standard error of each point's seeds; of one seed no bar."""
  means, errors = zip(*map(photograph_runs.mean_and_error, values), strict=True)
  axes.errorbar(x, means, yerr=errors, **style)


def draw_by_logsnr(axes, bins, **style):
  """Of {(low, high): values of seeds}, in the middle of each bin."""
  middles = [(low + high) / 2 for low, high in bins]
  draw_seeds(axes, middles, bins.values(), **style)


def draw():
  found = by_width(photograph_runs.with_samples())
  if not any(found.values()):
    raise measured.NotYetRun(COMMAND)
  canvas = canvas_lib.blank(330)
  distances = plots.panel(
    canvas,
    (0.09, 0.19, 0.2, 0.63),
    title="kernel distance",
    x="pixels",
    y="shift / no shift",
  )
  distances.set_xticks(range(len(SIZES)), [str(size) for size in SIZES])
  distances.set_xlim(-0.5, len(SIZES) - 0.5)
  all_axes = [distances]
  for i, (width, of_sizes) in enumerate(found.items()):
    losses = plots.panel(
      canvas,
      (0.365 + 0.325 * i, 0.19, 0.3, 0.63),
      title=f"loss, {width}",
      x="log-SNR",
    )
    losses.set_xticks(range(-12, 13, 6))
    if i:
      losses.sharey(all_axes[-1])
      losses.tick_params(labelleft=False)
    all_axes.append(losses)
    for size, runs in of_sizes.items():
      cosine, shifted = runs.values()
      colour, mark = SIZES[size]
      style = dict(
        color=colour,
        marker=mark,
        capsize=4,
        markerfacecolor="white" if i else colour,
      )
      draw_seeds(
        distances,
        [list(SIZES).index(size) + 0.24 * (i - 0.5)],
        [photograph_tables.kernel_ratios(shifted, cosine)],
        markersize=9,
        **style,
      )
      draw_by_logsnr(
        losses,
        photograph_loss_ratios.against(shifted, cosine),
        label=f"{size} pixels",
        **style,
      )
  for axes in all_axes:
    axes.axhline(1, color=canvas_lib.GREY, linewidth=1)
  plots.shared_legend(
    canvas, loc="upper center", ncols=3, bbox_to_anchor=(0.5, 1.02)
  )
  return canvas
