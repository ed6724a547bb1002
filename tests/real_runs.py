# SPDX-License-Identifier: Apache-2.0
"""Starts the real programs, for tests: one process or several, any devices."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import time

import jax

from experiments import workdir as workdir_lib
from simple_diffusion import build
from simple_diffusion import checkpoints
from simple_diffusion import sharding

ROOT = pathlib.Path(__file__).parent.parent

TINY = (
  "--config=configs/digits.py",
  "--config.model.base_channels=8",
  "--config.model.emb_channels=8",
  "--config.model.channel_multiplier=1,2",
  "--config.model.num_res_blocks=1,",
  "--config.model.num_transformer_blocks=1",
  "--config.model.num_heads=2",
  "--config.train.log_every_steps=2",
  "--config.train.num_samples=4",
  "--config.sample.num_steps=2",
)

# How fast it went is not part of what must be the same.
TIMINGS = ("steps_per_second", "data_wait_fraction")


def start(*args, program="experiments.train", **options):
  """Starts one of the programs; see `start_python`."""
  return start_python(["-m", program, *args], **options)


def start_python(args, *, num_devices=1, environ=None):
  """Starts a program on so many CPU devices, with changes of the environment.

  Variables of `environ` that are None are left out.
  """
  devices = f"--xla_force_host_platform_device_count={num_devices}"
  defaults = {
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    "JAX_PLATFORMS": "cpu",
    "OPENBLAS_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",
    "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} {devices}",
  }
  environ = os.environ | defaults | (environ or {})
  return subprocess.Popen(
    [sys.executable, *args],
    cwd=ROOT,
    env={name: value for name, value in environ.items() if value is not None},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def free_port() -> int:
  """A port of this machine that nobody listens to."""
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    return free.getsockname()[1]


def start_many(count, *args, of=None, **options):
  """Starts the processes of one run.

  Args:
    count: number of processes.
    *args: what all of them get.
    of: {process: what it gets beside}.
    **options: see `start`.
  """
  port = free_port()
  return [
    start(
      *args,
      "--distributed",
      f"--coordinator_address=127.0.0.1:{port}",
      f"--num_processes={count}",
      f"--process_id={i}",
      *(of or {}).get(i, ()),
      **options,
    )
    for i in range(count)
  ]


def end(children, timeout=120):
  """Waits for the processes; returns [(exit code, stdout, stderr)]."""
  ended = []
  try:
    for child in children:
      out, err = child.communicate(timeout=timeout)
      ended.append((child.returncode, out, err))
  finally:
    for child in children:
      if child.poll() is None:
        child.kill()
        child.communicate()
  return ended


def finish(children):
  """Waits for a good end; returns what each process printed."""
  ended = end(children)
  for code, _, err in ended:
    assert code == 0, err
  return [out for _, out, _ in ended]


def wait_until(condition, children, timeout=60):
  """Waits; fails if a process ends before, or if it takes too long."""
  until = time.monotonic() + timeout
  while not condition():
    ended = [child for child in children if child.poll() is not None]
    if ended or time.monotonic() > until:
      raise AssertionError([err for _, _, err in end(children, timeout=1)])
    time.sleep(0.002)


def has_printed(child, words):
  """Whether a running process prints the words; reads until then."""
  return any(words in line for line in iter(child.stdout.readline, ""))


def records(workdir):
  """Whole lines of metrics.jsonl, without the timings."""
  path = workdir / "metrics.jsonl"
  if not path.exists():
    return []
  *lines, _ = path.read_text().split("\n")
  lines = [json.loads(line) for line in lines]
  return [{k: r[k] for k in r if k not in TIMINGS} for r in lines]


def load_state(workdir, step):
  """The state that a run's checkpoint has, on one device."""
  config = workdir_lib.load_config(str(workdir))
  network = build.make_network(config.model)
  shapes = jax.eval_shape(lambda: build.init_state(config, network, seed=0))
  device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  with checkpoints.open_manager(workdir, keep=2) as manager:
    return checkpoints.restore(manager, step, sharding.laid_out(shapes, device))


def steps(workdir):
  """Steps of the whole checkpoints, in order."""
  folder = workdir / "checkpoints"
  names = [p.name for p in folder.iterdir()] if folder.exists() else []
  return sorted(int(name) for name in names if name.isdigit())
