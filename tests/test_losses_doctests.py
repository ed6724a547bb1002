# SPDX-License-Identifier: Apache-2.0
"""What losses says of itself: the docstrings' examples and the docs' table."""

import doctest
import importlib
import inspect
import pathlib
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import losses

ROOT = pathlib.Path(__file__).parent.parent
MODULES = [
  importlib.import_module(f"losses.{module.name}")
  for module in pkgutil.iter_modules(losses.__path__)
]
PUBLIC = {
  name: value
  for name, value in vars(losses).items()
  if inspect.isroutine(value) or inspect.isclass(value)
}


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__)
def test_examples_print_what_they_say(module):
  names = {"jax": jax, "jnp": jnp, "losses": losses, "optax": optax}
  with np.printoptions(precision=4, suppress=True):
    failed, _ = doctest.testmod(module, extraglobs=names)
  assert failed == 0


@pytest.mark.parametrize("name", [n for n in PUBLIC if n[0].islower()])
def test_every_function_has_an_example(name):
  assert ">>> " in PUBLIC[name].__doc__


def test_the_docs_have_one_row_for_each_function():
  text = (ROOT / "docs" / "losses.md").read_text()
  text = text.partition("<!-- methods -->")[2].partition("<!-- /methods -->")[0]
  rows = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in text.splitlines()
    if line.startswith("| ") and not line.startswith(("| ---", "| method |"))
  ]
  assert {len(row) for row in rows} == {6}
  assert all(all(row) for row in rows)
  functions = [name for name, value in PUBLIC.items() if callable(value)]
  functions = [name for name in functions if name[0].islower()]
  assert sorted(row[3].strip("`") for row in rows) == sorted(functions)
