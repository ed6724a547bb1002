# SPDX-License-Identifier: Apache-2.0
"""The examples in the docstrings of losses, and that each function has one."""

import doctest
import importlib
import inspect
import pkgutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import losses

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
