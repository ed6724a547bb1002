# SPDX-License-Identifier: Apache-2.0
"""What chips send each other in one run of a compiled program.

Bytes are of the whole array: what an all-gather gives, a reduce-scatter takes,
an all-reduce sums. So gathering a parameter counts as its size, however many
chips have a part of it. What a chip sends (and receives) for an array of S
bytes and a group of n chips that pass parts around a ring is

  all-gather, reduce-scatter, all-to-all   S (n - 1) / n
  all-reduce                             2 S (n - 1) / n
  collective-permute                       S
"""

from collections.abc import Iterable
from collections.abc import Sequence
import dataclasses
import itertools
import math
import re

import numpy as np

from experiments.planning import hlo

PADDING = 1.15  # XLA pads what a group does not divide into tiles

KINDS = (
  "all-gather",
  "reduce-scatter",
  "all-reduce",
  "all-to-all",
  "collective-permute",
)


@dataclasses.dataclass(frozen=True)
class Collective:
  """One instruction that sends.

  Attributes:
    kind: of `KINDS`.
    arrays: whole arrays, see above.
    times: how often one run executes it.
    group: positions in the mesh of the chips of one group.
    source: JAX name of what needs it.
  """

  kind: str
  arrays: tuple[hlo.Array, ...]
  times: int
  group: tuple[int, ...]
  source: str

  @property
  def num_bytes(self) -> int:
    """Bytes of the arrays, over all executions."""
    return self.times * sum(a.size_bytes for a in self.arrays)

  @property
  def sent_bytes(self) -> float:
    """Bytes that a chip sends over all executions."""
    n = len(self.group)
    if self.kind == "collective-permute":
      return self.num_bytes
    return self.num_bytes * (n - 1) / n * (1 + (self.kind == "all-reduce"))


# -- Groups -------------------------------------------------------------------


def _numbers(text: str) -> list[int]:
  return [int(n) for n in re.findall(r"\d+", text)]


def _iota(dims: str, transposed: str | None) -> np.ndarray:
  """Positions 0, 1, ... in the shape `dims`, with its axes permuted."""
  ids = np.arange(math.prod(_numbers(dims))).reshape(_numbers(dims))
  return ids.transpose(_numbers(transposed)) if transposed else ids


def group_of(attributes: str, num_devices: int) -> tuple[int, ...]:
  """The first group of a collective, in any form that XLA prints.

  {{0,1},{2,3}}; [2,2]<=[4]; [2,2]<=[2,2]T(1,0); or named axes,
  mesh['a'=2,'b'=2], device_ids=([2,2]T(1,0)) {'b'}.

  Raises:
    ValueError: if the form is another.
  """
  if match := re.search(r"source_target_pairs=\{\{(\d+),(\d+)\}", attributes):
    return int(match[1]), int(match[2])
  if match := re.search(r"replica_groups=\{\{([\d,]*)\}", attributes):
    return tuple(_numbers(match[1]))
  if "replica_groups={}" in attributes:
    return tuple(range(num_devices))
  match = re.search(
    r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", attributes
  )
  if match:
    shape = _numbers(match[1])
    return tuple(map(int, _iota(match[2], match[3]).reshape(shape)[0]))
  match = re.search(
    r"replica_groups=mesh\[([^\]]*)\]"
    r"(?:, device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\))? \{([^}]*)\}",
    attributes,
  )
  if not match:
    start = max(0, attributes.find("replica_groups"))
    raise ValueError(f"unknown form: {attributes[start : start + 120]!r}")
  return _named_group(*match.groups())


def _named_group(mesh, dims, transposed, names):
  sizes = dict(re.findall(r"'([^']+)'=(\d+)", mesh))
  sizes = {name: int(size) for name, size in sizes.items()}
  ids = _iota(dims or str(math.prod(sizes.values())), transposed)
  ids = ids.reshape(tuple(sizes.values()))
  index = []
  # A part of an axis is written 'a':(2)4: after a part of 2, one of 4.
  parts = {
    name: (pre, size)
    for name, pre, size in re.findall(r"'([^']+)'(?::\((\d+)\)(\d+))?", names)
  }
  for axis, (name, size) in enumerate(sizes.items()):
    if name not in parts:
      index.append(np.array([0]))
    elif not parts[name][1]:
      index.append(np.arange(size))
    else:
      pre, length = map(int, parts[name])
      index.append(np.arange(length) * (size // pre // length))
    assert index[axis].max() < size
  return tuple(map(int, ids[np.ix_(*index)].ravel()))


def axes_of(group: Sequence[int], mesh_shape: dict[str, int]) -> str:
  """The axes of the mesh along which a group extends, such as "data,fsdp"."""
  coordinates = np.array(
    np.unravel_index(np.array(group), tuple(mesh_shape.values()))
  )
  extends = (coordinates != coordinates[:, :1]).any(axis=1)
  return ",".join(itertools.compress(mesh_shape, extends)) or "none"


# -- Reading ------------------------------------------------------------------


_SAME_ARRAY = ("bitcast", "get-tuple-element")


def _is_reduce_scatter(place) -> bool:
  """Whether only this chip's part of an all-reduce is used.

  XLA for TPU has no reduce-scatter: it is an all-reduce in a computation that
  is named so, and that takes a slice of it.
  """
  names, users = {place.instruction.name}, []
  for instruction in place.computation.values():  # in order of use
    if names & set(instruction.operands):
      if instruction.opcode in _SAME_ARRAY:
        names.add(instruction.name)
      else:
        users.append(instruction.opcode)
  slices = {"dynamic-slice", "fusion"}
  return place.in_fusion and bool(users) and set(users) <= slices


def _whole_arrays(kind, place) -> tuple[hlo.Array, ...]:
  instruction = place.instruction
  if kind == "reduce-scatter" or kind == "all-reduce":
    operands = [place.computation[name] for name in instruction.operands]
    return tuple(a for operand in operands for a in operand.arrays)
  if not instruction.opcode.endswith("-start"):
    return instruction.arrays
  # The result of a start is (operands, results, contexts).
  num = len(instruction.operands)
  return instruction.arrays[num : 2 * num]


def read(program: hlo.Program, num_devices: int) -> list[Collective]:
  """The collectives of a program; an async one, in pieces, counts once.

  Raises:
    ValueError: if groups are printed in an unknown form.
  """
  found = []
  seen = set()
  for place in hlo.walk(program):
    opcode = place.instruction.opcode.removesuffix("-start")
    if opcode not in KINDS:
      continue
    # Start, steps and end of an async collective repeat it in their fusions,
    # and are one chain. A channel alone may be of several collectives.
    chain = place.instruction.attribute(r'chain_id="(\d+)"')
    if place.in_fusion and chain:
      channel = place.instruction.attribute(r"channel_id=(\d+)")
      if (chain, channel) in seen:
        continue
      seen.add((chain, channel))
    kind = opcode
    if opcode == "all-reduce" and _is_reduce_scatter(place):
      kind = "reduce-scatter"
    group = group_of(place.instruction.attributes, num_devices)
    if len(group) > 1:
      found.append(
        Collective(
          kind,
          _whole_arrays(kind, place),
          place.times,
          group,
          place.instruction.source,
        )
      )
  return found


def _layer_shapes(shape) -> Iterable[tuple[int, ...]]:
  yield shape
  if len(shape) > 1:
    yield shape[1:]  # of one layer of a stack


def _sorted_dims(dims) -> tuple[int, ...]:
  return tuple(sorted(d for d in dims if d > 1))


def is_of_parameters(
  array: hlo.Array,
  shapes: Iterable[tuple[int, ...]],
  part_counts: Iterable[int],
  *,
  pieces: bool = False,
) -> bool:
  """Whether an array has the dimensions of a parameter, not of activations.

  In any order; of one layer of a stack or of all; whole or one of n equal
  parts, where XLA may have padded the axis that is split, or written it as
  n x part. What is larger than a scalar and none of these is part of the batch,
  such as activations [B / chips, H, W, C].

  Args:
    array: that travels.
    shapes: of the parameters.
    part_counts: the possible n, such as the size of the group.
    pieces: whether it may also be less than a part, as where a collective
      permute shifts parts that are padded.
  """
  dims = _sorted_dims(array.dims)
  if not dims:
    return True
  wholes = {_sorted_dims(layer) for s in shapes for layer in _layer_shapes(s)}
  return any(
    _fits(candidate, whole, num_parts, pieces)
    for num_parts in part_counts
    for candidate in _merged(dims, num_parts)
    for whole in wholes
  )


def _merged(dims, num_parts) -> Iterable[tuple[int, ...]]:
  """The dimensions, and with an axis of n parts merged into another."""
  yield dims
  if num_parts in dims:
    rest = list(dims)
    rest.remove(num_parts)
    for i, size in enumerate(rest):
      yield tuple(sorted([*rest[:i], size * num_parts, *rest[i + 1 :]]))


def _fits(dims, whole, num_parts, pieces) -> bool:
  """Equal but for one axis, which is padded, or one of n parts, or a piece."""
  if len(dims) != len(whole):
    return False
  if dims == whole:
    return True
  for i, size in enumerate(whole):
    for j, dim in enumerate(dims):
      if dims[:j] + dims[j + 1 :] == whole[:i] + whole[i + 1 :]:
        is_whole = size <= dim <= PADDING * size
        is_part = size <= dim * num_parts <= PADDING * size
        if is_whole or is_part or (pieces and dim * num_parts < size):
          return True
  return False
