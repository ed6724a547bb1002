# SPDX-License-Identifier: Apache-2.0
"""Tables of docs/paper.md: the paper's rows, with the command of each.

The paper's numbers are those of `paper_rows`, ours those of `paper_results`.
"""

from scripts import paper_costs
from scripts import paper_measured_tables as measured
from scripts import paper_results
from scripts import paper_rows
from scripts import results


def _rows_of(table: int) -> str:
  """Rows of ours: the paper's numbers, the command, the cost."""
  rows = paper_rows.of_table(table)
  columns = {
    "size": [str(row.size) for row in rows],
    "row": [row.name for row in rows],
    "paper: FID train / eval": [row.fid for row in rows],
    "IS": [row.inception_score for row in rows],
    "train with": [f"`{paper_rows.train_command(row)}`" for row in rows],
    "hardware, hours": [paper_costs.cost(row) for row in rows],
    "ours": [paper_results.measured(row) for row in rows],
  }
  # A column that says the same of all rows is for the text.
  for name in ("size", "IS"):
    if len(set(columns[name])) == 1:
      del columns[name]
  cells = list(zip(*columns.values(), strict=True))
  return results.markdown(list(columns), cells) + paper_results.notes(rows)


def paper_table_2() -> str:
  """Noise schedules."""
  return _rows_of(2)


def paper_table_3() -> str:
  """Where dropout starts."""
  return _rows_of(3)


def paper_table_4() -> str:
  """Blocks at 16x16."""
  return _rows_of(4)


def paper_table_5() -> str:
  """Ways to a smaller map."""
  return _rows_of(5)


def paper_table_6() -> str:
  """The multiscale loss."""
  return _rows_of(6)


def paper_table_7() -> str:
  """Against the literature."""
  rows = paper_rows.of_table(7)
  cells = [
    (
      f"**{row.name}**" if row.config else row.name,
      str(row.size),
      row.fid,
      row.inception_score,
      f"`{paper_rows.train_command(row)}`" if row.config else "-",
      paper_costs.cost(row),
      paper_results.measured(row) if row.config else "quoted",
    )
    for row in rows
  ]
  header = (
    "system",
    "size",
    "paper: FID train / eval",
    "IS",
    "train with",
    "hardware, hours",
    "ours",
  )
  return results.markdown(header, cells) + paper_results.notes(rows)


def paper_table_9() -> str:
  """Guidance scales."""
  rows = paper_rows.of_table(9)
  cells = [
    (
      str(row.size),
      row.name,
      row.fid,
      row.inception_score,
      f"`{paper_rows.evaluate_command(row)}`",
      paper_costs.sampling_cost(row),
      paper_results.measured(row),
    )
    for row in rows
  ]
  header = (
    "size",
    "scale",
    "paper: FID train / eval",
    "IS",
    "measure with",
    "hardware, hours",
    "ours",
  )
  return results.markdown(header, cells) + paper_results.notes(rows)


MAKERS = (
  measured.paper_pooling,
  measured.paper_table_1,
  paper_table_2,
  paper_table_3,
  paper_table_4,
  measured.paper_speed_4,
  paper_table_5,
  measured.paper_speed_5,
  paper_table_6,
  paper_table_7,
  paper_table_9,
)
