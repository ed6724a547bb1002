# SPDX-License-Identifier: Apache-2.0
"""Tables of docs/losses/multitask.md, of two tasks on real data.

A cell is of the point that validation chose, mean and standard error over the
seeds. Only methods of which every point was trained have one.
"""

from configs import loss_multitask
from experiments import workdir
from experiments.loss_studies import multitask_methods
from experiments.loss_studies import selection
from scripts import loss_study_tables
from scripts import results

DATA = {"mnist": "MNIST", "digits": "scikit-learn's digits"}
TASKS = {
  "parity": "parity; digit",
  "digit": "digit; parity",
  "clean": "noisy; clean labels",
  "decay": "noisy labels; decay",
}
TWO_HEADS = ("parity", "digit")
ALONE = "primary_alone"


def chosen() -> dict[tuple[str, str], dict]:
  """The chosen records by method, of each (data, tasks) that has results."""
  records = results.lines("loss_multitask")
  found = {}
  for data in DATA:
    for tasks in TASKS:
      config = workdir.as_json(loss_multitask.get_config(f"{data},{tasks}"))
      if of := loss_study_tables.chosen(config, records):
        found[data, tasks] = of
  return found


def _by_tasks(found: dict, data: str, cell, tasks=tuple(TASKS)) -> str:
  """Methods down, tasks across; cell(record, that of the primary alone)."""
  rows = []
  for name, method in multitask_methods.METHODS.items():
    cells = []
    for task in tasks:
      of = found.get((data, task), {})
      is_there = name in of and ALONE in of
      cells.append(cell(of[name], of[ALONE]) if is_there else "-")
    if set(cells) != {"-"}:
      rows.append((method.title, *cells))
  header = (DATA[data], *(TASKS[task] for task in tasks))
  return results.markdown(header, rows)


def _of_both(cell, tasks=tuple(TASKS)) -> str:
  found = chosen()
  tables = [
    _by_tasks(found, data, cell, tasks)
    for data in DATA
    if any((data, task) in found for task in tasks)
  ]
  return "\n\n".join(tables) or "Not yet run."


def loss_multitask_accuracy() -> str:
  """Of the primary task, on test examples."""
  table = _of_both(
    lambda record, alone: loss_study_tables.cell(record["test"]["accuracy"])
  )
  found = chosen()
  return f"{table}\n\n{_footnote(found)}" if found else table


def loss_multitask_gain() -> str:
  """The same minus that of the primary alone, seed by seed, in points."""

  def cell(record, alone):
    if record is alone:
      return "0"
    minus = selection.differences(record, alone, "accuracy")
    return loss_study_tables.cell(minus)

  return _of_both(cell)


def loss_multitask_loss() -> str:
  """Test loss of the primary task minus that of the primary alone."""

  def cell(record, alone):
    if record is alone:
      loss = [-v for v in record["test"]["log_likelihood"]]
      return f"({loss_study_tables.cell(loss, 1, 3)})"
    minus = selection.differences(alone, record, "log_likelihood")
    return loss_study_tables.cell(minus, 1, 3)

  return _of_both(cell, TWO_HEADS)


def loss_multitask_secondary() -> str:
  """Accuracy of the secondary task."""
  return _of_both(
    lambda record, alone: loss_study_tables.cell(
      record["test"]["secondary_accuracy"]
    ),
    TWO_HEADS,
  )


def loss_multitask_conflicts() -> str:
  """Shares of the steps: conflict, opposing the primary, the secondary."""
  names = ("conflict_rate", "opposed_primary", "opposed_secondary")

  def cell(record, alone):
    del alone
    means = [selection.mean(record["training"][name]) for name in names]
    return " / ".join(f"{100 * mean:.1f}" for mean in means)

  return _of_both(cell)


def _footnote(found: dict) -> str:
  """The budget, the protocol and where it ran."""
  config = loss_multitask.get_config()
  where = loss_study_tables.where((config, of) for of in found.values())
  return (
    f"{loss_study_tables.protocol(len(config.seeds))}; "
    f"{config.search.num_points} points a method, chosen by the mean loss on "
    f"validation examples, with noisy labels by accuracy ({where})."
  )


MAKERS = (
  loss_multitask_accuracy,
  loss_multitask_gain,
  loss_multitask_loss,
  loss_multitask_secondary,
  loss_multitask_conflicts,
)
