# SPDX-License-Identifier: Apache-2.0
"""Links of README and docs to files and headings lead somewhere."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]


def headings(text):
  """The names by which GitHub's links find headings."""
  # A comment of a shell's is not a heading.
  text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
  return {
    re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
    for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
  }


def broken(page):
  """Links of a page that have no file, or a heading that its file lacks."""
  found = []
  for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
    name, _, heading = link.partition("#")
    if name.startswith(("http:", "https:")):
      continue
    target = page.parent / name if name else page
    if not target.exists() or (
      heading and heading not in headings(target.read_text())
    ):
      found.append(link)
  return found


@pytest.mark.parametrize(
  "page", PAGES, ids=lambda page: str(page.relative_to(ROOT))
)
def test_links_lead_somewhere(page):
  assert broken(page) == []


def test_a_link_to_nothing_is_found(tmp_path):
  page = tmp_path / "page.md"
  page.write_text(
    "## Table 2: noise\n[a](#table-2-noise) [b](#noise)\n"
    "```\n# A comment\n```\n[c](page.md#a-comment)\n"
    "[d](other.md) [e](https://example.org/other.md)\n"
  )
  assert broken(page) == ["#noise", "page.md#a-comment", "other.md"]
