# SPDX-License-Identifier: Apache-2.0
"""Makers of the README's tables, and of those of the losses."""

from scripts import paper_results
from scripts import paper_rows
from scripts import protocols
from scripts import results


def digits() -> str:
  """Quality of the demo's samples."""
  record = results.newest("digits")
  if record is None:
    return "Not yet run."
  s = record["samples"]
  protocol = (
    f"{s['num_samples']:,} samples of step {record['checkpoint_step']:,} (EMA "
    f"{record['ema_decay']}), {s['method']}, {s['num_steps']} steps "
    f"({protocols.evaluations(s)} network evaluations), guidance "
    f"{s['guidance_scale']}, seed {s['seed']}; features of "
    f"{s['features']['name']} ({s['features']['weights_hash']}), "
    f"{record['num_held_out']} held-out digits ({record['held_out_hash']}) and "
    f"those of training ({s['train_hash']}); commit "
    f"{record['environment']['git_sha']}."
  )
  rows = [
    (
      "agreement of a classifier with the class asked for",
      f"{s['class_agreement']:.1%}",
      f"{s['classifier_accuracy']:.1%} (held-out digits)",
    ),
    (
      "Frechet distance to held-out digits, in the classifier's features",
      f"{s['frechet_samples']:.2f}",
      f"{s['frechet_train']:.2f} (training digits)",
    ),
    (
      "distance to the nearest training digit, median",
      f"{s['nearest_samples']:.2f}",
      f"{s['nearest_held_out']:.2f} (held-out digits)",
    ),
    (
      "the same, first percentile",
      f"{s['nearest_samples_p01']:.2f}",
      f"{s['nearest_held_out_p01']:.2f} (held-out digits)",
    ),
  ]
  header = ("digits, 8 x 8", "samples", "real data")
  return f"{results.markdown(header, rows)}\n\n{protocol}"


def imagenet() -> str:
  """The paper's rows, with the command of each."""
  network = {"uvit": "U-ViT 2B", "unet": "U-Net"}
  rows = [
    (
      f"{network[row.config.rpartition(',')[2]]}, {row.size} x {row.size}",
      f"`--config={row.config}`",
      row.fid,
      paper_results.measured(row),
    )
    for row in paper_rows.HEADLINES
  ]
  header = ("ImageNet", "config", "paper: FID train / eval", "ours")
  notes = paper_results.notes(paper_rows.HEADLINES)
  return results.markdown(header, rows) + notes


def benchmark() -> str:
  """The training step against plain code."""
  record = results.newest("benchmark", benchmark="train_step")
  if record is None:
    return "Not yet run."
  environment = record["environment"]
  return (
    f"Training step of `{record['config']}` against the same network written "
    f"in the plainest way: {record['step_ratio']:.2f} of its time; waiting for "
    f"data: {max(0.0, record['data_wait']):.1%} of the step "
    f"({record['rounds']} alternations; {environment['devices'][0]}, "
    f"{environment['num_cores']} cores, jax {environment['versions']['jax']})."
  )


def _changes(command: list[str]) -> str:
  """What a command has another than the config, but for mesh and batch."""
  prefix = "--config."
  columns = ("--config.mesh.", "--config.train.batch_size=")
  found = [
    arg.removeprefix(prefix)
    for arg in command
    if arg.startswith(prefix) and not arg.startswith(columns)
  ]
  return "".join(f" `{change}`" for change in found)


def bench_step() -> str:
  """Speed of the training step by config and device, and variants of it."""
  newest_of = {}
  for r in results.lines("bench_step"):
    e = r["environment"]
    key = (
      r["config"],
      _changes(e["command"]),
      r["parameters"],
      r["batch_size"],
      tuple(e["devices"]),
      e["xla_flags"],
    )
    newest_of.pop(key, None)  # Back at the end: in order of the last run.
    newest_of[key] = r
  if not newest_of:
    return "Not yet run."
  rows, variants = [], []
  for r in newest_of.values():
    config, e = r["config"], r["environment"]
    device = e["devices"][0]
    mfu = "no peak known" if r["mfu"] is None else f"{r['mfu']:.1%}"
    rows.append(
      (
        f"`{config}`{_changes(e['command'])}, "
        f"{r['parameters'] / 1e6:,.1f} M parameters",
        f"{len(e['devices'])} x {device}",
        f"{r['batch_size']}",
        f"{r['steps_per_second']:.3g}",
        f"{r['images_per_second_per_device']:,.1f}",
        f"{r['flops_per_second_per_device'] / 1e12:.3g}",
        mfu,
        f"{r['program_bytes_per_device'] / 2**30:.2f} GiB",
        f"{sum(r['compile_s'].values()):.0f} s",
        f"{r['update']['share_of_step']:.1%}",
        f"{e['git_sha']}, jax {e['versions']['jax']}"
        + (f", `{e['xla_flags']}`" if e["xla_flags"] else ""),
      )
    )
    variants += [
      (
        f"`{config}`, {device}",
        f"`{v['overrides']}`",
        f"{v['time_ratio']:.2f}",
        f"{v['memory_ratio']:.2f}",
      )
      for v in r["against"]
    ]
  header = (
    "training step",
    "devices",
    "batch",
    "steps/s",
    "images/s a device",
    "TFLOP/s a device",
    "MFU",
    "memory",
    "compile",
    "update",
    "commit, flags of XLA",
  )
  text = results.markdown(header, rows)
  if variants:
    header = ("against", "with", "time", "memory")
    text += f"\n\n{results.markdown(header, variants)}"
  return text


def losses_linear() -> str:
  """Tiled losses of a linear head against their dense forms."""
  record = results.newest("losses", benchmark="linear")
  if record is None:
    return "Not yet run."
  rows = []
  for name, key in (("NLL", "nll"), ("EMO, mode 1", "emo")):
    r = record[key]
    share = r["share_of_peak"]
    dense, tiled = (b / 2**20 for b in r["program_bytes"])
    rows.append(
      (
        name,
        f"{r['time_ratio']:.2f}",
        f"1/{r['program_memory_ratio']:.1f} ({tiled:,.0f} of {dense:,.0f} MiB)",
        f"1/{r['process_memory_ratio']:.1f}",
        f"{r['tokens_per_second']:,.0f}",
        "-" if share is None else f"{share:.0%}",
      )
    )
  header = (
    "tiled against dense, bfloat16, loss and gradients",
    "time",
    "memory of the program",
    "of the process",
    "tokens/s",
    "share of peak",
  )
  return (
    f"{results.markdown(header, rows)}\n\nN = {record['tokens']:,} tokens, "
    f"D = {record['width']:,}, V = {record['vocab']:,}; memory above inputs "
    f"and gradients. Against a dense NLL whose logits are rounded to bfloat16, "
    f"time {record['nll_rounded']['time_ratio']:.2f}. Median of "
    f"{record['rounds']} alternations ({results.where(record['environment'])})."
  )


def losses_exact() -> str:
  """EXACT by quadrature against the authors' estimator."""
  record = results.newest("losses", benchmark="expected_accuracy")
  if record is None:
    return "Not yet run."
  rows = [
    (
      name,
      f"{record['time_ratio'][key]:.3f}",
      f"1/{record['memory_ratio'][key]:.0f}",
    )
    for name, key in (
      ("a Genz estimator, differentiated by JAX", "genz"),
      ("the same, each class checkpointed", "genz_checkpointed"),
    )
  ]
  header = ("EXACT by quadrature, against", "time", "memory of the program")
  return (
    f"{results.markdown(header, rows)}\n\nB = {record['batch']}, C = "
    f"{record['classes']:,}, {record['nodes']} nodes against "
    f"{record['samples']} samples, loss and gradient; median of "
    f"{record['rounds']} alternations ({results.where(record['environment'])})."
  )
