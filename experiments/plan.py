# SPDX-License-Identifier: Apache-2.0
"""What a config needs on TPUs that are not here: memory, time and money.

  python -m experiments.plan --config=configs/imagenet.py:512,uvit \
    --topology=v5e:16x16

Compiles the training step that `experiments.train` would run, and the sampler
for eval.batch_size images on the same mesh, with the TPU compiler, on any
machine, and reads the result: memory per chip, FLOPs, bytes, collectives, the
best time that they allow, and its cost. Mesh, rematerialisation and batch are
planned by changing the config:

  --config.mesh.fsdp=16 --config.model.remat=all --config.train.accum_steps=2

If the step leaves less than a tenth of the memory, what would make it fit is
found by compiling. Needs pip install -e '.[plan]'. How to read the output:
docs/plans.md.
"""

import json

from absl import flags
from ml_collections import config_flags

from experiments import cli
from experiments.planning import planner
from experiments.planning import report

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "What to plan: a file of configs/.", lock_config=True
)
_TOPOLOGY = flags.DEFINE_string(
  "topology", None, "TPU and shape of the slice, such as v5e:16x16."
)
_PRICE = flags.DEFINE_float(
  "price_per_chip_hour", None, "USD; default: the list price of chips.json.", 0
)
_STEPS = flags.DEFINE_integer(
  "num_steps", None, "Of the run; default: config.train.total_steps.", 1
)
_EFFORT = flags.DEFINE_float(
  "effort",
  planner.FAST_EFFORT,
  "Of the compiler: -1 is fastest, 0 what a training run compiles with.",
)
_JOBS = flags.DEFINE_integer("jobs", 2, "Compilations at once.", 1)
_SEARCH = flags.DEFINE_bool(
  "search", True, "Find what would make the step fit, if it does not."
)
_JSON = flags.DEFINE_bool("json", False, "Print one JSON object.")


def main(_):
  with cli.user_errors():
    try:
      result = planner.plan(
        _CONFIG.value,
        _TOPOLOGY.value,
        effort=_EFFORT.value,
        price_per_chip_hour=_PRICE.value,
        num_steps=_STEPS.value,
        jobs=_JOBS.value,
        search=_SEARCH.value,
      )
    except RuntimeError as error:  # The compiler failed, or was killed.
      raise ChildProcessError(str(error)) from error  # an OSError
  print(json.dumps(result) if _JSON.value else report.text(result))


if __name__ == "__main__":
  flags.mark_flags_as_required(["config", "topology"])
  cli.run(main)
