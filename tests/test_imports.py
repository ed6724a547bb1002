# SPDX-License-Identifier: Apache-2.0
"""Who may import whom, read from the sources."""

import ast
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
NETWORKS = {"dropout", "group_norm", "layers", "remat", "unet", "uvit"}


def imports(path):
  """Dotted names that a file imports, wherever in it."""
  found = set()
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f"{path}: relative import"
      found |= {f"{node.module}.{alias.name}" for alias in node.names}
  return found


def tops(path):
  return {name.split(".")[0] for name in imports(path)}


def files(folder):
  return sorted((ROOT / folder).rglob("*.py"))


def direct():
  """For each module of the library, the library's modules that it imports.

  A package, such as metrics, is one module.
  """
  found = {}
  for path in files("simple_diffusion"):
    module = path.relative_to(ROOT / "simple_diffusion").parts[0]
    module = module.removesuffix(".py")
    imported = {
      name.split(".")[1]
      for name in imports(path)
      if name.startswith("simple_diffusion.")
    }
    found.setdefault(module, set()).update(imported - {module})
  return found


def closure(module):
  """The module and all of the library that it imports, however far."""
  graph, found, new = direct(), set(), {module}
  while new:
    found |= new
    new = {name for seen in new for name in graph.get(seen, ())} - found
  return found


def test_the_reader_sees_every_form(tmp_path):
  path = tmp_path / "module.py"
  path.write_text("import a.b as c\ndef f():\n  from d.e import g as h\n")
  assert imports(path) == {"a.b", "d.e.g"}
  assert {"schedules", "diffusion"} <= closure("train")


@pytest.mark.parametrize("folder", ["simple_diffusion", "losses"])
def test_libraries_stand_alone(folder):
  ours = {"configs", "experiments", "losses", "scripts", "simple_diffusion"}
  for path in files(folder):
    assert tops(path) & ours <= {folder}, path


def test_losses_need_only_arrays_and_optimizers():
  allowed = {
    "chex",
    "jax",
    "losses",
    "numpy",
    "optax",
    *sys.stdlib_module_names,
  }
  for path in files("losses"):
    assert tops(path) <= allowed, path


def test_families_of_losses_are_short():
  for path in [*files("losses"), *(ROOT / "tests").glob("test_losses_*.py")]:
    assert len(path.read_text().splitlines()) < 300, path


def test_configs_only_describe():
  for path in files("configs"):
    assert tops(path) <= {"configs", "ml_collections"}, path


def test_nothing_needs_the_scripts():
  for folder in ("configs", "experiments", "losses", "simple_diffusion"):
    for path in files(folder):
      assert "scripts" not in tops(path), path


@pytest.mark.parametrize(
  "module",
  [
    "schedules",
    "diffusion",
    "objective",
    "sampler",
    "patching",
    "likelihood",
    "variational_bound",
    "probability_flow",
  ],
)
def test_mathematics_knows_no_networks(module):
  for name in closure(module):
    path = ROOT / "simple_diffusion" / f"{name}.py"
    assert not tops(path) & {"flax", "optax", "orbax"}, path
  assert not closure(module) & (NETWORKS | {"build", "programs", "train"})


@pytest.mark.parametrize("package", ["features", "metrics"])
def test_measures_stand_apart(package):
  """Neither knows how images were made, nor metrics whose features they get."""
  assert closure(package) == {package}
  allowed = {"chex", "jax", "numpy", "safetensors", "simple_diffusion"}
  for path in files(f"simple_diffusion/{package}"):
    assert tops(path) <= allowed | set(sys.stdlib_module_names), path


@pytest.mark.parametrize("module", sorted(NETWORKS))
def test_networks_know_no_schedules(module):
  assert closure(module) <= NETWORKS | {"attention", "patching", "sharding"}


def test_only_build_and_train_see_networks_and_schedules():
  for module in set(direct()) - {"build", "programs", "train"}:
    seen = closure(module)
    assert not (seen & NETWORKS and "schedules" in seen), module


def test_no_cycles():
  for module, imported in direct().items():
    for name in imported:
      assert module not in closure(name), f"{module} and {name}"


@pytest.mark.parametrize(
  "module", ["schedules", "uvit", "objective", "sampler"]
)
def test_the_files_to_read_first_are_short(module):
  text = (ROOT / "simple_diffusion" / f"{module}.py").read_text()
  assert len(text.splitlines()) < 250


def test_no_drawer_for_odds_and_ends():
  for path in files("."):
    if path.parts[len(ROOT.parts)].startswith("."):
      continue
    names = {"utils", "util", "helpers", "base", "common", "misc"}
    assert path.stem not in names or path == ROOT / "configs/common.py", path
