# SPDX-License-Identifier: Apache-2.0
"""The points of a sweep, and whether each of them can run.

Everything is checked before anything is launched, and all errors are told at
once.
"""

import dataclasses
import difflib
import importlib.util
import inspect
import pathlib
from typing import Any

import ml_collections

from experiments import checks
from scripts import overrides as overrides_lib
from scripts.sweep import names

# Keys whose value is no part of the program: points that differ in nothing
# else are traced once. Their values are checked for each point.
NOT_TRACED = ("optim.lr", "train.seed")


@dataclasses.dataclass(frozen=True)
class Point:
  """One run of a sweep.

  Attributes:
    name: of its folder.
    overrides: values by dotted key.
    flags: what the programs are started with, --workdir apart.
    config: the config with all overrides, locked.
  """

  name: str
  overrides: dict[str, Any]
  flags: tuple[str, ...]
  config: ml_collections.ConfigDict

  @property
  def total_steps(self) -> int:
    return self.config.train.total_steps


def load(file: str, base: dict[str, Any]) -> list[Point]:
  """The points of a config file, checked.

  Args:
    file: such as configs/images.py:64.
    base: overrides of all points, by dotted key.

  Raises:
    ValueError: naming all points that cannot run, and why.
  """
  config = parse_config(file, base)
  keys = sorted(_keys(config))
  listed = _listed(file)
  points, errors, first, traced = [], [], {}, {}
  for number, overrides in enumerate(listed, 1):
    name = names.point_name(overrides, keys)
    try:
      point = _point(file, base, overrides, keys)
      name = point.name
      if name in first:
        raise ValueError(f"the same as point {first[name]}; drop one")
      first[name] = number
      _trace(point, traced)
      points.append(point)
    except ValueError as error:
      errors.append(f"point {number} of {len(listed)} ({name}): {error}")
  if errors:
    raise ValueError("\n".join(errors))
  return points


def _module(path: str):
  spec = importlib.util.spec_from_file_location(pathlib.Path(path).stem, path)
  if spec is None or not pathlib.Path(path).exists():
    raise ValueError(f"--config={path}: there is no such Python file")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def _listed(file: str) -> list[dict]:
  """What the config's sweep() returns."""
  path, _, arg = file.partition(":")
  module = _module(path)
  if not hasattr(module, "sweep"):
    raise ValueError(
      f"{path} has no sweep(); write one that returns a list of overrides, as "
      "configs/digits.py does (see configs/points.py)"
    )
  takes_arg = bool(inspect.signature(module.sweep).parameters)
  listed = module.sweep(arg) if arg and takes_arg else module.sweep()
  if not listed or not all(isinstance(point, dict) for point in listed):
    raise ValueError(
      f"sweep() of {file} must return a list of dicts of overrides, at least "
      f"one; it returned {listed!r}"
    )
  return listed


def parse_config(file: str, overrides: dict) -> ml_collections.ConfigDict:
  """The locked config of a file, overridden as the command line does it.

  Raises:
    ValueError: if the file or a value is wrong.
  """
  path, _, arg = file.partition(":")
  get_config = _module(path).get_config
  config = get_config(arg) if arg else get_config()
  return overrides_lib.apply(config, as_flags(overrides))


def as_flags(overrides: dict) -> tuple[str, ...]:
  """Flags for the command line: --config.optim.lr=0.0001."""
  texts = []
  for key, value in overrides.items():
    if value is None:
      raise ValueError(
        f"{key}=None: flags cannot say None; leave the key out where the "
        "config has None"
      )
    value = tuple(value) if isinstance(value, list) else value
    texts.append(f"--config.{key}={value}")
  return tuple(texts)


def _point(file, base, overrides, keys) -> Point:
  for key in overrides:
    if key not in keys:
      raise ValueError(_unknown(key, keys))
    if key in base:
      raise ValueError(
        f"{key} is swept, and set for all points by --config.{key}; drop one"
      )
  both = base | overrides
  config = parse_config(file, both)
  values = {key: _get(config, key) for key in overrides}
  return Point(
    name=names.point_name(values, keys),
    overrides=values,
    flags=(f"--config={file}", *as_flags(both)),
    config=config,
  )


def _trace(point: Point, known: dict) -> None:
  """Checks shapes; `known` has the errors of programs traced before."""
  checks.check_values(point.config)
  alike = point.config.copy_and_resolve_references().unlock()
  for key in NOT_TRACED:
    section, _, field = key.partition(".")
    alike[section][field] = 0
  alike = alike.to_json(sort_keys=True)
  if alike not in known:
    known[alike] = None
    try:
      checks.check_shapes(point.config)
    except ValueError as error:
      known[alike] = str(error)
    except Exception as error:  # Whatever it is, this point does not run.
      first_line = (str(error).strip().splitlines() or [""])[0]
      known[alike] = f"{type(error).__name__}: {first_line}"
  if known[alike]:
    raise ValueError(known[alike])


def check_devices(points, num_devices: int, where: str) -> None:
  """Raises ValueError if meshes or batches do not go into the devices.

  Args:
    points: of a sweep.
    num_devices: of each point.
    where: what has them, such as v5e:4x4.
  """
  errors = []
  for number, point in enumerate(points, 1):
    try:
      checks.check_devices(point.config, num_devices)
    except ValueError as error:
      errors.append(
        f"point {number} of {len(points)} ({point.name}) on {where}: {error}"
      )
  if errors:
    raise ValueError("\n".join(errors))


def _keys(tree, prefix=""):
  for key, value in tree.items():
    if isinstance(value, ml_collections.ConfigDict):
      yield from _keys(value, f"{prefix}{key}.")
    else:
      yield f"{prefix}{key}"


def _get(config, key):
  for part in key.split("."):
    config = config[part]
  return config


def _unknown(key: str, keys) -> str:
  if any(known.startswith(f"{key}.") for known in keys):
    return f"{key} is a section of the config; override its keys"
  # The last part is what is misspelt or put into the wrong section.
  last = key.rpartition(".")[2]
  moved = [known for known in keys if known.endswith(f".{last}")]
  close = moved or difflib.get_close_matches(key, keys, n=1)
  hint = f"; did you mean {' or '.join(close)}?" if close else ""
  return f"the config has no key {key}{hint}"
