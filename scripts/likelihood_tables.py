# SPDX-License-Identifier: Apache-2.0
"""Tables of docs/likelihood.md, from experiments/results/likelihood.jsonl."""

import json

from scripts import results


def measurements() -> list[dict]:
  """The newest of each data set, split, protocol and network, in order."""
  newest = {}
  for record in results.lines("likelihood"):
    newest[
      record["config"]["data"]["name"],
      record["split"],
      record["num_examples"],
      json.dumps(record["protocol"], sort_keys=True),
      json.dumps(record["config"]["model"], sort_keys=True),
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


def _networks(records) -> list[str]:
  """Each record's network, by what not all of them have."""
  models = [r["config"]["model"] for r in records]
  names = [
    name
    for name in sorted({name for model in models for name in model})
    if any(model.get(name) != models[0].get(name) for model in models)
  ]
  return [", ".join(f"{n} {model.get(n)}" for n in names) for model in models]


def _measured_by(record) -> dict[str, str]:
  """What else the number depends on."""
  protocol, environment = record["protocol"], record["environment"]
  return {
    "greys": str(protocol["num_levels"]),
    "step": f"{record['checkpoint_step']:,}",
    "EMA": str(record["ema_decay"]),
    "seed": str(protocol["seed"]),
    "device": environment["devices"][0],
    "commit": environment["git_sha"],
  }


def likelihood() -> str:
  """Bits per dimension by bound."""
  records = measurements()
  if not records:
    return "Not yet run."
  by = [_measured_by(r) for r in records]
  networks = _networks(records)
  if any(networks):
    by = [{"network": n, **each} for n, each in zip(networks, by, strict=True)]
  # A column that says the same of all rows is for the text.
  shared = [name for name in by[0] if len({each[name] for each in by}) == 1]
  rows = [
    (
      f"{r['config']['data']['name']}, `{r['split']}`, {r['num_examples']:,}",
      _bound(r["protocol"]),
      f"{r['protocol']['logsnr_end']:.2f}",
      "yes" if r["protocol"]["conditional"] else "no",
      _with_error(r),
      _parts(r),
      *(value for name, value in each.items() if name not in shared),
    )
    for r, each in zip(records, by, strict=True)
  ]
  header = (
    "images",
    "bound",
    "log-SNR of z_0",
    "class given",
    "bits/dim",
    "of it: prior + diffusion + reconstruction",
    *(name for name in by[0] if name not in shared),
  )
  text = "± is the standard error over images."
  if shared:
    each = ", ".join(f"{name} {by[0][name]}" for name in shared)
    text += f" All rows: {each}."
  return f"{results.markdown(header, rows)}\n\n{text}"
