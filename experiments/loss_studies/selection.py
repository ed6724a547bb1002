# SPDX-License-Identifier: Apache-2.0
"""From trials to a comparison: hyper-parameters by validation, then the test.

Of each method the point with the best mean validation metric over the seeds is
chosen, and what is reported is the test metric of that point over the seeds.
Nobody looks at the test examples before.
"""

import contextlib
import json
import math
import pathlib

from experiments import workdir


def key(record: dict) -> str:
  """What a record is of: settings, method, point, seeds."""
  names = ("settings", "method", "point", "seeds")
  return json.dumps({name: record[name] for name in names}, sort_keys=True)


def read(path: pathlib.Path) -> dict[str, dict]:
  """The records of a file by key; drops a last line that a kill cut in half."""
  if not path.exists():
    return {}
  text = path.read_text()
  end = text.rfind("\n") + 1
  whole, last = text[:end], text[end:]
  if last:
    with contextlib.suppress(json.JSONDecodeError):
      json.loads(last)
      whole = f"{text}\n"  # An editor left out the last newline alone.
    workdir.write_whole(path, whole)
  return {key(r): r for r in map(json.loads, whole.splitlines())}


def best(records: list[dict], metric: str) -> dict:
  """The record with the highest mean of a validation metric; first of ties."""
  return max(records, key=lambda r: mean(r["validation"][metric]))


def mean(values: list[float]) -> float:
  return sum(values) / len(values)


def standard_error(values: list[float]) -> float:
  """Of the mean of at least two values."""
  m, n = mean(values), len(values)
  return math.sqrt(sum((v - m) ** 2 for v in values) / (n - 1) / n)


def differences(record: dict, other: dict, metric: str) -> list[float]:
  """Test metric minus that of another method, seed by seed."""
  assert record["seeds"] == other["seeds"]
  pairs = zip(record["test"][metric], other["test"][metric], strict=True)
  return [a - b for a, b in pairs]
