# SPDX-License-Identifier: Apache-2.0
"""What figures draw of experiments/results, or how to get it."""

from scripts import loss_toy_tables


class NotYetRun(Exception):
  """There is nothing to draw; the message is the command that measures it."""


def some(found, config):
  """What was found of a study, which is something.

  Args:
    found: any collection.
    config: its module of configs, whose docstring begins with the command.

  Raises:
    NotYetRun: if it is empty.
  """
  if not found:
    _, command, *_ = config.__doc__.split("\n\n")
    raise NotYetRun(" ".join(command.replace("\\\n", "").split()))
  return found


def toy(name: str) -> dict:
  """The newest record of a toy.

  Raises:
    NotYetRun: if there is none.
  """
  record = loss_toy_tables.newest(name)
  if record is None:
    raise NotYetRun(
      "python -m experiments.loss_studies.toys "
      f"--config=configs/loss_toys.py:{name}"
    )
  return record
