# SPDX-License-Identifier: Apache-2.0
"""Guidance near one of U-Nets of half the width: table 9 at a small scale."""

from scripts import photograph_protocols
from scripts import photograph_runs
from scripts import photograph_tables
from scripts import protocols
from scripts import results

# Records of other studies of this size and form count too: each has this point.
ARG = "64,table2,sampled"

GUIDANCE = ("sample.guidance_scale", "sample.guidance_interval")
NONE = "1"


def by_guidance() -> dict[str, list[dict]]:
  """Guidance -> its runs on clothes, one a seed; smallest scale first."""
  found = photograph_protocols.most(
    [
      r
      for r in photograph_runs.finished_of(
        ARG, {}, photograph_runs.with_samples(), apart=GUIDANCE
      )
      if photograph_runs.folder(r) == photograph_runs.CLOTHING
    ]
  )
  photograph_protocols.require_same_images(found, f"guidance of {ARG}")
  runs = {}
  for r in sorted(found, key=lambda r: r["samples"]["guidance_scale"]):
    runs.setdefault(protocols.guidance(r["samples"]), []).append(r)
  return {
    name: photograph_runs.by_data_and_seed(of)[photograph_runs.CLOTHING]
    for name, of in runs.items()
  }


def photographs_guidance() -> str:
  """A row for each guidance, its seeds together."""
  of = by_guidance()
  if len(of) < 2:
    return "Not yet run."
  unguided = of.get(NONE, [])
  rows = []
  for name, runs in of.items():
    against = []
    if name != NONE:
      against = photograph_tables.kernel_ratios(runs, unguided)
    rows.append(
      (
        name,
        str(len(runs)),
        f"{runs[0]['checkpoint_step']:,}",
        *photograph_tables.cells(runs),
        photograph_runs.percent(against) if against else "",
      )
    )
  header = (
    "guidance",
    "seeds",
    "steps",
    *(name for name, *_ in photograph_tables.COLUMNS),
    "kernel, held out, against none",
  )
  every = [r for runs in of.values() for r in runs]
  r = every[0]
  s, size = r["samples"], r["config"]["data"]["image_size"]
  return (
    f"{results.markdown(header, rows)}\n\n"
    f"Steps of {r['config']['train']['batch_size']} images; "
    f"{s['num_network_evaluations']} evaluations of {s['method']} uniform in "
    f"{s['spacing']}, with guidance twice as many, EMA {r['ema_decay']:g}. "
    f"{protocols.measures({f'{photograph_runs.CLOTHING}, {size} pixels': r})} "
    f"{results.where(*(r['environment'] for r in every))}."
  )


MAKERS = (photographs_guidance,)
