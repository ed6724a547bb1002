# SPDX-License-Identifier: Apache-2.0
"""Names of points: of their folders, and of what is rented for them.

A name depends on the point's own overrides and on the keys that the config
has, never on the other points: it stays when points are added or reordered.
"""

import hashlib
import re

# Of a folder; most file systems allow 255 bytes.
MAX_LENGTH = 120


def short_key(key: str, keys) -> str:
  """The shortest ending of a dotted key that no other key of the config has."""
  parts = key.split(".")
  for start in range(len(parts) - 1, 0, -1):
    ending = ".".join(parts[start:])
    if not any(k != key and f".{k}".endswith(f".{ending}") for k in keys):
      return ending
  return key


def _value(value) -> tuple[str, bool]:
  """Text of safe characters, and whether it tells the value from others."""
  if isinstance(value, tuple | list):
    texts, _ = zip(*map(_value, value), strict=True) if value else ((), ())
    exact = all(isinstance(v, int | float) for v in value)
    return "-".join(texts), exact
  text = str(value)
  safe = re.sub(r"[^A-Za-z0-9._+-]", "_", text)
  return safe, safe == text and bool(text)


def point_name(overrides: dict, keys) -> str:
  """Such as "lr=0.0003,seed=1", in the order of the dotted keys.

  A hash of all overrides follows only where the readable part leaves something
  out: characters that a folder's name should not have, or length.

  Args:
    overrides: values by dotted key.
    keys: all dotted keys of the config.
  """
  if not overrides:
    return "default"
  parts, is_exact = [], True
  for key in sorted(overrides):
    text, exact = _value(overrides[key])
    parts.append(f"{short_key(key, keys)}={text}")
    is_exact &= exact
  name = ",".join(parts)
  if is_exact and len(name) <= MAX_LENGTH:
    return name
  return f"{name[: MAX_LENGTH - 9]}-{digest(sorted(overrides.items()))}"


def resource_id(sweep: str, root: str, point: str) -> str:
  """Name of a cloud resource: at most 61 of a-z, 0-9 and "-".

  Always ends in a hash, since neither "=" nor "." nor capitals are allowed, and
  sweeps of two roots may have one name.
  """
  readable = re.sub(r"[^a-z0-9]+", "-", f"{sweep}-{point}".lower()).strip("-")
  return f"{readable[:52].strip('-')}-{digest((sweep, root, point))}"


def digest(content) -> str:
  """8 hexadecimal digits of a hash of what repr() tells apart."""
  return hashlib.sha256(repr(content).encode()).hexdigest()[:8]
