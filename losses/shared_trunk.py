# SPDX-License-Identifier: Apache-2.0
"""One direction for the tasks of one trunk, at the cost of one backward pass.

Notation: h = trunk(theta, x), task i with its own head and loss
L_i = head_i(phi_i, h, x). With J = dh/dtheta,

  dL_i/dtheta = J' dL_i/dh                                                (1)
  u = J' sum_i a_i dL_i/dh                                                (2)

The weights a come from the Gram matrix of the dL_i/dh instead of that of the
dL_i/dtheta: n gradients of the size of h, then one backward pass through the
trunk. |sum_i a_i dL_i/dtheta| <= |J| |sum_i a_i dL_i/dh|, so a shortest vector
at h bounds that of the parameters (MGDA-UB of arXiv 1810.04650; kexue.fm post
8896, which finds an error in that paper's proof that the rest follows).

What it gives up: <u, dL_i/dtheta> >= 0 holds at h, that is for J'J = 1, and on
the parameters to the extent that J'J preserves angles. h must be what all tasks
read: for heads on disjoint examples of one batch the dL_i/dh are orthogonal,
and no conflict is ever seen.
"""

from collections.abc import Callable
from collections.abc import Sequence
import functools

import jax
import jax.numpy as jnp

from losses import checks
from losses import multitask


def shared_value_and_direction(
  trunk_fn: Callable,
  head_fns: Sequence[Callable],
  weights_fn: Callable[[jax.Array], jax.Array],
  *,
  axis_name: str | tuple[str, ...] | None = None,
) -> Callable:
  """`value_and_direction` by equation 2: the trunk goes backward once.

  Each head's own parameters get the gradient of its own loss, weight 1. They
  conflict with no one, and with the weight of the trunk an auxiliary task that
  is not in the way (weight 0) would never train its head.

  Args:
    trunk_fn: (trunk_params, *args) -> h, a pytree of floating arrays.
    head_fns: n of (head_params_i, h, *args) -> loss, a scalar.
    weights_fn: Gram matrix [n, n] -> weights [n], such as
      `primary_secondary_weights`, for which the first head is the primary one.
    axis_name: of mapped axes that the batch is split over, with losses that are
      means over the examples here: the weights are then those of the whole
      batch, and the gradients are to be averaged over these axes as usual.

  Returns:
    (trunk_params, head_params, *args) -> (losses [n], (direction of the trunk,
    gradients of the heads), DirectionInfo at h); head_params a list or
    tuple of n.

  Raises:
    ValueError: if head_params is not a list or tuple of n, h is not floating
      point, a loss is no scalar, or the weights are not [n].

  >>> trunk_fn = lambda w, x: w * x
  >>> head_fns = [lambda v, h, x: v * h[0], lambda v, h, x: v * (h[1] - h[0])]
  >>> step_fn = losses.shared_value_and_direction(
  ...     trunk_fn, head_fns, losses.primary_secondary_weights)
  >>> _, (u, _), info = step_fn(jnp.ones(2), [1.0, 1.0], jnp.ones(2))
  >>> print(u, info.weights)
  [0.5 0.5] [1.  0.5]
  """

  def fn(trunk_params, head_params, *args):
    if not isinstance(head_params, list | tuple):
      raise ValueError(
        f"head_params is a {type(head_params).__name__}, not a list or tuple"
      )
    if not head_fns or len(head_params) != len(head_fns):
      raise ValueError(
        f"head_params has {len(head_params)} entries for {len(head_fns)} heads"
      )
    h, pull_back = jax.vjp(lambda p: trunk_fn(p, *args), trunk_params)
    jax.tree.map(functools.partial(checks.floating, "h"), h)
    values, grads = zip(
      *(
        jax.value_and_grad(_scalar(head_fn, i), argnums=(0, 1))(own, h, *args)
        for i, (head_fn, own) in enumerate(
          zip(head_fns, head_params, strict=True)
        )
      ),
      strict=True,
    )
    losses = jnp.stack(values)
    head_grads, h_grads = zip(*grads, strict=True)
    # Not stacked, which would hold every gradient twice.
    gram = _over_batch(_gram_matrix(h_grads), axis_name)
    weights = weights_fn(gram)
    checks.shape("weights", weights, losses.shape, "[n], one for each head")
    direction = jax.tree.map(
      functools.partial(_weighted_sum, weights), *h_grads
    )
    square = _over_batch(_inner_product(direction, direction), axis_name)
    info = multitask.info_of(gram, weights, square)
    (trunk_grads,) = pull_back(direction)
    container = list if isinstance(head_params, list) else tuple
    return losses, (trunk_grads, container(head_grads)), info

  return fn


def _scalar(head_fn, i):
  """The head, whose loss must be one number."""

  def fn(*args):
    loss = head_fn(*args)
    checks.shape(f"losses[{i}]", loss, (), "a scalar; take its mean")
    return loss

  return fn


def _over_batch(inner_product, axis_name):
  """<a, b> at the h of all k parts, of which the loss is the mean."""
  if axis_name is None:
    return inner_product
  return (
    jax.lax.psum(inner_product, axis_name) / jax.lax.psum(1, axis_name) ** 2
  )


def _gram_matrix(trees):
  n = len(trees)
  below = {
    (i, j): _inner_product(trees[i], trees[j])
    for i in range(n)
    for j in range(i + 1)
  }
  entries = [below[max(i, j), min(i, j)] for i in range(n) for j in range(n)]
  return jnp.stack(entries).reshape(n, n)


def _inner_product(a, b):
  """<a, b> over all leaves, summed in float32 or better."""

  def product(a, b):
    wide = jnp.promote_types(a.dtype, jnp.float32)
    return jnp.sum(a.astype(wide) * b.astype(wide))

  return sum(jax.tree.leaves(jax.tree.map(product, a, b)))


def _weighted_sum(weights, *leaves):
  wide = jnp.promote_types(leaves[0].dtype, jnp.float32)
  total = sum(
    weight.astype(wide) * leaf.astype(wide)
    for weight, leaf in zip(weights, leaves, strict=True)
  )
  return total.astype(leaves[0].dtype)
