# SPDX-License-Identifier: Apache-2.0
"""The paper's networks, narrow enough to be timed.

`scripts.paper_speed` measures them and says what the numbers mean.
"""

import jax
import jax.numpy as jnp

from scripts import step_measures


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


def at_zero(side: step_measures.Side) -> step_measures.Side:
  """The side with a state of zeros, whose products take as long as others.

  Compiling the initialisation of every row would take longer than measuring.
  """
  zeros = jax.jit(
    lambda seed: jax.tree.map(
      lambda a: jnp.zeros(a.shape, a.dtype), side.programs.state
    )
  )
  return side._replace(programs=side.programs._replace(init=zeros))
