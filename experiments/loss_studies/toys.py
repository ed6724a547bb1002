# SPDX-License-Identifier: Apache-2.0
"""Measures a toy of the losses and appends one record to --results.

  python -m experiments.loss_studies.toys \
    --config=configs/loss_toys.py:exact_3_points

A toy takes seconds to four minutes and writes nothing before its end, so that
one that was stopped is just started again. docs/losses has what they show.
"""

import pathlib

from absl import flags
from ml_collections import config_flags

from experiments import cli
from experiments import records
from experiments import workdir
from experiments.loss_studies import programs

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "configs/loss_toys.py:<toy>.", lock_config=True
)
_RESULTS = flags.DEFINE_string(
  "results", "experiments/results/loss_toys.jsonl", "File to append to."
)


def main(_):
  config = _CONFIG.value
  with cli.user_errors():
    measure = programs.runner("toys", config)
    record = {
      "toy": config.toy,
      "tiny": config.tiny,
      "measured": measure(config),
      "config": workdir.as_json(config),
      "environment": workdir.environment(),
    }
    records.append_result(pathlib.Path(_RESULTS.value), record)
  print(f"{config.toy}: appended to {_RESULTS.value}")


if __name__ == "__main__":
  flags.mark_flags_as_required(["config"])
  cli.run(main)
