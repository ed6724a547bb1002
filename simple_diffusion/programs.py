# SPDX-License-Identifier: Apache-2.0
"""What a config compiles to on a mesh: initialisation, step and sampler.

The functions of `build` say what is computed, `sharding` where. Here they meet,
once: training, planning for other hardware and benchmarks use the same
programs.
"""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp

from simple_diffusion import build
from simple_diffusion import sharding


class Programs(NamedTuple):
  """Jitted functions, and the arrays that they take as shapes with shardings.

  Attributes:
    mesh: see `sharding.make_mesh`.
    network: the Flax module.
    init: init(seed uint32) -> state.
    train_step: train_step(state, batch) -> (state, metrics); the given state is
      donated: its memory becomes that of the new one.
    sample: sample(params, keys [B], labels [B]) -> images float32 [B, H, W, C]
      in [-1, 1], whole on each device; B a multiple of the devices.
    state: `train.TrainState` of jax.ShapeDtypeStruct.
    batch: {"image": [B, H, W, C], "label": [B]} of jax.ShapeDtypeStruct.
  """

  mesh: jax.sharding.Mesh
  network: Any
  init: Callable
  train_step: Callable
  sample: Callable
  state: Any
  batch: Any


def make_programs(config, mesh: jax.sharding.Mesh) -> Programs:
  """The programs of a config whose model.num_classes is set.

  Nothing is compiled or allocated yet.

  Raises:
    ValueError: if parts of the config are unknown or do not fit together.
  """
  network = build.make_network(config.model)
  whole, by_example = sharding.whole(mesh), sharding.by_example(mesh)

  def init(seed):
    return build.init_state(config, network, seed)

  state = jax.eval_shape(init, jnp.uint32(0))
  shardings = sharding.state_shardings(mesh, state)
  batch_size = config.train.batch_size
  batch = {
    "image": jax.ShapeDtypeStruct(
      (batch_size, *build.image_shape(config)), jnp.float32
    ),
    "label": jax.ShapeDtypeStruct((batch_size,), jnp.int32),
  }
  return Programs(
    mesh=mesh,
    network=network,
    init=jax.jit(init, out_shardings=shardings),
    train_step=jax.jit(
      sharding.traced_on(mesh, build.make_train_step(config, network)),
      in_shardings=(shardings, by_example),
      out_shardings=(shardings, whole),
      donate_argnums=0,
    ),
    sample=jax.jit(
      sharding.traced_on(mesh, build.make_sample_fn(config, network)),
      in_shardings=(shardings.ema_params, by_example, by_example),
      out_shardings=whole,
    ),
    state=sharding.laid_out(state, shardings),
    batch=sharding.laid_out(batch, by_example),
  )
