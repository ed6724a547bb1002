# SPDX-License-Identifier: Apache-2.0
"""What the paper trained on and how fast: arXiv 2301.11093, appendix B."""

from typing import NamedTuple

from scripts import paper_rows


class Speed(NamedTuple):
  """Of training at one image size.

  Attributes:
    hardware: in the paper's words.
    topology: as many chips, as `experiments.plan` names a slice of them.
    steps_per_second: of training.
  """

  hardware: str
  topology: str
  steps_per_second: float


# By image size and network. That of the U-Net is without patching.
SPEEDS = {
  (128, "uvit"): Speed("128 TPUv4", "v4:4x4x8", 1.5),
  (256, "uvit"): Speed("128 TPUv4", "v4:4x4x8", 1.5),
  (512, "uvit"): Speed("128 TPUv4", "v4:4x4x8", 1.5),
  (256, "unet"): Speed("64 TPUv2", "v2:8x8", 1.15),
}


# TFLOP of the U-Net's training on an image by size (`sizes.train_flops`; a test
# compares); table 4's of 12 + 13 blocks, table 5's of two wavelet levels.
TFLOP = {128: 2.23, 256: 2.50, 512: 3.36, 1024: 3.42}

# The paper's relative speeds, by table and row.
RELATIVE_SPEED = {
  4: {"2": 1.14, "4": 1.00, "8": 0.76, "12": 0.62},
  5: {
    "none": 1.00,
    "dwt_1": 1.39,
    "dwt_2": 1.46,
    "conv_2": 1.37,
    "conv_4": 1.46,
  },
}
COUNTED = {4: "12", 5: "dwt_2"}  # The rows that TFLOP is of.


def slower(row: paper_rows.Row) -> float:
  """How much slower than the timed U-Net of 256 pixels the row's is.

  By FLOPs between sizes, by the paper's relative speeds within a table.
  """
  ratio = TFLOP[row.size] / TFLOP[256]
  if row.table in COUNTED:
    speeds = RELATIVE_SPEED[row.table]
    name = row.config.partition(",")[2]
    ratio *= speeds[COUNTED[row.table]] / speeds[name]
  return ratio


def sampling_cost(row: paper_rows.Row) -> str:
  """About how long the paper's hardware takes for the row's samples.

  At the throughput of its training, whose step is three forward passes; a
  guided evaluation is two.
  """
  config = paper_rows.load(row)
  speed = SPEEDS[row.size, config.model.name]
  passes = config.eval.num_samples * config.sample.num_steps
  passes *= 1 if row.guidance_scale == 1 else 2
  a_second = 3 * config.train.batch_size * speed.steps_per_second
  return f"about {speed.hardware}, {passes / a_second / 3600:.1f} h"


def cost(row: paper_rows.Row) -> str:
  """The paper's hardware and hours for the row; "about" where it has neither.

  Those are on the hardware of the U-Net that it has a speed of.
  """
  if row.config is None:
    return "-"
  config = paper_rows.load(row)
  network = config.model.name
  speed, about = SPEEDS.get((row.size, network)), ""
  if speed is None:
    speed, about = SPEEDS[256, network], "about "
    speed = speed._replace(
      steps_per_second=speed.steps_per_second / slower(row)
    )
  hours = config.train.total_steps / speed.steps_per_second / 3600
  return f"{about}{speed.hardware}, {hours:.0f} h"
