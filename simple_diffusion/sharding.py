# SPDX-License-Identifier: Apache-2.0
"""Which device holds what: a mesh of two axes and a table of rules.

  data   copies of the model, each of which sees a part of the batch
  fsdp   parts of the model: parameters, their average and the optimizer's
         moments are split along it, and gathered layer by layer when used

The batch is split over both axes, so each device computes on its own examples
and only parameters and gradients travel. data alone is plain data parallelism,
fsdp alone is ZeRO-3. There is no axis that splits one example: the paper's
batch of 2048 has 8 for each of 256 chips, and a network of 2 B parameters that
is split over 16 chips takes 2 GiB of each.
"""

import functools
import math

import jax
import numpy as np

P = jax.sharding.PartitionSpec
AXES = ("data", "fsdp")

# How a parameter, and whatever has its path and shape in the EMA and the
# optimizer's state, is split along fsdp: the first row that fits the end of its
# path. Axes are counted from the right, because the transformer's blocks are
# stacked on the left; None is whole. So is what no row fits (biases, scales,
# positions) and what fsdp does not divide (the 3 channels of a stem).
RULES = (
  # end of the path   axis
  ("kernel", -2),  # inputs of [in, out] and of [H, W, in, out]
  ("embedding", None),  # small, and a split one would move the examples
)


def axis_sizes(data: int, fsdp: int, num_devices: int) -> tuple[int, int]:
  """The two axes of a mesh, -1 resolved; see `make_mesh`."""
  sizes = [data, fsdp]
  if sizes.count(-1) == 1:
    sizes[sizes.index(-1)] = max(1, num_devices // max(1, *sizes))
  if min(sizes) < 1 or math.prod(sizes) != num_devices:
    fits = [n for n in range(1, num_devices + 1) if num_devices % n == 0]
    raise ValueError(
      f"mesh.data={data} x mesh.fsdp={fsdp} does not make the {num_devices} "
      "devices there are; use mesh.data=-1 (the rest) and mesh.fsdp one of "
      f"{', '.join(map(str, fits))}"
    )
  return tuple(sizes)


def make_mesh(*, data: int, fsdp: int, devices=None) -> jax.sharding.Mesh:
  """The mesh of config section `mesh`.

  Args:
    data: number of copies of the model.
    fsdp: number of parts of a copy. One of the two may be -1: as many as the
      other leaves.
    devices: default: all devices of all processes.

  Raises:
    ValueError: if data x fsdp is not the number of devices.
  """
  devices = jax.devices() if devices is None else devices
  # Auto: XLA propagates the shardings. Explicit axes, JAX's default here, are
  # refused by Flax's convolutions.
  return jax.make_mesh(
    axis_sizes(data, fsdp, len(devices)),
    AXES,
    axis_types=(jax.sharding.AxisType.Auto,) * 2,
    devices=devices,
  )


def spec_of(path: str, shape: tuple[int, ...], fsdp: int) -> P:
  """The row of `RULES` for one array; whole if its size does not divide.

  Args:
    path: names joined by "/", such as "params/stem/Conv_0/kernel".
    shape: of the array.
    fsdp: number of parts.
  """
  for end, axis in RULES:
    if path == end or path.endswith("/" + end):
      if axis is not None and shape[axis] % fsdp == 0:
        return P(*[None] * (len(shape) + axis), "fsdp")
      break
  return P()


def state_shardings(mesh: jax.sharding.Mesh, tree):
  """Shardings of a tree of arrays or shapes by `RULES`."""
  return jax.tree.map(
    lambda spec: jax.sharding.NamedSharding(mesh, spec), state_specs(mesh, tree)
  )


def state_specs(mesh, tree):
  """The tree with each array's PartitionSpec by `RULES`."""

  def spec(path, leaf):
    path = jax.tree_util.keystr(path, simple=True, separator="/")
    return spec_of(path, leaf.shape, mesh.shape["fsdp"])

  return jax.tree_util.tree_map_with_path(spec, tree)


def by_example(mesh: jax.sharding.Mesh) -> jax.sharding.NamedSharding:
  """The batch: axis 0 split over all devices."""
  return jax.sharding.NamedSharding(mesh, P(mesh.axis_names))


def whole(mesh: jax.sharding.Mesh) -> jax.sharding.NamedSharding:
  """A copy on each device."""
  return jax.sharding.NamedSharding(mesh, P())


def laid_out(tree, shardings):
  """Shapes and dtypes of a tree, with a sharding, or the sharding of each."""
  if isinstance(shardings, jax.sharding.Sharding):
    shardings = jax.tree.map(lambda _: shardings, tree)
  return jax.tree.map(
    lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s),
    tree,
    shardings,
  )


def local_rows(sharding: jax.sharding.Sharding, batch_size: int) -> np.ndarray:
  """Rows, int64 in order, of the global batch that this process's devices hold.

  Meshes follow the wires of a TPU, so they need not be consecutive, nor those
  of process 0 the first. Loaded by this, the global batch is the same whatever
  the mesh and the number of processes.
  """
  indices = sharding.addressable_devices_indices_map((batch_size,)).values()
  rows = [np.arange(batch_size)[index] for index in indices]
  return np.unique(np.concatenate(rows))


def to_devices(batch, sharding: jax.sharding.Sharding):
  """This process's rows of a batch as arrays over all devices.

  Args:
    batch: a tree of arrays whose axis 0 is that of `local_rows`.
    sharding: see `by_example`.
  """
  return jax.tree.map(
    lambda a: jax.make_array_from_process_local_data(sharding, a), batch
  )


def traced_on(mesh: jax.sharding.Mesh, fn):
  """The function, tracing with the mesh in context for the two below."""

  @functools.wraps(fn)
  def on_mesh(*args):
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
      return fn(*args)

  return on_mesh


def _is_context(mesh) -> bool:
  """Whether a mesh of `make_mesh` is in context, not one of pmap's, say."""
  automatic = jax.sharding.AxisType.Auto
  return mesh.axis_names == AXES and set(mesh.axis_types) == {automatic}


def constrain_examples(h: jax.Array) -> jax.Array:
  """Keeps axis 0 of an activation split by example.

  Without it XLA may split the channels instead, as the parameters are, and
  gather the batch. Does nothing where no mesh is in context.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if not _is_context(mesh):
    return h
  return jax.lax.with_sharding_constraint(h, P(mesh.axis_names))


def constrain_params(tree):
  """Splits gradients as `RULES` split their parameters."""
  mesh = jax.sharding.get_abstract_mesh()
  if not _is_context(mesh):
    return tree
  return jax.lax.with_sharding_constraint(tree, state_specs(mesh, tree))
