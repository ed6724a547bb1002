# SPDX-License-Identifier: Apache-2.0
"""Whether a config can run, before data is read or a device is used.

Tracing finds what does not fit: shapes, unknown options, misspelt keys.
"""

import jax
import jax.numpy as jnp

from simple_diffusion import programs as programs_lib
from simple_diffusion import sharding


def check_train(config, num_devices: int) -> None:
  """Raises ValueError if numbers of section `train` contradict one another."""
  t = config.train
  for name in (
    "batch_size",
    "accum_steps",
    "total_steps",
    "log_every_steps",
    "checkpoint_every_steps",
    "sample_every_steps",
    "num_samples",
  ):
    if t[name] < 1:
      raise ValueError(f"train.{name}={t[name]} must be at least 1")
  num_parts = num_devices * t.accum_steps
  if t.batch_size % num_parts:
    low = t.batch_size // num_parts * num_parts
    fits = " or ".join(str(b) for b in (low, low + num_parts) if b)
    raise ValueError(
      f"train.batch_size={t.batch_size} is not divisible by {num_devices} "
      f"devices x {t.accum_steps} accum_steps; use {fits}"
    )
  if t.checkpoint_every_steps % t.log_every_steps:
    raise ValueError(
      f"train.checkpoint_every_steps={t.checkpoint_every_steps} must be a "
      f"multiple of log_every_steps={t.log_every_steps}, so that a resumed "
      "record has no gap"
    )


def trace(programs: programs_lib.Programs, num_samples: int) -> None:
  """Traces step and sampler without compiling them.

  Raises:
    ValueError: if shapes or options do not fit.
  """
  programs.train_step.eval_shape(programs.state, programs.batch)
  rows = whole_rows(programs.mesh, num_samples)
  keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), rows))
  labels = jax.ShapeDtypeStruct((rows,), jnp.int32)
  programs.sample.eval_shape(programs.state.ema_params, keys, labels)


def whole_rows(mesh: jax.sharding.Mesh, batch_size: int) -> int:
  """A batch size, rounded up to a multiple of the devices."""
  return -(-batch_size // mesh.size) * mesh.size


def check_shapes(config) -> None:
  """Traces the programs of a config on one device, whatever its mesh.

  A config whose number of classes is the data's is checked with one class.

  Raises:
    ValueError: if parts of the config are unknown or do not fit together.
  """
  config = config.copy_and_resolve_references()
  if config.model.num_classes is None:
    config.model.num_classes = 1
  check_train(config, num_devices=1)
  mesh = sharding.make_mesh(data=1, fsdp=1, devices=jax.devices()[:1])
  trace(programs_lib.make_programs(config, mesh), config.train.num_samples)
