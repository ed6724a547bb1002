# SPDX-License-Identifier: Apache-2.0
"""Table 2 by the loss of small networks: by the same factor at each size."""

from scripts import photograph_runs
from scripts import results
from scripts.figures import canvas as canvas_lib
from scripts.figures import measured
from scripts.figures import plots

COMMAND = (
  "python -m scripts.sweep run --config=configs/photographs.py:128,table2,small"
  " --config.data.data_dir=data/clothing --root=runs/table2_128_small"
)

# By the images' size: colour, mark.
SIZES = {
  64: (canvas_lib.VERMILION, "o"),
  128: (canvas_lib.BLUE, "s"),
  256: (canvas_lib.GREEN, "^"),
}

# Title and reference at the noisy end; that at the other end is the same or the
# size. A shift to 32 is by another factor at each size, one to its half is not.
PANELS = {
  "shifted to half the size": lambda size: (size / 2, size / 2),
  "interpolated, from 32": lambda size: (32.0, float(size)),
}


def ratios(size: int, found: list[dict]) -> dict:
  """By panel {(low, high): loss against the cosine's, of each shared seed}.

  Of photographs of clothes; a panel is there if both schedules were run.
  """
  arg = f"{size},table2,small"
  by_name = {
    name: {r["config"]["train"]["seed"]: r for r in runs}
    for _, data, name, runs in photograph_runs.studies({arg: {}}, found)
    if data == "clothing"
  }
  cosine = by_name.get("cosine", {})
  of_panel = {}
  for title, references in PANELS.items():
    other = by_name.get(
      photograph_runs.schedule_name(size, *references(size)), {}
    )
    seeds = sorted(cosine.keys() & other.keys())
    if seeds:
      of_panel[title] = against(
        [other[seed] for seed in seeds], [cosine[seed] for seed in seeds]
      )
  return of_panel


def against(runs: list[dict], base: list[dict]) -> dict:
  """{(low, high): v-MSE of each run by that of its base}, of shared bins."""
  mine, theirs = map(photograph_runs.v_mse_by_logsnr, (runs, base))
  return {
    bin_: [a / b for a, b in zip(mine[bin_], theirs[bin_], strict=True)]
    for bin_ in mine
    if bin_ in theirs
  }


def draw():
  found = results.lines("photographs")
  by_size = {size: ratios(size, found) for size in SIZES}
  if not any(by_size.values()):
    raise measured.NotYetRun(COMMAND)
  canvas = canvas_lib.blank(330)
  for i, title in enumerate(PANELS):
    axes = plots.panel(
      canvas,
      (0.09 + 0.465 * i, 0.19, 0.43, 0.63),
      title=title,
      x="log-SNR",
      y="" if i else "loss against the cosine's",
    )
    if i:
      axes.sharex(canvas.axes[0])
      axes.sharey(canvas.axes[0])
      axes.tick_params(labelleft=False)
    axes.set_xticks(range(-15, 16, 3))
    axes.axhline(1, color=canvas_lib.GREY, linewidth=1)
    for size, (colour, mark) in SIZES.items():
      bins = by_size[size].get(title)
      if not bins:
        continue
      means, errors = zip(
        *map(photograph_runs.mean_and_error, bins.values()), strict=True
      )
      axes.errorbar(
        [(low + high) / 2 for low, high in bins],
        means,
        # Of one seed there is none.
        yerr=[e if e == e else 0 for e in errors],
        color=colour,
        marker=mark,
        capsize=4,
        label=f"{size} pixels",
      )
  plots.shared_legend(
    canvas, loc="upper center", ncols=3, bbox_to_anchor=(0.5, 1.02)
  )
  return canvas
