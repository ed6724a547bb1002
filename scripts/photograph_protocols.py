# SPDX-License-Identifier: Apache-2.0
"""Which results of photographs are of one protocol, and of the same images."""


def protocol(record: dict) -> tuple:
  """What numbers must share to stand in one table; sizes share no reference."""
  split, samples = record["held_out_split"], record.get("samples")
  if samples is None:
    return (split,)
  return (
    split,
    samples["features"]["name"],
    samples["features"]["weights_hash"],
    samples["features"]["resize"],
    samples["num_samples"],
    samples["seed"],
    samples.get("labels"),
  )


def parts(found: list[dict], key=protocol) -> list[list[dict]]:
  """The records of each protocol, that of the newest record first."""
  by_key = {}
  for r in found:
    # A protocol goes to the end with its newest record.
    by_key[key(r)] = [*by_key.pop(key(r), []), r]
  return list(reversed(by_key.values()))


def most(found: list[dict], key=protocol) -> list[dict]:
  """Those of the protocol that most of them have; of equals the newest one's.

  So a single evaluation of fewer samples, or of another seed, changes nothing.
  """
  return max(parts(found, key), key=len, default=[])


def images(record: dict) -> dict[str, str]:
  """Hashes of the images that a record's numbers are of, as far as it has any.

  Those of samples have the feature network too.
  """
  hashes = {"held_out_hash": record.get("held_out_hash")}
  for side in ("train", "held_out"):
    of_side = record.get("samples", {}).get(side, {})
    hashes[f"samples.{side}.reference_hash"] = of_side.get("reference_hash")
  return {name: found for name, found in hashes.items() if found}


def require_same_images(records: list[dict], what: str) -> None:
  """Raises ValueError if records have hashes of different images.

  Args:
    records: by one protocol, of images of one size.
    what: they are of.
  """
  known = {}
  for r in records:
    for name, found in images(r).items():
      if known.setdefault(name, found) != found:
        raise ValueError(
          f"{what}: results have {name} {known[name]} and {found}, so they are "
          "of different images; train and evaluate with one folder, and give "
          "another one another name"
        )
