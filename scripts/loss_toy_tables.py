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
  "equal": "mean",
  "normalized": "mean of unit gradients",
  "min_norm": "min-norm",
  "primary_secondary": "task 1 primary",
  "pcgrad": "PCGrad, as a mean",
  "upgrad": "UPGrad",
}


def newest(toy: str) -> dict | None:
  """The last record of a toy that is not tiny."""
  return results.newest("loss_toys", toy=toy, tiny=False)


def made(record, header, rows, protocol) -> str:
  """A table, and below it how it was measured."""
  where = results.where(record["environment"])
  return f"{results.markdown(header, rows)}\n\n{protocol}{where}."


def _share(accuracy: float, num: int) -> str:
  return f"{round(accuracy * num)}/{num}"


def with_error(pair, digits=3) -> str:
  """A mean and its standard error."""
  mean, error = pair
  return f"{mean:.{digits}f} ± {error:.{digits}f}"


def toy_exact_minimisers() -> str:
  """Where each objective of the three points is least."""
  record = newest("exact_3_points")
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
  return made(record, header, rows, protocol)


def toy_exact_learned() -> str:
  """Descent of EXACT on the threshold and sigma."""
  record = newest("exact_3_points")
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
  return made(record, header, rows, protocol)


def toy_exact_5_points() -> str:
  """Five points: accuracy from many starts."""
  record = newest("exact_5_points")
  if record is None:
    return "Not yet run."
  measured, config = record["measured"], record["config"]
  rows = [
    (
      NAMES[row["model"]],
      NAMES[row["loss"]],
      with_error((row["mean"], row["standard_error"])),
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
  return made(record, header, rows, protocol)


def toy_tailr() -> str:
  """One Gaussian for a mixture."""
  record = newest("tailr_mixture")
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
  return made(record, header, rows, protocol)


def toy_emo() -> str:
  """Synonyms: where the mass goes."""
  record = newest("emo_synonyms")
  if record is None:
    return "Not yet run."
  measured, config = record["measured"], record["config"]
  names = ("nll", "emd", "target", "synonyms", "elsewhere")
  found = {(row["model"], row["method"]): row for row in measured["rows"]}
  rows = [
    (
      NAMES[model],
      NAMES[method],
      *(with_error(row[name]) for name in names),
      f"{row['step']}",
    )
    for model in ("table", "head")
    for method in ("mle", "tailr", "emo_mode1", "emo_mode2")
    for row in [found[model, method]]
  ]
  truth = [with_error(measured["truth"][name]) for name in names]
  rows.append(("the truth", "", *truth, ""))
  num = len(config["points"]["mle"])
  protocol = (
    f"{len(config['seeds'])} seeds, ± is the standard error. {num} points (lr, "
    "and gamma of TaiLr) for each method and model; the point and step of the "
    "least validation NLL, averaged over seeds; "
  )
  header = ("model", "loss", "NLL", "EMD", "on target", "synonyms", "elsewhere")
  return made(record, (*header, "step"), rows, protocol)


EXACT = (toy_exact_minimisers, toy_exact_learned, toy_exact_5_points)
