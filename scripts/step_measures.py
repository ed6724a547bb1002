# SPDX-License-Identifier: Apache-2.0
"""What a compiled training step costs: time, memory, FLOPs, its update alone.

`scripts.bench_step` says what the numbers mean.
"""

import contextlib
import math
import time
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import checks
from experiments import chips
from experiments.planning import costs
from experiments.planning import hlo
from simple_diffusion import build
from simple_diffusion import programs as programs_lib
from simple_diffusion import sharding
from simple_diffusion import sizes

# Parameters, average and two moments in and out, the gradient in, and before
# that once for its norm.
LEAST_PASSES = 10


class Traced(NamedTuple):
  """A config's programs, and the seconds that tracing the step took."""

  config: Any
  programs: programs_lib.Programs
  trace_s: float


class Side(NamedTuple):
  """A compiled step, what it runs on, and what compiling took."""

  config: Any
  programs: programs_lib.Programs
  step: Any
  batch: Any
  compile_s: dict[str, float]


@contextlib.contextmanager
def memory_errors(config):
  """Turns an error for lack of memory into what to do about it."""
  try:
    yield
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    t = config.train
    raise ValueError(
      f"the step does not fit into the memory of {jax.device_count()} x "
      f"{jax.devices()[0].device_kind}: lower train.batch_size="
      f"{t.batch_size}, raise train.accum_steps={t.accum_steps} (parts of a "
      f"batch), keep less with model.remat={config.model.remat!r} (none, "
      f"dots, all), or split over more devices with mesh.fsdp="
      f"{config.mesh.fsdp}"
    ) from error


def trace(config) -> Traced:
  """Makes the config's programs; raises ValueError if they do not fit."""
  if config.model.num_classes is None:  # that of data, which are not read
    config.model.num_classes = 1
  mesh = sharding.make_mesh(**config.mesh)
  checks.check_train(config, mesh.size)
  programs = programs_lib.make_programs(config, mesh)
  began = time.perf_counter()
  programs.train_step.eval_shape(programs.state, programs.batch)
  return Traced(config, programs, time.perf_counter() - began)


def make_batch(programs):
  """Images of noise and labels 0, made where they are used."""
  image, label = programs.batch["image"], programs.batch["label"]

  def batch():
    noise = jax.random.uniform(
      jax.random.key(0), image.shape, image.dtype, -1, 1
    )
    return {"image": noise, "label": jnp.zeros(label.shape, label.dtype)}

  shardings = jax.tree.map(lambda a: a.sharding, programs.batch)
  return jax.jit(batch, out_shardings=shardings)()


def compile_step(traced: Traced) -> Side:
  """Compiles the step, and makes a batch for it."""
  config, programs, trace_s = traced
  with memory_errors(config):
    began = time.perf_counter()
    lowered = programs.train_step.lower(programs.state, programs.batch)
    lowered_at = time.perf_counter()
    step = lowered.compile()
    compile_s = {
      "trace": trace_s,
      "lower": lowered_at - began,
      "compile": time.perf_counter() - lowered_at,
    }
    return Side(config, programs, step, make_batch(programs), compile_s)


def window(step, state, inputs, num_steps) -> tuple[float, Any]:
  """(seconds per step, state) of steps that are waited for at the end."""
  began = time.perf_counter()
  for _ in range(num_steps):
    state, _ = step(state, *inputs)
  jax.block_until_ready(state)
  return (time.perf_counter() - began) / num_steps, state


def measure(sides, *, rounds: int, steps: int) -> tuple[np.ndarray, list]:
  """Seconds per step [sides, rounds], in turns after a warm-up; the states."""
  with memory_errors(sides[0].config):
    states = [side.programs.init(jnp.uint32(0)) for side in sides]
    seconds = np.empty((len(sides), rounds + 1))
    for i in range(rounds + 1):
      for j, side in enumerate(sides):
        seconds[j, i], states[j] = window(
          side.step, states[j], (side.batch,), steps
        )
  return seconds[:, 1:], states


def relative_speeds(seconds: np.ndarray, baseline: int) -> np.ndarray:
  """The baseline's time over each side's in the same turn, from `measure`.

  Quartiles and, between them, the median: [3, sides].
  """
  return np.percentile(seconds[baseline] / seconds, [25, 50, 75], axis=1)


def measure_update(side: Side, state, *, rounds: int, steps: int) -> dict:
  """Optimizer, clipping and EMA, compiled and timed alone."""
  shapes = side.programs.state
  shardings = jax.tree.map(lambda a: a.sharding, shapes)
  whole = sharding.whole(side.programs.mesh)
  loss = jax.ShapeDtypeStruct((), jnp.float32, sharding=whole)
  with memory_errors(side.config):
    update = jax.jit(
      build.make_update(side.config),
      out_shardings=(shardings, whole),
      donate_argnums=0,
    )
    update = update.lower(shapes, shapes.params, loss).compile()
    grads = jax.tree.map(jnp.zeros_like, state.params)
    inputs = (grads, jax.device_put(jnp.float32(0), whole))
    seconds = []
    for _ in range(rounds + 1):
      taken, state = window(update, state, inputs, steps)
      seconds.append(taken)
  num_bytes = costs.hbm_bytes(hlo.parse(update.as_text()))
  one_pass = sum(
    math.prod(a.sharding.shard_shape(a.shape)) * a.dtype.itemsize
    for a in jax.tree.leaves(shapes.params)
  )
  return {
    "seconds": float(np.median(seconds[1:])),
    "passes": num_bytes / one_pass,
    "least_passes": LEAST_PASSES,
  }


def memory_of(step) -> int:
  """Bytes that a program needs on each device, arguments included."""
  m = step.memory_analysis()
  return (
    m.argument_size_in_bytes
    + m.output_size_in_bytes
    - m.alias_size_in_bytes
    + m.temp_size_in_bytes
  )


def used_memory() -> int | None:
  """The most bytes that a device had in use so far; None where not known."""
  stats = [device.memory_stats() for device in jax.local_devices()]
  peaks = [s["peak_bytes_in_use"] for s in stats if s]
  return max(peaks) if peaks else None


def describe(side: Side, seconds) -> dict:
  """The numbers of one variant; seconds [rounds] of a step."""
  config, programs = side.config, side.programs
  step_s, batch_size = float(np.median(seconds)), config.train.batch_size
  num_devices = programs.mesh.size
  image_shape = programs.batch["image"].shape[1:]
  flops = batch_size * sizes.train_flops(programs.network, image_shape)
  achieved = flops / step_s / num_devices
  chip = chips.by_device_kind(jax.devices()[0].device_kind)
  peak = chip.peak_flops / chip.devices_per_chip if chip else None
  return {
    "image_size": config.data.image_size,
    "parameters": sizes.num_params(programs.state.params),
    "batch_size": batch_size,
    "accum_steps": config.train.accum_steps,
    "dtype": config.model.dtype,
    "remat": config.model.remat,
    # The name that JAX gives cuDNN's fused kernel.
    "attention": "cudnn" if "__cudnn$fmha" in side.step.as_text() else "xla",
    "mesh": dict(programs.mesh.shape),
    "seconds_per_step": step_s,
    "seconds_quartiles": np.percentile(seconds, [25, 75]).tolist(),
    "steps_per_second": 1 / step_s,
    "images_per_second": batch_size / step_s,
    "images_per_second_per_device": batch_size / step_s / num_devices,
    "flops_per_step": flops,
    "flops_per_second_per_device": achieved,
    "peak_flops_per_device": peak,
    "mfu": achieved / peak if peak else None,
    "compile_s": side.compile_s,
    "program_bytes_per_device": memory_of(side.step),
  }
