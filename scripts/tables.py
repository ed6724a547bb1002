# SPDX-License-Identifier: Apache-2.0
"""Writes the tables of README and docs from experiments/results/*.jsonl.

  python -m scripts.tables
  python -m scripts.tables --check   # are the committed ones those of results?

Numbers come from the newest lines of these files, and from nowhere else;
`table_places` says which table stands where.
"""

from absl import flags

from experiments import cli
from scripts import table_places

_CHECK = flags.DEFINE_bool(
  "check", False, "Write nothing; fail if a table is not that of the results."
)


def main(_):
  with cli.user_errors():
    stale = table_places.stale(write=not _CHECK.value)
  if _CHECK.value and stale:
    raise SystemExit(
      f"{', '.join(stale)}: not the tables of experiments/results; run "
      "python -m scripts.tables"
    )
  for name in stale:
    print(f"written: {name}")


if __name__ == "__main__":
  cli.run(main)
