# SPDX-License-Identifier: Apache-2.0
"""What all programs do alike: compiled programs are kept, where one wants."""

import pytest
import real_runs

PROGRAM = """
from absl import flags
import jax
from experiments import cli

def main(argv):
  print(jax.jit(lambda x: 2 * x + 1)(20.5))

cli.run(main)
"""


@pytest.mark.parametrize(
  "variable, flags, where",
  [
    (None, [], ".cache/simple_diffusion/xla"),
    pytest.param("{home}/variable", [], "variable", marks=pytest.mark.slow),
    pytest.param(
      None,
      ["--jax_compilation_cache_dir={home}/flag"],
      "flag",
      marks=pytest.mark.slow,
    ),
    ("", [], None),
    pytest.param(
      None, ["--jax_compilation_cache_dir="], None, marks=pytest.mark.slow
    ),
  ],
  ids=["default", "variable", "flag", "empty_variable", "empty_flag"],
)
def test_compiled_programs_are_kept(tmp_path, variable, flags, where):
  for _ in ("compiled", "loaded"):
    child = real_runs.start_python(
      ["-c", PROGRAM, *(flag.format(home=tmp_path) for flag in flags)],
      environ={
        "HOME": str(tmp_path),
        "JAX_COMPILATION_CACHE_DIR": variable
        and variable.format(home=tmp_path),
      },
    )
    assert real_runs.end([child]) == [(0, "42.0\n", "")]
    kept = {
      str(path.parent.relative_to(tmp_path))
      for path in tmp_path.rglob("*-cache")
    }
    assert kept == ({where} if where else set())


def test_home_that_cannot_be_written_to(tmp_path):
  (tmp_path / "file").touch()
  child = real_runs.start_python(
    ["-c", PROGRAM],
    environ={
      "HOME": str(tmp_path / "file"),
      "JAX_COMPILATION_CACHE_DIR": None,
    },
  )
  assert real_runs.end([child]) == [(0, "42.0\n", "")]
