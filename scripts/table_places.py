# SPDX-License-Identifier: Apache-2.0
"""Which table stands where: in README and docs, between two marks.

Each stands between <!-- table:NAME --> and <!-- /table:NAME -->, where NAME is
the function that makes it from experiments/results.
"""

import pathlib
import re

from scripts import likelihood_tables
from scripts import loss_language_tables
from scripts import loss_multitask_tables
from scripts import loss_span_tables
from scripts import loss_study_tables
from scripts import loss_toy_tables
from scripts import loss_toy_task_tables
from scripts import metrics_tables
from scripts import paper_tables
from scripts import photograph_guidance
from scripts import photograph_loss_ratios
from scripts import photograph_loss_tables
from scripts import photograph_sampler_tables
from scripts import photograph_status
from scripts import photograph_tables
from scripts import photograph_yardstick_tables
from scripts import plan_tables
from scripts import readme_tables

ROOT = pathlib.Path(__file__).parent.parent


def _of_photographs(*studies):
  """The tables of studies of configs/photographs.py."""
  return tuple(
    make
    for make in (
      *photograph_tables.MAKERS,
      *photograph_loss_tables.MAKERS,
      *photograph_loss_ratios.MAKERS,
    )
    if make.__name__.split("_")[1] in studies
  )


PLACES = (
  (
    "README.md",
    (
      readme_tables.digits,
      readme_tables.imagenet,
      plan_tables.plans_summary,
      readme_tables.benchmark,
      readme_tables.bench_step,
    ),
  ),
  ("docs/losses.md", (readme_tables.losses_linear, readme_tables.losses_exact)),
  (
    "docs/losses/exact.md",
    (*loss_toy_tables.EXACT, *loss_study_tables.EXACT),
  ),
  (
    "docs/losses/tailr.md",
    (
      loss_toy_tables.toy_tailr,
      *loss_study_tables.TAILR,
      *loss_language_tables.TAILR,
    ),
  ),
  (
    "docs/losses/emo.md",
    (loss_toy_tables.toy_emo, *loss_language_tables.EMO),
  ),
  (
    "docs/losses/zlpr.md",
    (loss_toy_task_tables.toy_zlpr, *loss_study_tables.ZLPR),
  ),
  ("docs/losses/global_pointer.md", loss_span_tables.GLOBAL_POINTER),
  ("docs/losses/consistency.md", loss_span_tables.CONSISTENCY),
  (
    "docs/losses/multitask.md",
    (*loss_toy_task_tables.MULTITASK, *loss_multitask_tables.MAKERS),
  ),
  ("docs/plans.md", plan_tables.MAKERS),
  ("docs/paper.md", paper_tables.MAKERS),
  (
    "docs/ablations.md",
    (*photograph_yardstick_tables.MAKERS, *photograph_status.MAKERS),
  ),
  ("docs/ablations/schedules.md", _of_photographs("table2")),
  ("docs/ablations/dropout.md", _of_photographs("table3")),
  ("docs/ablations/blocks.md", _of_photographs("table4")),
  ("docs/ablations/patching.md", _of_photographs("table5", "width")),
  ("docs/ablations/multiscale.md", _of_photographs("table6")),
  ("docs/ablations/weightings.md", _of_photographs("weighting")),
  (
    "docs/samplers.md",
    (*photograph_sampler_tables.MAKERS, *photograph_guidance.MAKERS),
  ),
  ("docs/metrics.md", metrics_tables.MAKERS),
  ("docs/likelihood.md", (likelihood_tables.likelihood,)),
)


def filled(text: str, makers, *, name: str) -> str:
  """The text of a file with the table of each maker in its place.

  Raises:
    ValueError: if the file, called `name`, has no place for a table, or more
      than one.
  """
  for make in makers:
    table = make.__name__
    pattern = rf"(<!-- table:{table} -->\n).*?(<!-- /table:{table} -->)"
    places = len(re.findall(pattern, text, re.DOTALL))
    if places != 1:
      raise ValueError(
        f"{name} has {places or 'no'} places for the table {table!r}; it must "
        "have one"
      )
    content = make()
    text = re.sub(
      pattern,
      lambda match, content=content: f"{match[1]}{content}\n{match[2]}",
      text,
      flags=re.DOTALL,
    )
  return text


def stale(*, write: bool) -> list[str]:
  """Files whose tables are not those of the results; `write` makes them so."""
  found = []
  for name, makers in PLACES:
    path = ROOT / name
    text = path.read_text()
    new = filled(text, makers, name=name)
    if new != text:
      found.append(name)
      if write:
        path.write_text(new)
  return found
