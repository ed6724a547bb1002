# SPDX-License-Identifier: Apache-2.0
"""Reads the text of a compiled XLA program (`compiled.as_text()`).

A program is a set of computations, lists of instructions:

  %name (parameters) -> result {
    %a = bf16[8,128]{1,0:T(8,128)(2,1)} fusion(%b, %c), kind=kLoop, calls=%d
    ROOT %e = ...
  }

Here is what the text says; what it means for a chip is in
`collectives` and `costs`.
"""

from collections.abc import Iterator
import math
import re
from typing import NamedTuple

BITS = {
  "pred": 8,
  "token": 0,
  "s2": 2,
  "u2": 2,
  "s4": 4,
  "u4": 4,
  "s8": 8,
  "u8": 8,
  "s16": 16,
  "u16": 16,
  "f16": 16,
  "bf16": 16,
  "s32": 32,
  "u32": 32,
  "f32": 32,
  "s64": 64,
  "u64": 64,
  "f64": 64,
  "c64": 64,
  "c128": 128,
}
_ARRAY = re.compile(r"([a-z]\w*)\[([\d,<=]*)\](?:\{([^{}]*)\})?")
_HEAD = re.compile(r"\s*(ROOT )?%?([\w.-]+) = ")
_OPCODE = re.compile(r"\s*([a-z][\w-]*)\(")
_TILE = re.compile(r"T\(([\d,]+)\)")


class Array(NamedTuple):
  """One array of a shape.

  Attributes:
    dtype: as XLA names it, such as bf16.
    dims: sizes.
    layout: "minor_to_major:tiles", such as "1,0:T(8,128)(2,1)S(1)".
  """

  dtype: str
  dims: tuple[int, ...]
  layout: str

  @property
  def size_bytes(self) -> int:
    """Bytes of the elements. 8-bit floats have names like f8e4m3fn."""
    return math.prod(self.dims) * BITS.get(self.dtype, 8) // 8

  @property
  def is_in_hbm(self) -> bool:
    """Whether in main memory; S(1) is the vector memory of a TPU core."""
    return "S(" not in self.layout

  @property
  def stored_bytes(self) -> int:
    """Bytes with the padding of the layout's outer tile.

    T(8,128) pads the minor axis to 128 and the next to 8: of 3 channels as the
    minor axis a TPU would store 128.
    """
    tile = _TILE.search(self.layout)
    if not tile or not self.dims:
      return self.size_bytes
    order = [int(axis) for axis in self.layout.split(":")[0].split(",")]
    dims = list(self.dims)
    tile = [int(size) for size in tile[1].split(",")]
    for axis, size in zip(order, reversed(tile), strict=False):
      dims[axis] = -(-dims[axis] // size) * size
    return math.prod(dims) * BITS.get(self.dtype, 8) // 8


class Instruction(NamedTuple):
  """One line.

  Attributes:
    name: unique in its computation.
    opcode: such as fusion.
    arrays: of the result, which is a tuple if there are several.
    operands: names of instructions of the same computation.
    literal: the text between the parentheses after the opcode.
    attributes: the text after them.
    is_root: whether it is the computation's result.
  """

  name: str
  opcode: str
  arrays: tuple[Array, ...]
  operands: tuple[str, ...]
  literal: str
  attributes: str
  is_root: bool

  def attribute(self, pattern: str) -> str | None:
    """Group 1 of a pattern in the attributes."""
    match = re.search(pattern, self.attributes)
    return match and match[1]

  @property
  def called(self) -> list[str]:
    """Computations named in the attributes, but those applied per element."""
    names = re.findall(
      r"(?:calls|body|condition|branch_computations)=\{?((?:%[\w.-]+(?:, )?)+)",
      self.attributes,
    )
    if self.opcode == "call":
      names += re.findall(r"to_apply=(%[\w.-]+)", self.attributes)
    return [n for group in names for n in re.findall(r"%([\w.-]+)", group)]

  @property
  def source(self) -> str:
    """The JAX name of what it computes."""
    return self.attribute(r'op_name="([^"]*)"') or ""


Computation = dict[str, Instruction]


def _closing(text: str, start: int) -> int:
  """Index of the parenthesis that closes text[start]."""
  depth = 0
  for i in range(start, len(text)):
    if text[i] == "(":
      depth += 1
    elif text[i] == ")":
      depth -= 1
      if not depth:
        return i
  raise ValueError(f"unbalanced parentheses in {text[start : start + 80]!r}")


def arrays_of(shape: str) -> tuple[Array, ...]:
  """The arrays of a shape's text."""
  return tuple(
    Array(dtype, tuple(int(d) for d in re.findall(r"\d+", dims)), layout)
    for dtype, dims, layout in _ARRAY.findall(shape)
  )


def parse_instruction(line: str) -> Instruction | None:
  """The instruction of a line, or None."""
  head = _HEAD.match(line)
  if not head:
    return None
  start = head.end()
  end = (
    _closing(line, start) + 1 if line[start] == "(" else line.find(" ", start)
  )
  opcode = _OPCODE.match(line, end)
  if not opcode:
    return None
  close = _closing(line, opcode.end() - 1)
  literal = line[opcode.end() : close]
  return Instruction(
    name=head[2],
    opcode=opcode[1],
    arrays=arrays_of(line[start:end]),
    operands=tuple(re.findall(r"%([\w.-]+)", literal)),
    literal=literal,
    attributes=line[close + 1 :],
    is_root=bool(head[1]),
  )


class Program(NamedTuple):
  """Computations by name, and the name of the one that runs."""

  computations: dict[str, Computation]
  entry: str


def parse(text: str) -> Program:
  """The program of `compiled.as_text()`.

  Raises:
    ValueError: if it has no entry.
  """
  computations, entry, current = {}, None, None
  for line in text.splitlines():
    if line.startswith(("%", "ENTRY")) and line.endswith("{"):
      name = re.match(r"(?:ENTRY )?%?([\w.-]+)", line)[1]
      current = computations[name] = {}
      if line.startswith("ENTRY"):
        entry = name
    elif line.startswith("}"):
      current = None
    elif current is not None and (instruction := parse_instruction(line)):
      current[instruction.name] = instruction
  if entry is None:
    raise ValueError("the text has no ENTRY; give it compiled.as_text()")
  return Program(computations, entry)


def root(computation: Computation) -> Instruction:
  """The instruction that is the computation's result."""
  return next(i for i in computation.values() if i.is_root)


def trip_count(program: Program, loop: Instruction) -> int | None:
  """How often a while loop's body runs, or None if the text doesn't say.

  Known from XLA's own note, or, of a loop that counts from 0 by ones to a
  constant, as those of jax.lax.scan do, from its condition.
  """
  known = loop.attribute(r'known_trip_count"?:\{"n":"(\d+)"')
  if known:
    return int(known)
  condition = program.computations[loop.attribute(r"condition=%([\w.-]+)")]
  compare = root(condition)
  if compare.opcode == "fusion":  # its operands are the compared values
    body = program.computations[compare.called[0]]
    direction = root(body).attribute(r"direction=(\w+)")
  else:
    direction = compare.attribute(r"direction=(\w+)")
  limits = [
    int(condition[name].literal)
    for name in compare.operands
    if condition[name].opcode == "constant"
    and re.fullmatch(r"-?\d+", condition[name].literal)
  ]
  if direction != "LT" or len(limits) != 1:
    return None
  return limits[0]


class Place(NamedTuple):
  """An instruction, where it is, and how often the program runs it."""

  instruction: Instruction
  computation: Computation
  times: int
  in_fusion: bool


def walk(program: Program) -> Iterator[Place]:
  """Every instruction that runs, those inside of fusions too.

  Of a conditional every branch is taken. A loop whose trip count is unknown
  counts as one trip.
  """
  todo = [(program.entry, 1, False)]
  while todo:
    name, times, in_fusion = todo.pop()
    computation = program.computations[name]
    for instruction in computation.values():
      yield Place(instruction, computation, times, in_fusion)
      trips = 1
      if instruction.opcode == "while":
        known = trip_count(program, instruction)
        trips = 1 if known is None else known
      fused = in_fusion or instruction.opcode == "fusion"
      for called in instruction.called:
        todo.append((called, times * trips, fused))
