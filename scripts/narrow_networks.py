# SPDX-License-Identifier: Apache-2.0
"""The paper's networks, narrow enough to be timed, and their full sizes.

`scripts.paper_speed` measures them and says what the numbers mean.
"""

import jax
import jax.numpy as jnp
import numpy as np

from scripts import step_measures
from simple_diffusion import build
from simple_diffusion import sizes


def narrowed(config, *, divisor: int, batch_size: int, dtype: str):
  """The config on one device, with all widths divided.

  Raises:
    ValueError: if the divisor does not divide the widths.
  """
  config = config.copy_and_resolve_references()
  for name in ("base_channels", "emb_channels"):
    if config.model[name] % divisor:
      raise ValueError(
        f"--width_divisor={divisor} does not divide model.{name}="
        f"{config.model[name]}; use a power of two up to 32"
      )
    config.model[name] //= divisor
  config.model.dtype = dtype
  config.mesh.update(data=1, fsdp=1)
  config.train.batch_size = batch_size
  return config


def full_size(config) -> dict:
  """Parameters, and FLOPs of training on an image, of the paper's network."""
  network = build.make_network(config.model)
  state = jax.eval_shape(lambda: build.init_state(config, network))
  return {
    "parameters": sizes.num_params(state.params),
    "train_flops": sizes.train_flops(network, build.image_shape(config)),
  }


def at_zero(side: step_measures.Side) -> step_measures.Side:
  """The side with a state of zeros, whose products take as long as others.

  Compiling the initialisation of every row would take longer than measuring.
  """
  zeros = jax.jit(
    lambda: jax.tree.map(
      lambda a: jnp.zeros(a.shape, a.dtype), side.programs.state
    )
  )
  return side._replace(programs=side.programs._replace(init=zeros))


def relative_speeds(seconds: np.ndarray, baseline: int) -> np.ndarray:
  """Medians [rows] of the baseline's time over each row's; [rows, rounds]."""
  return np.median(seconds[baseline] / seconds, axis=1)
