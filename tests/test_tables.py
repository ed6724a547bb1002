# SPDX-License-Identifier: Apache-2.0
"""The tables of README and docs are those of experiments/results."""

import pytest

from scripts import tables


@pytest.mark.parametrize("name, makers", tables.PLACES)
def test_committed_tables_are_current(name, makers):
  text = (tables.ROOT / name).read_text()
  assert tables.filled(text, makers, name=name) == text, (
    "run python -m scripts.tables"
  )


def test_a_table_goes_between_its_marks():
  def answer():
    return r"| 42 \1 |"

  text = "a\n<!-- table:answer -->\nold\n<!-- /table:answer -->\nb\n"
  filled = tables.filled(text, (answer,), name="page.md")
  assert filled == text.replace("old", r"| 42 \1 |")
  assert tables.filled(filled, (answer,), name="page.md") == filled
  with pytest.raises(ValueError, match=r"page\.md has no place for.*answer"):
    tables.filled("nothing", (answer,), name="page.md")
