# SPDX-License-Identifier: Apache-2.0
"""Runs the sweep of a config: python -m scripts.sweep ACTION --config=...

  list      points, names and states
  run       on this machine, --parallel=N at a time; again: goes on
  results   table, sweep.jsonl and sweep.png
  tpu       on Cloud TPU: [launch | status | watch | delete]
  skypilot  task files for other clouds, into --out

--root is the folder of the points' folders; a bucket for rented machines. All
points are checked before anything starts. Overrides such as
--config.data.data_dir=/prepared go to every point. See docs/sweeps.md.
"""

import sys

from absl import flags
import jax
from ml_collections import config_flags

from experiments import cli
from scripts.sweep import actions
from scripts.sweep import points as points_lib
from scripts.sweep import rented

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "A file of configs/ with a sweep().", lock_config=True
)
_ROOT = flags.DEFINE_string("root", None, "Folder or bucket of the sweep.")
flags.mark_flags_as_required(["config", "root"])
for _module in (actions, rented):  # for --help
  flags.adopt_module_key_flags(_module)


def main(argv):
  # The programs that it starts need the accelerator for themselves.
  jax.config.update("jax_platforms", "cpu")
  action, *rest = argv[1:] or ["list"]
  with cli.user_errors():
    act = actions.find(action, rest)
    points = points_lib.load(
      config_flags.get_config_filename(flags.FLAGS["config"]),
      config_flags.get_override_values(flags.FLAGS["config"]),
    )
    code = act(points, _ROOT.value.rstrip("/"))
  sys.exit(code)


if __name__ == "__main__":
  cli.run(main)
