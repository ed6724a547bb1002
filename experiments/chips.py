# SPDX-License-Identifier: Apache-2.0
"""Chips that programs run on: what they can do, and what they cost.

The numbers and their sources are in chips.json.
"""

import dataclasses
import functools
import json
import math
import pathlib
import re

_TABLE = pathlib.Path(__file__).with_name("chips.json")
_SMALL_CUBES = ("2x2x1", "2x2x2", "2x2x4", "2x4x4")


@dataclasses.dataclass(frozen=True)
class Chip:
  """One row of chips.json, whose "_about" says what each number counts."""

  name: str
  peak_flops: float
  hbm_bytes: int
  usable_bytes: int | None
  hbm_bandwidth: float
  ici_bandwidth: float
  ici_axes: int | None
  devices_per_chip: int
  device_kinds: tuple[str, ...]
  shapes: tuple[str, ...] | str
  usd_per_hour: float | None
  source: str
  max_chips: int | None = None

  @property
  def is_tpu(self) -> bool:
    """Whether the TPU compiler knows it."""
    return bool(self.shapes)


@dataclasses.dataclass(frozen=True)
class Topology:
  """A slice of a pod.

  Attributes:
    text: such as "v5e:16x16".
    chip: see `Chip`.
    shape: of the torus, such as (16, 16).
  """

  text: str
  chip: Chip
  shape: tuple[int, ...]

  @property
  def num_chips(self) -> int:
    """Of the slice."""
    return math.prod(self.shape)

  @property
  def num_devices(self) -> int:
    """JAX devices of the slice."""
    return self.num_chips * self.chip.devices_per_chip


@functools.cache
def table() -> dict[str, Chip]:
  """All chips by name."""
  rows = json.loads(_TABLE.read_text())
  del rows["_about"]

  def frozen(value):
    return tuple(value) if isinstance(value, list) else value

  return {
    name: Chip(name=name, **{k: frozen(v) for k, v in row.items()})
    for name, row in rows.items()
  }


def by_device_kind(device_kind: str) -> Chip | None:
  """The chip of a jax.Device.device_kind; None if the table lacks it."""
  for chip in table().values():
    if device_kind in chip.device_kinds:
      return chip
  return None


def _shape_error(chip, shape) -> str | None:
  """Why a TPU slice of this shape doesn't exist, or None."""
  if chip.shapes != "cubes":
    if shape in chip.shapes:
      return None
    return f"{chip.name} comes as {', '.join(chip.shapes)}"
  sizes = [int(size) for size in shape.split("x")]
  in_cubes = (
    len(sizes) == 3
    and all(size and size % 4 == 0 for size in sizes)
    and sizes == sorted(sizes)
  )
  if shape in _SMALL_CUBES or (in_cubes and math.prod(sizes) <= chip.max_chips):
    return None
  return (
    f"{chip.name} comes as {', '.join(_SMALL_CUBES)} and as AxBxC of multiples "
    f"of 4 with A <= B <= C and at most {chip.max_chips} chips, such as 4x4x8"
  )


def parse_topology(text: str) -> Topology:
  """The slice that a text such as "v5e:16x16" names.

  Raises:
    ValueError: if the TPU or the shape is unknown.
  """
  name, _, shape = text.partition(":")
  tpus = [chip.name for chip in table().values() if chip.is_tpu]
  if name not in tpus:
    raise ValueError(
      f"topology {text!r}: the TPUs are {', '.join(tpus)}; write "
      "<TPU>:<shape>, such as v5e:16x16 or v4:4x4x8"
    )
  chip = table()[name]
  if not re.fullmatch(r"\d+(x\d+)+", shape):
    raise ValueError(
      f"topology {text!r}: write <TPU>:<shape>, such as v5e:16x16 or v4:4x4x8"
    )
  if error := _shape_error(chip, shape):
    raise ValueError(f"topology {text!r}: {error}")
  return Topology(text, chip, tuple(int(size) for size in shape.split("x")))
