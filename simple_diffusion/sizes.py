# SPDX-License-Identifier: Apache-2.0
"""How large a network is: parameters and multiply-adds, without running it.

Multiply-adds (MACs) of matrix products and convolutions, counted in the traced
program: a scanned block counts once per iteration, which XLA's own cost
analysis does not do. Attention counts by its formula, whatever kernel this
machine has for it. FLOPs are twice the multiply-adds.
"""

import collections
import dataclasses
import math

import jax
from jax.extend import core
import jax.numpy as jnp

# Of no hardware, for which `attention.choose` takes no kernel. JAX 0.10.0 knows
# no platform of a device.
_OF_DEVICE = {"device_kind": "none", "num_cores": None, "platform": "none"}
_KNOWN = {f.name for f in dataclasses.fields(jax.sharding.AbstractDevice)}
NOWHERE = jax.sharding.AbstractMesh(
  (),
  (),
  abstract_device=jax.sharding.AbstractDevice(
    **{name: value for name, value in _OF_DEVICE.items() if name in _KNOWN}
  ),
)


def _eqn_macs(eqn):
  match eqn.primitive.name:
    case "dot_general":
      (contracting, _), _ = eqn.params["dimension_numbers"]
      lhs = eqn.invars[0].aval.shape
      depth = math.prod(lhs[axis] for axis in contracting)
    case "conv_general_dilated":
      kernel = eqn.invars[1].aval.shape
      spec = eqn.params["dimension_numbers"].rhs_spec
      depth = math.prod(kernel) // kernel[spec[0]]
    case _:
      return 0
  return depth * math.prod(eqn.outvars[0].aval.shape)


def _count(jaxpr, times, scope, counts):
  for eqn in jaxpr.eqns:
    inner = f"{scope}/{eqn.source_info.name_stack}"
    counts[inner] += times * _eqn_macs(eqn)
    length = eqn.params.get("length", 1) if eqn.primitive.name == "scan" else 1
    for sub in core.jaxprs_in_params(eqn.params):
      _count(sub, times * length, inner, counts)


def macs_by_scope(fn, *args) -> dict[str, int]:
  """Multiply-adds of fn(*args) by Flax scope; args may be shapes."""
  counts = collections.Counter()
  with jax.sharding.use_abstract_mesh(NOWHERE):
    traced = jax.make_jaxpr(fn)(*args)
  _count(traced.jaxpr, 1, "", counts)
  return {scope: macs for scope, macs in counts.items() if macs}


def one_image(image_shape: tuple[int, int, int]):
  """Shapes of (z, logsnr, labels) for one image of (H, W, C)."""
  return (
    jax.ShapeDtypeStruct((1, *image_shape), jnp.float32),
    jax.ShapeDtypeStruct((1,), jnp.float32),
    jax.ShapeDtypeStruct((1,), jnp.int32),
  )


def _forward(network, image_shape):
  """Shapes of the variables, and multiply-adds by scope, for one image."""
  inputs = one_image(image_shape)
  variables = jax.eval_shape(
    lambda *args: network.init(jax.random.key(0), *args), *inputs
  )
  return variables, macs_by_scope(network.apply, variables, *inputs)


def by_part(network, image_shape) -> dict[str, tuple[int, int]]:
  """{part: (parameters, multiply-adds)} of a network, for one image.

  Args:
    network: a module called as network(z, logsnr, labels).
    image_shape: (H, W, C) of one image.
  """
  variables, scopes = _forward(network, image_shape)
  params = {
    part: num_params(tree) for part, tree in variables["params"].items()
  }
  macs = collections.Counter()
  for scope, count in scopes.items():
    # "/SimpleUViT/down_0_1/Conv_0" belongs to the part down_0_1.
    macs[scope.split("/")[2]] += count
  # A part may have one without the other.
  return {
    part: (params.get(part, 0), macs[part])
    for part in dict.fromkeys((*params, *macs))
  }


def train_flops(network, image_shape: tuple[int, int, int]) -> int:
  """FLOPs of training on one image, as MFU counts them.

  Three times those of a forward pass (one for itself, two for the gradient),
  without what is computed again to save memory.
  """
  return 3 * 2 * sum(_forward(network, image_shape)[1].values())


def num_params(params) -> int:
  """Entries of all arrays, or shapes of arrays, of a tree."""
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def size_table(network, image_shape: tuple[int, int, int]) -> str:
  """A table of parameters and multiply-adds for each part of a network.

  Args:
    network: a module called as network(z, logsnr, labels).
    image_shape: (H, W, C) of one image.

  Returns:
    Lines of text: a part, its parameters, its MACs for one image; the total.
  """
  parts = by_part(network, image_shape)
  rows = [(part, *counts) for part, counts in parts.items()]
  rows.append(("total", *map(sum, zip(*parts.values(), strict=True))))
  lines = [f"{'part':<24}{'parameters':>16}{'MACs / image':>20}"]
  lines += [f"{part:<24}{p:>16,}{m:>20,}" for part, p, m in rows]
  return "\n".join(lines)
