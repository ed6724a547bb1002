# SPDX-License-Identifier: Apache-2.0
"""Writes the tables of README and docs from experiments/results/*.jsonl.

  python -m scripts.tables
  python -m scripts.tables --check   # are the committed ones those of results?

Numbers come from the newest lines of these files, and from nowhere else;
`table_places` says which table stands where.
"""

from absl import app
from absl import flags

from scripts import table_places

_CHECK = flags.DEFINE_bool(
  "check", False, "Write nothing; fail if a table is not that of the results."
)


def main(_):
  stale = []
  for name, makers in table_places.PLACES:
    path = table_places.ROOT / name
    text = path.read_text()
    new = table_places.filled(text, makers, name=name)
    if new == text:
      continue
    stale.append(name)
    if not _CHECK.value:
      path.write_text(new)
      print(f"written: {path}")
  if _CHECK.value and stale:
    raise SystemExit(
      f"{', '.join(stale)}: not the tables of experiments/results; run "
      "python -m scripts.tables"
    )


if __name__ == "__main__":
  app.run(main)
