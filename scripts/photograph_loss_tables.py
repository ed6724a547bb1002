# SPDX-License-Identifier: Apache-2.0
"""Tables of the ablations on photographs, by the held-out loss by log-SNR."""

from scripts import photograph_runs
from scripts import protocols
from scripts import results

# Studies of the form `small` with a table here, and the images' sizes.
SIZES_OF_SMALL = {
  "table2": (64, 128, 256),
  "table3": (64,),
  "table4": (64,),
  "table5": (64, 128),
  "width": (128,),
}

# Studies on flowers.
OF_FLOWERS = (
  (128, "table2", "small"),
  (64, "table2", "sampled"),
  (64, "table3", "sampled"),
  (64, "table4", "sampled"),
  (64, "table5", "sampled"),
  (64, "table6", "sampled"),
  (64, "weighting", "sampled"),
)


def table(args: dict[str, dict], data: str = photograph_runs.CLOTHING) -> str:
  """v-MSE, a row for each bin of log-SNR and a column for each point.

  Args:
    args: of configs/photographs.py, with the changes of the model in which the
      runs differ from it.
    data: of which photographs; those of one are columns enough.
  """
  points = [
    (f"{arg.partition(',')[0]}: {name}" if len(args) > 1 else name, runs)
    for arg, of_data, name, runs in photograph_runs.studies(
      args, results.lines("photographs")
    )
    if of_data == data
  ]
  if not points:
    return "Not yet run."
  return by_logsnr(points)


def by_logsnr(points: list[tuple[str, list[dict]]]) -> str:
  """v-MSE by bin of log-SNR, of names and their runs."""
  header, by_point = zip(*points, strict=True)
  losses = [photograph_runs.v_mse_by_logsnr(runs) for runs in by_point]
  rows = [
    ("seeds", *(str(len(runs)) for runs in by_point)),
    ("steps", *(f"{runs[0]['checkpoint_step']:,}" for runs in by_point)),
  ]
  for low, high in photograph_runs.shared_bins(losses):
    cells = [photograph_runs.cell(bins[low, high], 3) for bins in losses]
    rows.append((f"{low:g} to {high:g}", *cells))
  all_runs = [r for runs in by_point for r in runs]
  what = protocols.held_out_loss(photograph_runs.folder(all_runs[0]), all_runs)
  return (
    f"{results.markdown(('log-SNR', *header), rows)}\n\nv-MSE of {what}; "
    f"{results.where(*(r['environment'] for r in all_runs))}."
  )


def _maker(name, args, **kwargs):
  def make():
    return table(args, **kwargs)

  make.__name__ = f"photographs_{name}"
  return make


MAKERS = (
  _maker(
    "table2_loss",
    {
      "64,table2": {},
      "128,table2": {},
      "256,table2": photograph_runs.NARROW,
    },
  ),
  *(
    _maker(f"{study}_small_loss_{size}", {f"{size},{study},small": {}})
    for study, sizes in SIZES_OF_SMALL.items()
    for size in sizes
  ),
  *(
    _maker(f"{study}_sampled_loss_{size}", {f"{size},{study},sampled": {}})
    for study, sizes in photograph_runs.SIZES_OF_SAMPLED.items()
    for size in sizes
  ),
  *(
    _maker(
      f"{study}_{form}_loss_{size}_flowers",
      {f"{size},{study},{form}": {}},
      data=photograph_runs.FLOWERS,
    )
    for size, study, form in OF_FLOWERS
  ),
  _maker("table6_loss", {"64,table6": {}}),
  _maker("weighting_loss", {"64,weighting": {}}),
)
