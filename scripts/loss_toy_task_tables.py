# SPDX-License-Identifier: Apache-2.0
"""Tables of docs/losses, of the toys with several labels or several tasks."""

from experiments.loss_studies import multilabel_methods
from scripts import loss_toy_tables


def _signed(value: float) -> str:
  """Two digits, and no -0.00."""
  return f"{round(value, 2) + 0.0:.2f}"


def best_first(rows: list[dict]) -> list[tuple[str, dict]]:
  """(title, row) of each loss, by F1 at 0."""
  return [
    (multilabel_methods.METHODS[row["method"]].title, row)
    for row in sorted(rows, key=lambda row: row["at_0"][0], reverse=True)
  ]


def _point(point: dict) -> str:
  """The rate and the bias, then the loss's own number."""
  own = [f"{n} {v:g}" for n, v in point.items() if n not in ("lr", "bias")]
  return ", ".join([f"{point['lr']:g}", f"{point['bias']:g}", *own])


def toy_zlpr() -> str:
  """Three labels of a thousand."""
  record = loss_toy_tables.newest("zlpr_imbalance")
  if record is None:
    return "Not yet run."
  measured, config = record["measured"], record["config"]
  rows = [
    (
      title,
      loss_toy_tables.with_error(row["at_0"]),
      loss_toy_tables.with_error(row["at_best"]),
      loss_toy_tables.with_error(row["best_threshold"], 2),
      loss_toy_tables.with_error(row["num_predicted"], 2),
      _point(row["point"]),
    )
    for title, row in best_first(measured["rows"])
  ]
  protocol = (
    f"{len(config['seeds'])} seeds, ± is the standard error; "
    f"{measured['num_points']} points (lr, first bias, own number) for each "
    "loss, by F1 at 0 of validation examples; "
    f"{config['num_steps']} steps of Adam; "
  )
  header = (
    "loss",
    "F1 at 0",
    "F1 at the tuned threshold",
    "that threshold",
    f"labels predicted at 0, of {config['num_labels']}",
    "lr, first bias, own number",
  )
  return loss_toy_tables.made(record, header, rows, protocol)


def toy_directions() -> str:
  """Progress of both tasks, by angle."""
  record = loss_toy_tables.newest("task_directions")
  if record is None:
    return "Not yet run."
  angles = [a for a in record["config"]["angles"] if a in (60, 90, 120, 150)]
  found = {(r["rule"], r["angle"]): r for r in record["measured"]["plane"]}
  rules = list(dict.fromkeys(rule for rule, _ in found))
  rows = [
    (
      loss_toy_tables.NAMES[rule],
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
  return loss_toy_tables.made(record, header, rows, protocol)


def toy_conflicts() -> str:
  """How often a rule opposes a task, among random gradients."""
  record = loss_toy_tables.newest("task_directions")
  if record is None:
    return "Not yet run."
  config, random = record["config"], record["measured"]["random"]
  rules = [name for name in loss_toy_tables.NAMES if name in random[0]]
  rows = [
    (
      loss_toy_tables.NAMES[rule],
      *(loss_toy_tables.with_error(row[rule]) for row in random),
    )
    for rule in rules
  ]
  conflicts = ", ".join(f"{row['conflicts'][0]:.3f}" for row in random)
  protocol = (
    f"{len(config['seeds'])} seeds of {config['num_draws']:,} sets in "
    f"{config['dimensions']} dimensions, ± is the standard error; conflicts "
    f"among pairs {conflicts}; "
  )
  header = ("rule", *(f"{row['num_tasks']} tasks" for row in random))
  return loss_toy_tables.made(record, header, rows, protocol)


MULTITASK = (toy_directions, toy_conflicts)
