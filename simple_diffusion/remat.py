# SPDX-License-Identifier: Apache-2.0
"""What the forward pass of a block keeps for its backward pass."""

from flax import linen as nn
import jax


def _is_matmul(primitive, *_, **params) -> bool:
  """Whether an equation is a product with weights, none with a batch axis."""
  dots = jax.checkpoint_policies.dots_with_no_batch_dims_saveable
  return primitive.name == "conv_general_dilated" or dots(
    primitive, *_, **params
  )


# What is not kept is computed again. "dots" repeats what costs little (norms,
# activations, dropout, the attention's logits), "all" everything: a third more
# FLOPs.
POLICIES = {
  "none": None,
  "dots": _is_matmul,
  "all": jax.checkpoint_policies.nothing_saveable,
}


def rematerialised(module, remat: str, **kwargs):
  """The module class, recomputing in the backward pass as `remat` says.

  Raises:
    ValueError: if `remat` is not one of `POLICIES`.
  """
  if remat not in POLICIES:
    raise ValueError(
      f"model.remat={remat!r}; the options are {', '.join(POLICIES)}"
    )
  if remat == "none":
    return module
  return nn.remat(module, policy=POLICIES[remat], **kwargs)
