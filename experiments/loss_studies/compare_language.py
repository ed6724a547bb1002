# SPDX-License-Identifier: Apache-2.0
"""Compares losses of language models, or what they cost.

  python -m experiments.loss_studies.compare_language \
    --config=configs/loss_oracle.py:classicbooks --data_dir=data/text

As `compare`, but for studies of several stages: a model of real text is trained
first, and kept in --workdir. Each line that is appended to --results is one
point of one method, all seeds together; what the file has already is not
trained again. All methods have equally many points; which stands for a method
is decided afterwards, by validation: see `selection`.
"""

import pathlib

from absl import flags
from ml_collections import config_flags

from experiments import cli
from experiments import workdir
from experiments.loss_studies import programs

_CONFIG = config_flags.DEFINE_config_file("config", None, "What to compare.")
_DATA_DIR = flags.DEFINE_string(
  "data_dir", None, "Folder of texts; those of Python need none."
)
_WORKDIR = flags.DEFINE_string(
  "workdir", "runs/loss_language", "Folder that keeps pretrained models."
)
_RESULTS = flags.DEFINE_string(
  "results",
  None,
  "File to append to; default: experiments/results/<study>.jsonl.",
)


def main(_):
  with cli.user_errors():
    config = workdir.as_json(_CONFIG.value)
    run = programs.runner("compare_language", config)
    path = pathlib.Path(
      _RESULTS.value or f"experiments/results/{config['study']}.jsonl"
    )
    lines = run(config, _DATA_DIR.value, pathlib.Path(_WORKDIR.value), path)
  if lines is not None:  # Of costs nothing is chosen.
    found = {
      name: [record for record in lines if record["method"] == name]
      for name in config["methods"]
    }
    programs.print_chosen(found, config["metric"])
  print(f"results are in {path}")


if __name__ == "__main__":
  flags.mark_flags_as_required(["config"])
  cli.run(main)
