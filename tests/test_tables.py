# SPDX-License-Identifier: Apache-2.0
"""The tables of README and docs are those of experiments/results."""

import pytest

from scripts import photograph_loss_ratios
from scripts import photograph_loss_tables
from scripts import photograph_tables
from scripts import table_places


@pytest.mark.parametrize("name, makers", table_places.PLACES)
def test_committed_tables_are_current(name, makers):
  text = (table_places.ROOT / name).read_text()
  assert table_places.filled(text, makers, name=name) == text, (
    "run python -m scripts.tables"
  )


def test_each_table_of_photographs_has_a_page():
  placed = [make for _, makers in table_places.PLACES for make in makers]
  for module in (
    photograph_tables,
    photograph_loss_tables,
    photograph_loss_ratios,
  ):
    assert all(placed.count(make) == 1 for make in module.MAKERS)


def test_stale_tables_are_named_and_only_written_when_asked(
  tmp_path, monkeypatch
):
  def answer():
    return "| 42 |"

  places = (("fresh.md", (answer,)), ("stale.md", (answer,)))
  monkeypatch.setattr(table_places, "ROOT", tmp_path)
  monkeypatch.setattr(table_places, "PLACES", places)
  page = "<!-- table:answer -->\n| {} |\n<!-- /table:answer -->\n".format
  (tmp_path / "fresh.md").write_text(page(42))
  (tmp_path / "stale.md").write_text(page(41))
  assert table_places.stale(write=False) == ["stale.md"]
  assert (tmp_path / "stale.md").read_text() == page(41)
  assert table_places.stale(write=True) == ["stale.md"]
  assert (tmp_path / "stale.md").read_text() == page(42)
  assert table_places.stale(write=False) == []


def test_a_table_goes_between_its_marks():
  def answer():
    return r"| 42 \1 |"

  text = "a\n<!-- table:answer -->\nold\n<!-- /table:answer -->\nb\n"
  filled = table_places.filled(text, (answer,), name="page.md")
  assert filled == text.replace("old", r"| 42 \1 |")
  assert table_places.filled(filled, (answer,), name="page.md") == filled
  for page, places in (("nothing", "no"), (text + text, "2")):
    error = rf"page\.md has {places} places for.*'answer'; it must have one"
    with pytest.raises(ValueError, match=error):
      table_places.filled(page, (answer,), name="page.md")
