# SPDX-License-Identifier: Apache-2.0
"""Settings that every test runs under."""

import os

# Tests run on CPUs; libtpu, installed for plans, would look for a TPU first.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# What they compile runs for milliseconds; LLVM would optimise it for longer.
os.environ["XLA_FLAGS"] = (
  f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"
)

import pathlib  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402

import jax  # noqa: E402
import pytest  # noqa: E402


@pytest.fixture(autouse=True, scope="session")
def strict_jax():
  # A silent [B] x [B, H, W, C] broadcast is the classic bug of this field.
  jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True, scope="session")
def own_compiled_programs(tmp_path_factory):
  """Programs that tests start keep what they compile, but not in your home."""
  # This process has read the variable before, and keeps nothing.
  folder = str(tmp_path_factory.mktemp("compiled"))
  os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", folder)


@pytest.fixture(scope="session")
def on_four_devices():
  """A function that runs a program with four CPU devices: what it prints."""

  def run(program):
    done = subprocess.run(
      [sys.executable, "-c", program],
      env={
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} "
        "--xla_force_host_platform_device_count=4",
      },
      cwd=pathlib.Path(__file__).parent.parent,
      capture_output=True,
      text=True,
      check=False,
      timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()

  return run
