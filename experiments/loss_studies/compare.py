# SPDX-License-Identifier: Apache-2.0
"""Compares losses on real data: every method, hyper-parameters and seed.

  python -m experiments.loss_studies.compare \
    --config=configs/loss_tabular.py:letter --data_dir=data/tabular

Each line that is appended to --results is one point of one method, all
seeds together, with the measures of validation and test examples by seed. What
the file has already is not trained again, so the same command goes on where it
was stopped. All methods have equally many points. Which point stands for
a method is decided afterwards, by validation: see `selection`.
"""

import pathlib

from absl import flags
from ml_collections import config_flags

from experiments import cli
from experiments import workdir
from experiments.loss_studies import programs
from experiments.loss_studies import splits
from experiments.loss_studies import study

_CONFIG = config_flags.DEFINE_config_file("config", None, "What to compare.")
_DATA_DIR = flags.DEFINE_string(
  "data_dir", None, "Folder with <name>.npz; sets of scikit-learn need none."
)
_RESULTS = flags.DEFINE_string(
  "results",
  None,
  "File to append to; default: experiments/results/<study>.jsonl.",
)


def main(_):
  with cli.user_errors():
    config = workdir.as_json(_CONFIG.value)
    load, task = programs.runner("compare", config)
    study.checked_points(config, task.METHODS)  # before anything is read
    if len(config["seeds"]) < 2:
      raise ValueError(
        f"seeds={config['seeds']}: an error needs at least two seeds"
      )
    path = pathlib.Path(
      _RESULTS.value or f"experiments/results/{config['study']}.jsonl"
    )
    data = splits.at_most(
      load(config["data"]["name"], _DATA_DIR.value),
      config["data"]["max_examples"],
    )
    found = study.run(config, data, task, path)
  programs.print_chosen(found, config["metric"])
  print(f"results are in {path}")


if __name__ == "__main__":
  flags.mark_flags_as_required(["config"])
  cli.run(main)
