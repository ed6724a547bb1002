# SPDX-License-Identifier: Apache-2.0
"""Links of the pages at the root and in docs lead to files and headings."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md"))]


def prose(page):
  """A page without its code, where # is a comment and ](x) may be a call."""
  code = r"^```.*?^```"
  return re.sub(code, "", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def headings(page):
  """The names by which GitHub's links find headings."""
  return {
    re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
    for heading in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
  }


def broken(page):
  """Links of a page that have no file, or a heading that its file lacks."""
  found = []
  for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
    name, _, heading = link.partition("#")
    if name.startswith(("http:", "https:")):
      continue
    target = page.parent / name if name else page
    if not target.exists() or (heading and heading not in headings(target)):
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
    "```\n# A comment\ntable[i](x)\n```\n[c](page.md#a-comment)\n"
    "[d](other.md) [e](https://example.org/other.md)\n"
  )
  assert broken(page) == ["#noise", "page.md#a-comment", "other.md"]
