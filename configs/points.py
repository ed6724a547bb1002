# SPDX-License-Identifier: Apache-2.0
"""Points of a sweep: lists of overrides such as {"optim.lr": 1e-4}.

A config's `sweep()` puts its list together from these and returns it:

  product(over("optim.lr", (1e-4, 3e-4)), over("train.seed", range(3)))

has six points, and the last list varies fastest.
"""


def over(key, values):
  """One point for each value of a dotted key."""
  return [{key: value} for value in values]


def fixed(**sections):
  """One point: fixed(optim=dict(lr=1e-4)) sets optim.lr, beside others."""
  return [
    {
      f"{section}.{key}": value
      for section, fields in sections.items()
      for key, value in fields.items()
    }
  ]


def product(*lists):
  """Every combination of a point of each list.

  Raises:
    ValueError: if two lists set the same key.
  """
  combined = [{}]
  for points in lists:
    combined = [_merged((a, b)) for a in combined for b in points]
  return combined


def zipped(*lists):
  """The first points of all lists together, then the second ones, ...

  Raises:
    ValueError: if the lists differ in length or set the same key.
  """
  if len({len(points) for points in lists}) > 1:
    raise ValueError(
      f"zipped lists of {', '.join(str(len(points)) for points in lists)} "
      "points; give them the same length, or take their product"
    )
  return [_merged(points) for points in zip(*lists, strict=True)]


def chain(*lists):
  """The points of one list after those of the other."""
  return [point for points in lists for point in points]


def _merged(points):
  merged = {}
  for point in points:
    if twice := merged.keys() & point.keys():
      raise ValueError(
        f"{', '.join(sorted(twice))} is set by two lists of a product or zip; "
        "set it in one of them"
      )
    merged |= point
  return merged
