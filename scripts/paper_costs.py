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


def cost(row: paper_rows.Row) -> str:
  """The paper's hardware and hours for the row, where appendix B has them."""
  if row.config is None:
    return "-"
  config = paper_rows.load(row)
  speed = SPEEDS.get((row.size, config.model.name))
  if speed is None:
    return "-"
  hours = config.train.total_steps / speed.steps_per_second / 3600
  return f"{speed.hardware}, {hours:.0f} h"
