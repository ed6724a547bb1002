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

_EXPECTED = {int: "an integer", float: "a number", bool: "true or false"}


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
  defaults = {key: _get(config, key) for key in sorted(_keys(config))}
  listed = _listed(file)
  points, errors, first, traced = [], [], {}, {}
  for number, overrides in enumerate(listed, 1):
    name = names.point_name(overrides, defaults)
    try:
      point = _point(file, base, overrides, defaults)
      name = point.name
      if name in first:
        raise ValueError(f"the same as point {first[name]}; drop one")
      first[name] = number
      _trace(point, traced)
      points.append(point)
    except ValueError as error:
      errors.append((number, name, error))
  raise_all(errors, len(listed))
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


def _point(file, base, overrides, defaults) -> Point:
  for key in overrides:
    if key not in defaults:
      raise ValueError(_unknown(key, defaults))
    if key in base:
      raise ValueError(
        f"{key} is swept, and set for all points by --config.{key}; drop one"
      )
  both = base | overrides
  as_flags(both)  # What no flag can say, before what this flag cannot.
  for key, value in overrides.items():
    _check_numbers(key, value, defaults[key])
  try:
    config = parse_config(file, both)
  except ValueError:
    for key, value in overrides.items():
      _check_alone(file, key, value, defaults[key])
    raise
  values = {key: _get(config, key) for key in overrides}
  return Point(
    name=names.point_name(values, defaults),
    overrides=values,
    flags=(f"--config={file}", *as_flags(both)),
    config=config,
  )


def _check_numbers(key: str, value, default) -> None:
  """Raises ValueError for words in place of a tuple's numbers."""
  if not isinstance(default, tuple):
    return
  values = value if isinstance(value, tuple | list) else ()
  if default and _is_number(default[0]) and not all(map(_is_number, values)):
    raise ValueError(f"{key}={value} must be numbers, such as {default}")


def _check_alone(file: str, key: str, value, default) -> None:
  """Raises ValueError if this value is what the parser refuses; says why."""
  if isinstance(default, tuple):
    return
  expected = _EXPECTED.get(type(default))
  try:
    parse_config(file, {key: value})
  except ValueError as error:
    if expected is None:  # The parser knows more than we do.
      raise
    raise ValueError(
      f"{key}={value} must be {expected}, such as {default}"
    ) from error


def _is_number(value) -> bool:
  return isinstance(value, int | float)


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


def check_data(points, mount: str) -> None:
  """Checks what rented machines read from, which need not be here.

  Args:
    points: of a sweep.
    mount: folder of theirs at which the bucket of the root is.

  Raises:
    ValueError: naming the points whose data_dir is missing or an address.
  """
  errors = []
  for number, point in enumerate(points, 1):
    d = point.config.data
    if d.name == "digits":  # It comes with a package.
      continue
    remedy = (
      f"give --config.data.data_dir={mount}/FOLDER, where rented machines have "
      "FOLDER of the bucket of --root"
    )
    if d.data_dir is None:
      errors.append(
        (number, point.name, f"{d.name} needs a data_dir; {remedy}")
      )
    elif "://" in d.data_dir:
      why = f"data_dir {d.data_dir} must be a folder; {remedy}"
      errors.append((number, point.name, why))
  raise_all(errors, len(points))


def raise_all(errors, num_points: int, after: str = "") -> None:
  """Raises one ValueError for what is wrong with points, if anything is.

  Args:
    errors: (number from 1, name, message) of points; what several of them share
      is told once.
    num_points: of the sweep.
    after: text that follows the points.
  """
  lines = [
    f"{who}{after}: {error}" for who, error in grouped(errors, num_points)
  ]
  if lines:
    raise ValueError("\n".join(lines))


def grouped(errors, num_points: int) -> list[tuple[str, str]]:
  """(points, message) for each message; such as ("all 6 points", ...)."""
  sharing = {}
  for number, name, message in errors:
    sharing.setdefault(str(message), []).append((number, name))
  lines = []
  for message, found in sharing.items():
    numbers = ", ".join(str(number) for number, _ in found)
    if len(found) == 1:
      who = f"point {numbers} of {num_points} ({found[0][1]})"
    elif len(found) == num_points:
      who = f"all {num_points} points"
    else:
      who = f"points {numbers} of {num_points}"
    lines.append((who, message))
  return lines


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
      errors.append((number, point.name, error))
  raise_all(errors, len(points), f" on {where}")


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
