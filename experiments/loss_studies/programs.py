# SPDX-License-Identifier: Apache-2.0
"""Which program runs a config, and what the programs print of a comparison."""

from experiments.loss_studies import adaptation
from experiments.loss_studies import adaptation_cost
from experiments.loss_studies import oracle
from experiments.loss_studies import selection
from experiments.loss_studies import study
from experiments.loss_studies import toy_emo_synonyms
from experiments.loss_studies import toy_exact_3_points
from experiments.loss_studies import toy_exact_5_points
from experiments.loss_studies import toy_tailr_mixture
from experiments.loss_studies import toy_task_directions
from experiments.loss_studies import toy_zlpr_imbalance

# Of each program: a config's data.kind, or the name of its toy -> what runs it.
RUNNERS = {
  "compare": study.KINDS,
  # Each takes a plain config, the folders of data and of models, and a file.
  "compare_language": {
    "oracle": oracle.run,
    "adaptation": adaptation.run,
    "adaptation_cost": adaptation_cost.run,
  },
  # Each takes a config and returns plain numbers.
  "toys": {
    "exact_3_points": toy_exact_3_points.measure,
    "exact_5_points": toy_exact_5_points.measure,
    "tailr_mixture": toy_tailr_mixture.measure,
    "emo_synonyms": toy_emo_synonyms.measure,
    "zlpr_imbalance": toy_zlpr_imbalance.measure,
    "task_directions": toy_task_directions.measure,
  },
}


def runner(program: str, config):
  """What a program runs a config with.

  Raises:
    ValueError: if it runs none of this kind; says which program does.
  """
  field = "toy" if "toy" in config else "data.kind"
  kind = config.get("toy") or config.get("data", {}).get("kind")
  if kind in RUNNERS[program]:
    return RUNNERS[program][kind]
  for other, runners in RUNNERS.items():
    if kind in runners:
      raise ValueError(
        f"configs of {field}={kind!r} are run by python -m "
        f"experiments.loss_studies.{other}"
      )
  raise ValueError(
    f"{field}={kind!r} is none of what experiments.loss_studies.{program} "
    f"runs, {', '.join(RUNNERS[program])}; give it one of configs/loss_*.py"
  )


def print_chosen(found: dict[str, list[dict]], metric: str) -> None:
  """A line for each method: the test metric of its chosen point.

  Args:
    found: the records of each method, all its points.
    metric: what chooses.
  """
  for name, of_method in found.items():
    chosen = selection.best(of_method, metric)
    test = chosen["test"][metric]
    print(
      f"{name:26} {metric} {selection.mean(test):.4f} +- "
      f"{selection.standard_error(test):.4f} at {chosen['point']}"
    )
