# SPDX-License-Identifier: Apache-2.0
"""Tables of names in sentences and of few labels, for docs/losses."""

from configs import loss_few_labels
from configs import loss_spans
from scripts import loss_study_tables

# R-Drop and what it is to be compared with.
R_DROP = ("gp", "gp_two_passes", "gp_r_drop", "gp_r_drop_softmax")


def spans() -> dict:
  return loss_study_tables.columns_of(loss_spans, loss_spans.DATA)


def few_labels() -> dict:
  return loss_study_tables.columns_of(loss_few_labels, loss_few_labels.DATA)


def only(columns: dict, methods) -> dict:
  """The same columns of some of the methods, where at least two are."""
  found = {}
  for arg, (config, of_arg) in columns.items():
    some = {k: v for k, v in config["methods"].items() if k in methods}
    if len(some) > 1:
      found[arg] = (config | {"methods": some}, of_arg)
  return found


def heads(columns: dict) -> dict:
  """Methods without R-Drop."""
  config = loss_spans.get_config()
  first = [name for name in config.methods if name not in R_DROP[1:]]
  return only(columns, first)


def loss_spans_f1() -> str:
  """F1 of names, then differences from tags and GlobalPointer by seed."""
  columns = heads(spans())
  efficient = only(columns, ("gp", "egp", "egp_no_rope"))
  return loss_study_tables.with_footnote(
    columns,
    loss_study_tables.by_data(columns, "f1"),
    loss_study_tables.by_data(columns, "f1", minus="token_ce"),
    loss_study_tables.by_data(efficient, "f1", minus="gp"),
  )


def loss_spans_precision() -> str:
  return loss_study_tables.by_data(heads(spans()), "precision")


def loss_spans_recall() -> str:
  return loss_study_tables.by_data(heads(spans()), "recall")


def loss_spans_r_drop() -> str:
  return loss_study_tables.compared(
    only(spans(), R_DROP), "f1", minus="gp_two_passes"
  )


def loss_few_labels_accuracy() -> str:
  return loss_study_tables.compared(few_labels(), "accuracy", minus="noise")


GLOBAL_POINTER = (
  loss_spans_f1,
  loss_study_tables.points_maker(lambda: heads(spans()), "loss_spans_points"),
  loss_spans_precision,
  loss_spans_recall,
)
CONSISTENCY = (
  loss_spans_r_drop,
  loss_study_tables.points_maker(
    lambda: only(spans(), R_DROP), "loss_r_drop_points"
  ),
  loss_few_labels_accuracy,
  loss_study_tables.points_maker(few_labels, "loss_few_labels_points"),
)
