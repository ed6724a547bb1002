# SPDX-License-Identifier: Apache-2.0
"""experiments/results as Python reads it, and tables as Markdown has them."""

import json
import pathlib

from experiments import workdir

FOLDER = pathlib.Path(__file__).parent.parent / "experiments" / "results"


def lines(name: str) -> list[dict]:
  """All records of <name>.jsonl, oldest first; none if there is no file."""
  path = FOLDER / f"{name}.jsonl"
  if not path.exists():
    return []
  return [json.loads(line) for line in path.read_text().splitlines()]


def newest(name: str, **match) -> dict | None:
  """The last record whose fields equal `match`."""
  found = [r for r in lines(name) if match.items() <= r.items()]
  return found[-1] if found else None


def is_of(record: dict, config: dict, *, apart: tuple[str, ...] = ()) -> bool:
  """Whether a record is of a run of this config, and of its sampler.

  Args:
    record: with the config that was run, as `evaluate` writes it.
    config: as plain JSON. What may change within a run, total_steps for one,
      is not compared.
    apart: dotted keys that need not agree either, such as "train.seed", or
      groups of them, such as "sample".
  """
  sides = [
    workdir.immutable(side) | {"sample": side["sample"]}
    for side in (record["config"], config)
  ]
  groups = tuple(f"{key}." for key in apart)
  return all(
    f"{text.partition(' ')[0]}.".startswith(groups)
    for text in workdir.differences(*sides, there="", here="")
  )


def where(*environments: dict) -> str:
  """What records were measured on, and with which code; each commit once."""
  of_machine = {}
  for e in environments:
    machine = (
      f"{e['devices'][0]}, {e['num_cores']} cores, jax {e['versions']['jax']}"
    )
    of_machine.setdefault(machine, set()).add(str(e["git_sha"]))
  return "; ".join(
    f"{machine}, commit{'s' * (len(commits) > 1)} {', '.join(sorted(commits))}"
    for machine, commits in of_machine.items()
  )


def markdown(header, rows) -> str:
  """A table of cells of text."""
  cells = [header, ["---"] * len(header), *rows]
  return "\n".join("| " + " | ".join(line) + " |" for line in cells)
