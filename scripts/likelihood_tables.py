# SPDX-License-Identifier: Apache-2.0
"""Tables of docs/likelihood.md, from experiments/results/likelihood.jsonl."""

import json

from scripts import results


def measurements() -> list[dict]:
  """The newest record of each data set, split and protocol, split by split."""
  newest = {}
  for record in results.lines("likelihood"):
    newest[
      record["config"]["data"]["name"],
      record["split"],
      record["num_examples"],
      json.dumps(record["protocol"], sort_keys=True),
    ] = record
  return [
    record for _, record in sorted(newest.items(), key=lambda r: r[0][:2])
  ]


def _with_error(record, name="bits_per_dim") -> str:
  error = record["standard_errors"][name]
  return f"{record[name]:.3f} ± {error:.3f}" if error else f"{record[name]:.3f}"


def _bound(protocol) -> str:
  steps = protocol["num_steps"]
  if protocol["bound"] == "ode":
    probes = protocol["num_probes"]
    trace = "exact trace" if probes is None else f"{probes} probe"
    trace += "s" if probes not in (None, 1) else ""
    return f"ODE, {protocol['dequantisation']}, {steps} steps, {trace}"
  steps = "continuous time" if steps is None else f"{steps} steps"
  clip = "x_hat clipped" if protocol["clip"] else "not clipped"
  return f"VLB, {steps}, {clip}, {protocol['num_samples']} levels"


def _parts(record) -> str:
  """What else is known of the number."""
  if record["protocol"]["bound"] == "ode":
    return f"with half the steps {record['at_half_the_steps']:.3f}"
  names = ("prior", "diffusion", "reconstruction")
  return " + ".join(f"{record[name]:.3f}" for name in names)


def likelihood() -> str:
  """Bits per dimension by bound."""
  records = measurements()
  if not records:
    return "Not yet run."
  rows = [
    (
      f"{r['config']['data']['name']}, `{r['split']}`, {r['num_examples']:,}",
      _bound(r["protocol"]),
      f"{r['protocol']['logsnr_end']:.2f}",
      "yes" if r["protocol"]["conditional"] else "no",
      _with_error(r),
      _parts(r),
    )
    for r in records
  ]
  header = (
    "images",
    "bound",
    "log-SNR of z_0",
    "class given",
    "bits/dim",
    "of it: prior + diffusion + reconstruction",
  )
  table = results.markdown(header, rows)
  last = records[-1]
  environment = last["environment"]
  levels = sorted({r["protocol"]["num_levels"] for r in records})
  return (
    f"{table}\n\nGreys: {', '.join(map(str, levels))}; ± is the standard error "
    f"over images. Step {last['checkpoint_step']:,}, EMA {last['ema_decay']}, "
    f"seed {last['protocol']['seed']}; {environment['devices'][0]}, commit "
    f"{environment['git_sha']}."
  )
