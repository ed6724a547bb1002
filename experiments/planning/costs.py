# SPDX-License-Identifier: Apache-2.0
"""What one run of a compiled program costs a chip: FLOPs and bytes.

Unlike XLA's cost analysis, which counts the body of a loop once, everything
here is counted as often as it runs: 36 times in a scan over 36 blocks.
"""

import functools
import math
import re

import numpy as np

from experiments.planning import hlo

# What moves no data of its own: names for parts of buffers, and what is counted
# elsewhere (the inside of loops and branches, the start of an async pair).
_FREE = {
  "after-all",
  "async-done",
  "async-update",
  "bitcast",
  "call",
  "conditional",
  "constant",
  "copy-done",
  "get-tuple-element",
  "opt-barrier",
  "parameter",
  "partition-id",
  "replica-id",
  "slice-done",
  "tuple",
  "while",
}
_SLICES = {"dynamic-slice", "gather", "slice"}
_ALIASES = {"bitcast", "copy", "convert", "reshape"}


# -- FLOPs --------------------------------------------------------------------


def _window(attributes: str, rank: int) -> list[dict[str, int]]:
  """Per spatial axis: size, stride, low padding, dilations, reversal."""
  text = re.search(r"window=\{([^}]*)\}", attributes)
  fields = dict(f.split("=") for f in text[1].split()) if text else {}

  def values(name, default):
    if name not in fields:
      return [default] * rank
    return [int(v.split("_")[0]) for v in fields[name].split("x")]

  names = {
    "size": 1,
    "stride": 1,
    "pad": 0,
    "lhs_dilate": 1,
    "rhs_dilate": 1,
  }
  columns = {name: values(name, default) for name, default in names.items()}
  return [{n: columns[n][axis] for n in names} for axis in range(rank)]


@functools.lru_cache(maxsize=4096)
def _num_products(inputs, outputs, size, stride, pad, lhs_dilate, rhs_dilate):
  """Pairs of output and kernel position that meet an input, on one axis.

  The others meet padding or the gaps of a dilated input. XLA for TPU writes a
  batched matrix product as a convolution in which most pairs do.
  """
  position = (
    np.arange(outputs)[:, None] * stride
    - pad
    + np.arange(size)[None] * rhs_dilate
  )
  inside = (position >= 0) & (position <= (inputs - 1) * lhs_dilate)
  return int(np.sum(inside & (position % lhs_dilate == 0)))


def _convolution_macs(instruction, lhs, rhs):
  labels = instruction.attribute(r"dim_labels=(\w+_\w+->\w+)")
  lhs_labels, rhs_labels, out_labels = re.split(r"_|->", labels)
  lhs_size = dict(zip(lhs_labels, lhs.dims, strict=True))
  rhs_size = dict(zip(rhs_labels, rhs.dims, strict=True))
  out_size = dict(zip(out_labels, instruction.arrays[0].dims, strict=True))
  spatial = sorted(label for label in out_labels if label.isdigit())
  windows = _window(instruction.attributes, len(spatial))
  products = math.prod(
    _num_products(
      lhs_size[label],
      out_size[label],
      rhs_size[label],
      w["stride"],
      w["pad"],
      w["lhs_dilate"],
      w["rhs_dilate"],
    )
    for label, w in zip(spatial, windows, strict=True)
  )
  return out_size["b"] * out_size["f"] * rhs_size["i"] * products


def _dot_macs(instruction, lhs):
  axes = instruction.attribute(r"lhs_contracting_dims=\{([\d,]*)\}")
  depth = math.prod(lhs.dims[int(a)] for a in axes.split(",") if a)
  return depth * math.prod(instruction.arrays[0].dims)


def macs(place: hlo.Place) -> int:
  """Multiply-adds of one execution of a matrix product or convolution."""
  instruction, computation = place.instruction, place.computation
  if instruction.opcode not in ("convolution", "dot"):
    return 0
  lhs, rhs = (computation[name].arrays[0] for name in instruction.operands[:2])
  if instruction.opcode == "dot":
    return _dot_macs(instruction, lhs)
  return _convolution_macs(instruction, lhs, rhs)


def flops(program: hlo.Program) -> int:
  """FLOPs of matrix products and convolutions in one run on one chip.

  Two for each multiply-add with an element of the input; none for those with
  padding. Elementwise operations are not counted.
  """
  return sum(2 * place.times * macs(place) for place in hlo.walk(program))


# -- Bytes of main memory -----------------------------------------------------


def _hbm(arrays) -> int:
  return sum(a.stored_bytes for a in arrays if a.is_in_hbm)


def _users(computation) -> dict[str, list[hlo.Instruction]]:
  users = {name: [] for name in computation}
  for instruction in computation.values():
    for operand in set(instruction.operands):
      users[operand].append(instruction)
  return users


def _reads(program, computation, name, users) -> int | None:
  """Bytes that a fusion reads of its parameter; None: all of it.

  Of a stacked array of which it uses one slice, the slice; of one that it
  updates in place, nothing.
  """
  total = 0
  for user in users[name]:
    if user.opcode in _SLICES and user.operands[0] == name:
      part = _hbm(user.arrays)
    elif user.opcode == "dynamic-update-slice" and user.operands[0] == name:
      part = 0
    elif user.opcode in _ALIASES:
      part = _reads(program, computation, user.name, users)
    elif user.opcode == "fusion":  # XLA for TPU nests them
      part = _nested_reads(program, user, name)
    else:
      part = None
    if part is None:
      return None
    total += part
  return total


def _nested_reads(program, fusion, name) -> int | None:
  inner = program.computations[fusion.called[0]]
  users = _users(inner)
  parts = [
    _reads(program, inner, parameter.name, users)
    for parameter in inner.values()
    if parameter.opcode == "parameter"
    and fusion.operands[int(parameter.literal)] == name
  ]
  return None if None in parts else sum(parts)


def _written(program, computation, name) -> int:
  """Bytes that a fusion writes of one of its results: the slice, if updated."""
  instruction = computation[name]
  while instruction.opcode in _ALIASES:
    instruction = computation[instruction.operands[0]]
  if instruction.opcode == "dynamic-update-slice":
    return _hbm(computation[instruction.operands[1]].arrays)
  if instruction.opcode == "fusion" and len(instruction.arrays) == 1:
    inner = program.computations[instruction.called[0]]
    return _written(program, inner, hlo.root(inner).name)
  return _hbm(computation[name].arrays)


def _fusion_bytes(place, program) -> int:
  instruction, computation = place.instruction, place.computation
  inner = program.computations[instruction.called[0]]
  users = _users(inner)
  total = 0
  for parameter in inner.values():
    if parameter.opcode != "parameter":
      continue
    operand = computation[instruction.operands[int(parameter.literal)]]
    whole = _hbm(operand.arrays)
    part = _reads(program, inner, parameter.name, users)
    total += whole if part is None else min(whole, part)
  root = hlo.root(inner)
  results = root.operands if root.opcode == "tuple" else [root.name]
  # Whether a result stays in the core's memory, the caller's shape says.
  for name, array in zip(results, instruction.arrays, strict=False):
    if array.is_in_hbm:
      total += _written(program, inner, name)
  return total


def _instruction_bytes(place, program) -> int:
  """Bytes between main memory and the core for one execution."""
  instruction, computation = place.instruction, place.computation
  opcode = instruction.opcode
  operands = [computation[name].arrays for name in instruction.operands]
  if opcode in _FREE or opcode.endswith("-done"):
    return 0
  if opcode == "fusion":
    return _fusion_bytes(place, program)
  if opcode in _SLICES:
    return 2 * _hbm(instruction.arrays)
  if opcode == "dynamic-update-slice":
    return 2 * _hbm(operands[1])
  if opcode == "slice-start":  # its result: the operand, the slice, a context
    part = instruction.arrays[1]
    return part.stored_bytes * (2 if part.is_in_hbm else 1)
  if opcode.endswith("-start"):  # its result: the copy, the operand, a context
    return sum(map(_hbm, operands)) + _hbm(instruction.arrays[:1])
  return sum(map(_hbm, operands)) + _hbm(instruction.arrays)


def hbm_bytes(program: hlo.Program) -> int:
  """Bytes that one run reads from and writes to a chip's main memory.

  Operands and results of each instruction that is not inside of a fusion, with
  the padding of their layout, where they are not in the core's own memory.
  """
  return sum(
    place.times * _instruction_bytes(place, program)
    for place in hlo.walk(program)
    if not place.in_fusion
  )


def unknown_loops(program: hlo.Program) -> int:
  """Loops whose trip count the text doesn't say; counted as one trip."""
  return sum(
    place.instruction.opcode == "while"
    and hlo.trip_count(program, place.instruction) is None
    for place in hlo.walk(program)
  )
