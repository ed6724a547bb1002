# SPDX-License-Identifier: Apache-2.0
"""The speed columns of the paper's tables 4 and 5: FLOPs, and a measurement.

  python -m scripts.paper_speed --table=4
  python -m scripts.paper_speed --table=5

(arXiv 2301.11093: how much blocks at 16x16 cost, and what smaller feature maps
save.) For each row of a table:

* at full size, parameters and FLOPs of training on an image, from the traced
  program;
* at --width_divisor of the channels and the paper's image size, the compiled
  training step's FLOPs and its time on this machine, all rows in turns.

A relative speed is that of the table's 100 % row over the row's: of FLOPs at
full size, and of time as the median over neighbours in the turns, which is free
of what else the machine does. What the narrow network's time says of the full
one on a TPU is limited: wide layers use the hardware better, and the update's
share differs. --width_divisor=1 measures the paper's own size where it fits.

Appends one record to experiments/results/paper_speed.jsonl.
"""

import pathlib

from absl import flags

from configs import imagenet_ablations
from experiments import cli
from experiments import records
from experiments import workdir
from scripts import narrow_networks
from scripts import step_measures
from simple_diffusion import build
from simple_diffusion import sizes

# The rows, and the one that the paper gives as 100 %.
ROWS = {
  4: ("2", "4", "8", "12"),
  5: ("none", "dwt_1", "dwt_2", "conv_2", "conv_4"),
}
BASELINE = {4: "4", 5: "none"}

_TABLE = flags.DEFINE_enum("table", None, ("4", "5"), "Of the paper.")
_WIDTH_DIVISOR = flags.DEFINE_integer(
  "width_divisor", 8, "What all widths are divided by, to be measured.", 1
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 2, "Images of a step.", 1)
_DTYPE = flags.DEFINE_enum(
  "dtype", "float32", ("float32", "bfloat16"), "Of what is measured."
)
_ROUNDS = flags.DEFINE_integer("rounds", 7, "Turns of each row.", 1)
_STEPS = flags.DEFINE_integer("steps", 1, "Training steps of a turn.", 1)
_RESULTS = flags.DEFINE_string(
  "results", "experiments/results/paper_speed.jsonl", "File to append to."
)


def full_size(config) -> dict[str, int]:
  """Parameters, and FLOPs of training on an image, of the paper's network."""
  network = build.make_network(config.model)
  image_shape = build.image_shape(config)
  parts = sizes.by_part(network, image_shape)
  return {
    "parameters": sum(params for params, _ in parts.values()),
    "train_flops": sizes.train_flops(network, image_shape),
  }


def main(_):
  table = int(_TABLE.value)
  names, baseline = ROWS[table], ROWS[table].index(BASELINE[table])
  configs = [imagenet_ablations.get_config(f"{table},{name}") for name in names]
  with cli.user_errors():
    small = [
      narrow_networks.narrowed(
        config,
        divisor=_WIDTH_DIVISOR.value,
        batch_size=_BATCH_SIZE.value,
        dtype=_DTYPE.value,
      )
      for config in configs
    ]
    sides = []
    for name, config in zip(names, small, strict=True):
      side = step_measures.compile_step(step_measures.trace(config))
      sides.append(narrow_networks.at_zero(side))
      print(f"compiled {name}: {side.compile_s['compile']:.0f} s", flush=True)
    seconds, _ = step_measures.measure(
      sides, rounds=_ROUNDS.value, steps=_STEPS.value
    )
  low, median, high = step_measures.relative_speeds(seconds, baseline)
  rows = {}
  for i, name in enumerate(names):
    measured = step_measures.describe(sides[i], seconds[i])
    rows[name] = {
      "full_size": full_size(configs[i]),
      "measured": {
        "compiled_flops": sides[i].step.cost_analysis()["flops"],
        "relative_speed": float(median[i]),
        "relative_speed_quartiles": [float(low[i]), float(high[i])],
        **measured,
      },
    }
    print(f"{name}: {measured['seconds_per_step']:.2f} s, {median[i]:.0%}")
  record = {
    "table": table,
    "baseline": BASELINE[table],
    "width_divisor": _WIDTH_DIVISOR.value,
    "rounds": _ROUNDS.value,
    "steps_per_round": _STEPS.value,
    "rows": rows,
    "environment": workdir.environment(),
  }
  records.append_result(pathlib.Path(_RESULTS.value), record)


if __name__ == "__main__":
  flags.mark_flags_as_required(["table"])
  cli.run(main)
