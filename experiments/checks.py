# SPDX-License-Identifier: Apache-2.0
"""Whether a config can run, before data is read or a device is used.

Tracing finds what does not fit: shapes, unknown options, misspelt keys.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from simple_diffusion import images
from simple_diffusion import programs as programs_lib
from simple_diffusion import sharding

_FLOAT32 = np.finfo(np.float32)
_AT_LEAST_1 = (
  "train.batch_size",
  "train.accum_steps",
  "train.total_steps",
  "train.log_every_steps",
  "train.checkpoint_every_steps",
  "train.keep_checkpoints",
  "train.sample_every_steps",
  "train.num_samples",
  "data.num_threads",
  "eval.batch_size",
  "model.emb_channels",
  "model.num_heads",
)
# From the first, below the second.
_WITHIN = {
  "train.ema_decay": (0, 1),
  "train.label_dropout": (0, 1),
  "optim.warmup_steps": (0, math.inf),
  "optim.b1": (0, 1),
  "optim.b2": (0, 1),
  "optim.weight_decay": (0, math.inf),
}
# In float32, whose numbers below the least normal one devices take for 0: then
# an eps makes an update of 0 / 0 where a gradient is 0.
_LEAST, _MOST = (float(n) for n in (_FLOAT32.tiny, _FLOAT32.max))
_POSITIVE = (
  "optim.lr",
  "optim.eps",
  "optim.max_grad_norm",
  "objective.gamma",
)
_NUM_CHANNELS = (1, 3)


def _value(config, key: str):
  section, _, name = key.partition(".")
  return config[section][name]


def check_values(config) -> None:
  """Raises ValueError if a value is out of range, whatever the others are."""
  for key in _AT_LEAST_1:
    if _value(config, key) < 1:
      raise ValueError(f"{key}={_value(config, key)} must be at least 1")
  for key, (low, high) in _WITHIN.items():
    if not low <= _value(config, key) < high:
      raise ValueError(
        f"{key}={_value(config, key)} must be at least {low} and below {high}"
      )
  for key in _POSITIVE:
    if not _LEAST <= _value(config, key) <= _MOST:
      raise ValueError(
        f"{key}={_value(config, key)} must be above 0 and finite in float32, "
        f"{_LEAST:.3g} to {_MOST:.3g}"
      )
  for section, values in config.items():
    for name, value in values.items():
      if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{section}.{name}={value} must be finite")
  if not 0 <= config.train.seed < 2**32:  # JAX's keys, without 64 bits
    raise ValueError(
      f"train.seed={config.train.seed} must be within 0..2**32-1"
    )
  if config.data.num_channels not in _NUM_CHANNELS:
    raise ValueError(
      f"data.num_channels={config.data.num_channels} must be 1 (grey) or 3"
    )
  _check_levels(config.model)
  if min(images.size_pair(config.data.image_size)) < 1:
    raise ValueError(
      f"data.image_size={config.data.image_size} must be at least 1"
    )
  try:
    images.check_crop(config.data.crop)
  except ValueError as error:
    raise ValueError(f"data.crop={config.data.crop}: {error}") from error


def _check_levels(model) -> None:
  """Raises ValueError if there are too few levels, or a count below its least.

  Of each network what it has: a U-Net has no transformer.
  """
  least = 2 if model.name == "uvit" else 1  # Its last is the transformer.
  if len(model.channel_multiplier) < least:
    raise ValueError(
      f"model.channel_multiplier={tuple(model.channel_multiplier)} must have "
      f"at least {least} level{'s' * (least > 1)} for {model.name}"
    )
  for name, low in (
    ("channel_multiplier", 1),
    ("num_res_blocks", 0),
    ("num_transformer_blocks", 0),
  ):
    values = model.get(name, ())
    counts = (values,) if isinstance(values, int) else tuple(values)
    if min(counts, default=low) < low:
      raise ValueError(f"model.{name}={values} must be at least {low}")


def check_train(config, num_devices: int) -> None:
  """Raises ValueError if a training cannot run on that many devices."""
  check_values(config)
  t = config.train
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


def check_devices(config, num_devices: int) -> None:
  """Raises ValueError if mesh or batch do not go into so many devices."""
  # Which devices they are does not matter for the shape of a mesh.
  sharding.make_mesh(**config.mesh, devices=jax.devices()[:1] * num_devices)
  check_train(config, num_devices)


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
