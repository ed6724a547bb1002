# SPDX-License-Identifier: Apache-2.0
"""Which configs are planned for which TPUs."""

import functools
import json
from typing import NamedTuple

from configs import imagenet_ablations
from experiments import workdir
from scripts import paper_rows
from scripts.sweep import points

SIZES = (128, 256, 512, 1024)
HEADLINES = tuple(
  f"configs/imagenet.py:{size},{network}"
  for network in ("uvit", "unet")
  for size in SIZES
)
# 128 chips of v4 are the paper's hardware for the U-ViT.
TOPOLOGIES = ("v4:4x4x8", "v5e:16x16", "v5p:4x4x8", "v6e:16x16")
# 64 TPUv2 are the paper's for this U-Net.
EXTRA = (("configs/imagenet.py:256,unet", "v2:8x8"),)
# The ablations' are planned for one.
ABLATIONS_TOPOLOGY = "v5e:16x16"
# A scale of table 9; all but 1 are the same program but for the number.
GUIDANCE_SCALE = 1.1


class Row(NamedTuple):
  """What is planned: a config, the slice, and the guidance if there is any."""

  config: str
  topology: str
  guidance_scale: float | None = None

  def __str__(self):
    guided = "" if self.guidance_scale is None else " guided"
    return f"{self.config} {self.topology}{guided}"


def _program(config: str) -> str:
  """What decides which program is compiled, but for numbers in it."""
  content = workdir.as_json(points.parse_config(config, {}))
  # Constants, and how often it runs.
  del content["schedule"], content["train"]["total_steps"]
  return json.dumps(content, sort_keys=True)


@functools.cache
def ablations() -> dict[str, str]:
  """Rows of configs/imagenet_ablations.py -> the config that is planned.

  That is the first with the same program, a headline where there is one.
  """
  planned = {_program(c): c for c in HEADLINES if c.endswith(",unet")}
  found = {}
  for arg in imagenet_ablations.ROWS:
    config = f"configs/imagenet_ablations.py:{arg}"
    found[config] = planned.setdefault(_program(config), config)
  return found


@functools.cache
def guided() -> tuple[Row, ...]:
  """The networks of table 9, each once, with their guided sampler."""
  configs = dict.fromkeys(row.config for row in paper_rows.of_table(9))
  return tuple(Row(c, ABLATIONS_TOPOLOGY, GUIDANCE_SCALE) for c in configs)


def rows() -> list[Row]:
  """Everything to plan, each once."""
  found = [Row(config, where) for where in TOPOLOGIES for config in HEADLINES]
  found += [Row(config, where) for config, where in EXTRA]
  found += [Row(config, ABLATIONS_TOPOLOGY) for config in ablations().values()]
  return list(dict.fromkeys([*found, *guided()]))
