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


# TFLOP of the U-Net's training on an image (`sizes.train_flops`, which a test
# compares), by size, and of the rows that differ from their size's.
TFLOP = {128: 2.23, 256: 2.50, 512: 3.36, 1024: 3.42}
TFLOP_OF_ROW = {
  "configs/imagenet_ablations.py:4,2": 1.33,
  "configs/imagenet_ablations.py:4,4": 1.51,
  "configs/imagenet_ablations.py:4,8": 1.87,
  "configs/imagenet_ablations.py:5,none": 4.46,
  "configs/imagenet_ablations.py:5,dwt_1": 3.41,
  "configs/imagenet_ablations.py:5,conv_2": 3.40,
  "configs/imagenet_ablations.py:5,conv_4": 3.35,
}


def train_tflop(row: paper_rows.Row) -> float:
  """TFLOP of training the row's U-Net on an image."""
  return TFLOP_OF_ROW.get(row.config, TFLOP[row.size])


def cost(row: paper_rows.Row) -> str:
  """The paper's hardware and hours for the row.

  "about" where appendix B has no speed: as many FLOPs a second as the U-Net
  that it has one of.
  """
  if row.config is None:
    return "-"
  config = paper_rows.load(row)
  network = config.model.name
  speed = SPEEDS.get((row.size, network))
  about = "" if speed else "about "
  if speed is None:
    speed = SPEEDS[256, network]
    slower = train_tflop(row) / TFLOP[256]
    speed = speed._replace(steps_per_second=speed.steps_per_second / slower)
  hours = config.train.total_steps / speed.steps_per_second / 3600
  return f"{speed.hardware}, {about}{hours:.0f} h"
