# SPDX-License-Identifier: Apache-2.0
"""Tables of docs/likelihood.md, from experiments/results/likelihood.jsonl."""

import json

from flax import traverse_util

from experiments import workdir
from scripts import photograph_runs
from scripts import results


def _data_set(record) -> str:
  """Its name; of images in a folder the folder's."""
  name = record["config"]["data"]["name"]
  return photograph_runs.folder(record) if name == "folder" else name


def _settings(record) -> dict:
  """What makes a training another one, by dotted keys."""
  config = workdir.immutable(record["config"])
  return traverse_util.flatten_dict(config, sep=".")


def measurements() -> list[dict]:
  """The newest of each data set, split, protocol, run and step, in order."""
  newest = {}
  for record in results.lines("likelihood"):
    newest[
      _data_set(record),
      record["split"],
      record["num_examples"],
      json.dumps(record["protocol"], sort_keys=True),
      json.dumps(_settings(record), sort_keys=True),
      record["checkpoint_step"],
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


def _runs(records) -> list[str]:
  """Each record's config, by what not all of its data set have."""
  of_data = {}
  for r in records:
    of_data.setdefault(_data_set(r), []).append(_settings(r))
  names = {
    data: [
      name
      for name in sorted(set().union(*found))
      if any(settings.get(name) != found[0].get(name) for settings in found)
    ]
    for data, found in of_data.items()
  }
  return [
    ", ".join(f"{n} {_settings(r).get(n)}" for n in names[_data_set(r)])
    for r in records
  ]


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
  runs = _runs(records)
  if any(runs):
    by = [{"config": run, **each} for run, each in zip(runs, by, strict=True)]
  # A column that says the same of all rows is for the text.
  shared = [name for name in by[0] if len({each[name] for each in by}) == 1]
  rows = [
    (
      f"{_data_set(r)}, `{r['split']}`, {r['num_examples']:,}",
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
