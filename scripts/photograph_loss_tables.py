# SPDX-License-Identifier: Apache-2.0
"""Tables of the ablations on photographs, by the held-out loss by log-SNR."""

from scripts import photograph_runs
from scripts import results


def columns(args: dict[str, dict]) -> list[tuple]:
  """(name, runs) of the points of studies, on photographs of clothes.

  Args:
    args: of configs/photographs.py, with the changes of the model in which the
      runs differ from it.
  """
  found = results.lines("photographs")
  several = len(args) > 1
  return [
    (f"{arg.partition(',')[0]}: {name}" if several else name, runs)
    for arg, changes in args.items()
    for data, name, runs in photograph_runs.study(arg, found, **changes)
    if data == "clothing"
  ]


def table(args: dict[str, dict]) -> str:
  """v-MSE, a row for each bin of log-SNR and a column for each point."""
  points = columns(args)
  if not points:
    return "Not yet run."
  header, by_point = zip(*points, strict=True)
  losses = [photograph_runs.v_mse_by_logsnr(runs) for runs in by_point]
  rows = [("seeds", *(str(len(runs)) for runs in by_point))]
  # Not those that the end of one schedule cuts and that of another doesn't.
  shared = [bin_ for bin_ in losses[0] if all(bin_ in bins for bins in losses)]
  for low, high in shared:
    cells = [photograph_runs.cell(bins[low, high], 3) for bins in losses]
    rows.append((f"{low:g} to {high:g}", *cells))
  newest = by_point[-1][-1]
  return (
    f"{results.markdown(('log-SNR', *header), rows)}\n\n"
    "v-MSE of held-out photographs of clothes after "
    f"{newest['checkpoint_step']:,} steps of "
    f"{newest['config']['train']['batch_size']} images; "
    f"{results.where(newest['environment'])}."
  )


def _maker(name, args):
  def make():
    return table(args)

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
  _maker("table3_loss", {"64,table3,small": {}}),
  _maker("table4_loss", {"64,table4,small": {}}),
  _maker("table5_loss", {"64,table5,small": {}}),
  _maker("table6_loss", {"64,table6": {}}),
  _maker("weighting_loss", {"64,weighting": {}}),
  _maker("width", {"64,width": {}}),
)
