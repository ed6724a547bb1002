# SPDX-License-Identifier: Apache-2.0
"""The benchmark of the training step, and what the update costs."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from configs import digits
from configs import photographs
from experiments import chips
from experiments.planning import child
from experiments.planning import costs
from experiments.planning import hlo
from scripts import bench_step
from scripts import step_measures
from simple_diffusion import build
from simple_diffusion import train

ROOT = pathlib.Path(__file__).parent.parent
SMALL = (
  "--config=configs/digits.py",
  "--config.model.base_channels=8",
  "--config.model.channel_multiplier=(1, 2)",
  "--config.model.num_res_blocks=(1,)",
  "--config.model.num_transformer_blocks=2",
  "--config.model.scan_unroll=1",
  "--config.train.batch_size=4",
)


def bench(*args):
  return subprocess.run(
    [sys.executable, "-m", "scripts.bench_step", *SMALL, *args],
    cwd=ROOT,
    env=os.environ | {"JAX_PLATFORMS": "cpu"},
    capture_output=True,
    text=True,
    check=False,
    timeout=300,
  )


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
  """(record, what was printed) of two rounds of three steps, one variant."""
  path = tmp_path_factory.mktemp("results") / "bench_step.jsonl"
  done = bench(
    "--rounds=2",
    "--steps=3",
    f"--results={path}",
    "--against=train.batch_size=8,model.remat=all",
  )
  assert done.returncode == 0, done.stderr
  (line,) = path.read_text().splitlines()
  return json.loads(line), done.stdout


def test_rates_follow_from_the_time_of_a_step(measured):
  record, _ = measured
  for side, batch_size in ((record, 4), (record["against"][0], 8)):
    seconds = side["seconds_per_step"]
    assert side["batch_size"] == batch_size and 0 < seconds < 10
    assert side["steps_per_second"] == pytest.approx(1 / seconds)
    assert side["images_per_second"] == pytest.approx(batch_size / seconds)
    low, high = side["seconds_quartiles"]
    assert low <= seconds <= high
    assert side["flops_per_second_per_device"] == pytest.approx(
      side["flops_per_step"] / seconds
    )


# Multiply-adds of one image: 16 pixels of 4 channels, then 8; 4 tokens of 16.
MACS = sum(
  [
    8 * 128 + 128 * 128,  # conditioning
    16 * 9 * 4 * 8,  # stem
    2 * 16 * 9 * 8 * 8 + 128 * 16,  # down: two convolutions and FiLM
    4 * 8 * 16,  # into the transformer
    2 * (4 * 12 * 16**2 + 2 * 4 * 4 * 16 + 128 * 32),  # two blocks, and FiLM
    4 * 16 * 8,  # out of it
    16 * 9 * 16 * 8 + 16 * 9 * 8 * 8 + 128 * 16 + 16 * 16 * 8,  # up, with skip
    16 * 9 * 8 * 4,  # head
  ]
)


def test_flops_are_of_the_model_not_of_what_remat_repeats(measured):
  record, _ = measured
  assert record["flops_per_step"] == 3 * 2 * MACS * 4
  (other,) = record["against"]
  assert other["flops_per_step"] == 3 * 2 * MACS * 8


def test_a_cpu_has_no_peak_and_it_says_so(measured):
  record, printed = measured
  assert record["mfu"] is None and record["peak_flops_per_device"] is None
  assert "MFU unknown" in printed and "'cpu'" in printed
  assert record["environment"]["devices"] == ["cpu"]
  assert record["attention"] == "xla"


def test_state_counts_once_in_memory(measured):
  record, _ = measured
  # Parameters, average and two moments in float32; donated, so not twice. A
  # batch of 4 needs little more.
  state = 4 * 4 * record["parameters"]
  assert state < record["program_bytes_per_device"] < 2 * state


def test_time_to_the_first_step(measured):
  record, _ = measured
  assert set(record["compile_s"]) == {"trace", "lower", "compile"}
  assert all(seconds > 0 for seconds in record["compile_s"].values())


def test_share_of_the_update(measured):
  record, _ = measured
  update = record["update"]
  assert 0 < update["share_of_step"] < 1
  assert 13 < update["passes"] < 15  # see PASSES_OF_A_CPU


@pytest.mark.parametrize(
  "args, message",
  [
    (["--config.mesh.fsdp=3"], "mesh.fsdp=3 does not make the 1 devices"),
    (["--against=model.remmat=all"], "--against=model.remmat=all"),
    (["--against=train.batch_size=many"], "train.batch_size=many"),
  ],
)
def test_mistakes_are_one_line(args, message):
  done = bench(*args)
  assert done.returncode == 2
  assert done.stdout == "" and len(done.stderr.splitlines()) == 1, done.stderr
  assert message in done.stderr


def test_overrides_leave_the_config_alone():
  config = digits.get_config()
  other = bench_step.override(config, "model.remat=all,train.batch_size=8")
  assert (other.model.remat, other.train.batch_size) == ("all", 8)
  assert (config.model.remat, config.train.batch_size) == ("none", 64)
  other = bench_step.override(
    config, "model.channel_multiplier=(1, 2),train.batch_size=8"
  )
  assert other.model.channel_multiplier == (1, 2)
  assert other.train.batch_size == 8


def test_overrides_fill_a_placeholder():
  config = photographs.get_config()
  other = bench_step.override(config, "model.num_classes=10")
  assert (other.model.num_classes, config.model.num_classes) == (10, None)


def test_too_little_memory_names_the_remedies():
  config = digits.get_config()
  names = "batch_size=64.*accum_steps=1.*remat='none'.*fsdp=1"
  with (
    pytest.raises(ValueError, match=names),
    step_measures.memory_errors(config),
  ):
    jax.jit(lambda: jnp.zeros((2**30, 2**30)))()  # more than an address space


def test_other_errors_of_a_device_are_not_called_memory():
  def fail(_):
    raise RuntimeError("broken")

  def step(x):
    jax.debug.callback(fail, x)
    return x

  with (
    pytest.raises(jax.errors.JaxRuntimeError, match="broken"),
    step_measures.memory_errors(digits.get_config()),
  ):
    jax.block_until_ready(jax.jit(step)(jnp.ones(3)))
    jax.effects_barrier()


# XLA for CPU fuses what leads to one result, not what several results share:
# the norm reads the gradient; each moment reads the gradient and itself; the
# parameters read both moments and themselves; the average reads itself and
# the parameters. 1 + 2 + 2 + 3 + 2 reads and four writes.
PASSES_OF_A_CPU = 14


def update_program(sharding=None):
  """(the compiled update of two kernels, bytes of their parameters)."""
  config = digits.get_config()

  def init():
    # Too large for the memory of a TPU's core, where they would cost nothing.
    params = {"a": jnp.zeros((8192, 8192)), "b": jnp.zeros((8192, 4096))}
    opt_state = build.make_optimizer(config.optim).init(params)
    return train.TrainState(0, 0, params, params, opt_state, False)

  shapes = jax.eval_shape(lambda: (init(), jnp.float32(0)))
  state, loss = jax.tree.map(
    lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), shapes
  )
  update = jax.jit(build.make_update(config), donate_argnums=0)
  update = update.lower(state, state.params, loss).compile()
  return update, sum(4 * a.size for a in jax.tree.leaves(state.params))


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="counts a CPU's")
def test_the_update_has_no_intermediates_in_memory():
  update, one_pass = update_program()
  by_xla = update.cost_analysis()["bytes accessed"] / one_pass
  by_us = costs.hbm_bytes(hlo.parse(update.as_text())) / one_pass
  assert by_xla == pytest.approx(PASSES_OF_A_CPU, rel=0.01)
  assert by_us == pytest.approx(PASSES_OF_A_CPU, rel=0.01)
  memory = update.memory_analysis()
  assert memory.temp_size_in_bytes < 0.05 * one_pass
  # The new state is written over the old one.
  assert memory.alias_size_in_bytes == pytest.approx(4 * one_pass, rel=0.01)


UPDATE_ON_A_TPU = """
import os
from experiments.planning import child
os.environ.update(child.ENVIRONMENT)
import test_bench_step
print(test_bench_step.passes_of_a_tpu())
"""


def passes_of_a_tpu():
  """Of the update, compiled for one TPU v5e."""
  (device,) = child.devices_of(chips.parse_topology("v5e:1x1"))
  update, one_pass = update_program(jax.sharding.SingleDeviceSharding(device))
  assert update.memory_analysis().temp_size_in_bytes < 0.05 * one_pass
  return costs.hbm_bytes(hlo.parse(update.as_text())) / one_pass


@pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None, reason="needs the TPU compiler"
)
def test_on_a_tpu_the_update_reads_and_writes_everything_once():
  done = subprocess.run(
    [sys.executable, "-c", UPDATE_ON_A_TPU],
    env=os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
    capture_output=True,
    text=True,
    check=False,
    timeout=120,
  )
  assert done.returncode == 0, done.stderr
  least = step_measures.LEAST_PASSES
  assert float(done.stdout.split()[-1]) == pytest.approx(least, rel=0.03)
