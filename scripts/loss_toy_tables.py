# SPDX-License-Identifier: Apache-2.0
"""Tables of docs/losses, of the toys: experiments/results/loss_toys.jsonl."""

from scripts import results

NAMES = {
  "cross_entropy": "cross-entropy",
  "hinge": "hinge",
  "exact": "EXACT",
  "smooth_accuracy": "1 - p_y",
  "threshold": "x - b",
  "linear": "w x + b",
  "standardized": "w x + b, standardised",
  "mle": "cross-entropy",
  "tailr": "TaiLr",
  "emo_mode1": "EMO, mode 1",
  "emo_mode2": "EMO, mode 2",
  "table": "free logits",
  "head": "frozen head",
  "zlpr": "ZLPR",
  "binary_cross_entropy": "binary cross-entropy",
  "focal": "focal",
  "asymmetric": "asymmetric loss",
  "equal": "mean",
  "normalized": "mean of unit gradients",
  "min_norm": "min-norm",
  "primary_secondary": "task 1 primary",
  "pcgrad": "PCGrad, as a mean",
  "upgrad": "UPGrad",
}


def _newest(toy):
  return results.newest("loss_toys", toy=toy, tiny=False)


def _made(record, header, rows, protocol="") -> str:
  where = results.where(record["environment"])
  return f"{results.markdown(header, rows)}\n\n{protocol}{where}."


def _share(accuracy: float, num: int) -> str:
  return f"{round(accuracy * num)}/{num}"


def _with_error(pair, digits=3) -> str:
  mean, error = pair
  return f"{mean:.{digits}f} ± {error:.{digits}f}"


def _signed(value: float) -> str:
  """Two digits, and no -0.00."""
  return f"{round(value, 2) + 0.0:.2f}"


def toy_exact_minimisers() -> str:
  """Where each objective of the three points is least."""
  record = _newest("exact_3_points")
  if record is None:
    return "Not yet run."
  measured = record["measured"]
  cells = {}
  for row in measured["minimisers"]:
    scale = "sigma" if "sigma" in row else "k"
    low, high = row["low"], row["high"]
    b = f"{low:.4f}" if low == high else f"[{low:g}, {high:g}]"
    cells.setdefault(row["objective"], []).append(
      (
        NAMES[row["objective"]],
        f"{scale} = {row[scale]:g}",
        b,
        f"{row['loss']:.4f}",
        _share(row["accuracy"], 3),
      )
    )
  rows = [row for name in NAMES if name in cells for row in cells[name]]
  protocol = (
    "Float64. The minimiser of cross-entropy enters (0, 0.25) at k = "
    f"{measured['enough_for_cross_entropy']:.5f}; "
  )
  header = ("objective", "scale", "least at b", "loss", "right")
  return _made(record, header, rows, protocol)


def toy_exact_learned() -> str:
  """Descent of EXACT on the threshold and sigma."""
  record = _newest("exact_3_points")
  if record is None:
    return "Not yet run."
  rows = [
    (
      f"{row['step']:,}",
      f"{row['b']:.4f}",
      f"{row['sigma']:.4f}",
      f"{row['loss']:.4f}",
      _share(row["accuracy"], 3),
    )
    for row in record["measured"]["learned"]
    if row["step"] in (1000, 2000, 3000, 5000)
  ]
  lr = record["config"]["learned"]["lr"]
  protocol = f"SGD at {lr:g} on b and log sigma, from 0 and 0, float64; "
  header = ("step", "b", "sigma", "loss", "right")
  return _made(record, header, rows, protocol)


def toy_exact_5_points() -> str:
  """Five points: accuracy from many starts."""
  record = _newest("exact_5_points")
  if record is None:
    return "Not yet run."
  measured, config = record["measured"], record["config"]
  rows = [
    (
      NAMES[row["model"]],
      NAMES[row["loss"]],
      _with_error((row["mean"], row["standard_error"])),
      f"{row['starts_at_best']} of {row['num_starts']}",
    )
    for row in measured["models"]
  ]
  best = measured["best_accuracy"]
  protocol = (
    f"{config['num_steps']:,} steps of normalised gradients at "
    f"{config['lr']:g}, ± is the standard error over starts; "
  )
  header = (
    "logit",
    "loss",
    "accuracy at the end",
    f"starts that end at {best:g}",
  )
  return _made(record, header, rows, protocol)


def toy_tailr() -> str:
  """One Gaussian for a mixture."""
  record = _newest("tailr_mixture")
  if record is None:
    return "Not yet run."
  measured = record["measured"]
  named = [("cross-entropy (exact)", measured["kl"])]
  named += [("total variation (exact)", measured["tvd"])]
  named += [(f"TaiLr, gamma = {r['gamma']:g}", r) for r in measured["tailr"]]
  rows = [
    (
      name,
      *(
        f"{row[key]:.4f}" for key in ("mu", "sigma", "peak", "total_variation")
      ),
    )
    for name, row in named
  ]
  protocol = (
    f"Tokens of width {record['config']['width']:g}, the likeliest of "
    f"probability {measured['largest']:.4f}; "
  )
  header = ("objective", "mu", "sigma", "peak", "total variation")
  return _made(record, header, rows, protocol)


def toy_emo() -> str:
  """Synonyms: where the mass goes."""
  record = _newest("emo_synonyms")
  if record is None:
    return "Not yet run."
  measured, config = record["measured"], record["config"]
  names = ("nll", "emd", "target", "synonyms", "elsewhere")
  found = {(row["model"], row["method"]): row for row in measured["rows"]}
  rows = [
    (
      NAMES[model],
      NAMES[method],
      *(_with_error(row[name]) for name in names),
      f"{row['step']}",
    )
    for model in ("table", "head")
    for method in ("mle", "tailr", "emo_mode1", "emo_mode2")
    for row in [found[model, method]]
  ]
  truth = [_with_error(measured["truth"][name]) for name in names]
  rows.append(("the truth", "", *truth, ""))
  num = len(config["points"]["mle"])
  protocol = (
    f"{len(config['seeds'])} seeds, ± is the standard error. {num} points (lr, "
    "and gamma of TaiLr) for each method and model; the point and step of the "
    "least validation NLL, averaged over seeds; "
  )
  header = ("model", "loss", "NLL", "EMD", "on target", "synonyms", "elsewhere")
  return _made(record, (*header, "step"), rows, protocol)


def toy_zlpr() -> str:
  """Three labels of a thousand."""
  record = _newest("zlpr_imbalance")
  if record is None:
    return "Not yet run."
  measured, config = record["measured"], record["config"]
  rows = [
    (
      NAMES[row["method"]],
      _with_error(row["at_0"]),
      _with_error(row["at_best"]),
      _with_error(row["best_threshold"], 2),
      _with_error(row["num_predicted"], 2),
      f"{row['lr']:g}, {row['bias']:g}",
    )
    for row in measured["rows"]
  ]
  protocol = (
    f"{len(config['seeds'])} seeds, ± is the standard error; "
    f"{len(measured['points'])} points (lr, first bias) for each loss, by F1 "
    f"at 0 of validation examples; {config['num_steps']} steps of Adam; "
  )
  header = (
    "loss",
    "F1 at 0",
    "F1 at the tuned threshold",
    "that threshold",
    f"labels predicted at 0, of {config['num_labels']}",
    "lr, first bias",
  )
  return _made(record, header, rows, protocol)


def toy_directions() -> str:
  """Progress of both tasks, by angle."""
  record = _newest("task_directions")
  if record is None:
    return "Not yet run."
  angles = [a for a in record["config"]["angles"] if a in (60, 90, 120, 150)]
  found = {(r["rule"], r["angle"]): r for r in record["measured"]["plane"]}
  rules = list(dict.fromkeys(rule for rule, _ in found))
  rows = [
    (
      NAMES[rule],
      *(
        ", ".join(_signed(p) for p in found[rule, angle]["progress"])
        for angle in angles
      ),
    )
    for rule in rules
  ]
  length = record["config"]["length"]
  protocol = f"Gradients of length 1 and {length:g}; "
  header = ("rule", *(f"{angle:.0f} degrees" for angle in angles))
  return _made(record, header, rows, protocol)


def toy_conflicts() -> str:
  """How often a rule opposes a task, among random gradients."""
  record = _newest("task_directions")
  if record is None:
    return "Not yet run."
  config, random = record["config"], record["measured"]["random"]
  rules = [name for name in NAMES if name in random[0]]
  rows = [
    (NAMES[rule], *(_with_error(row[rule]) for row in random)) for rule in rules
  ]
  conflicts = ", ".join(f"{row['conflicts'][0]:.3f}" for row in random)
  protocol = (
    f"{len(config['seeds'])} seeds of {config['num_draws']:,} sets in "
    f"{config['dimensions']} dimensions, ± is the standard error; conflicts "
    f"among pairs {conflicts}; "
  )
  header = ("rule", *(f"{row['num_tasks']} tasks" for row in random))
  return _made(record, header, rows, protocol)


EXACT = (toy_exact_minimisers, toy_exact_learned, toy_exact_5_points)
MULTITASK = (toy_directions, toy_conflicts)
