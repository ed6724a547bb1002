# SPDX-License-Identifier: Apache-2.0
"""Perturbations of embeddings that hurt most: FGM and virtual adversaries.

Notation: embeddings x, loss L, prediction p(x), divergence D. With unit(v) =
v / |v|, and unit(0) = 0,

  FGM: r = epsilon unit(grad_x L(x))                                      (1)
  VAT: d <- grad_d D(p(x), p(x + xi unit(d))), from noise;
       r = epsilon unit(d),  loss D(p(x), p(x + r))                       (2)

FGM needs labels (arXiv 1605.07725); virtual adversarial training does not
(arXiv 1704.03976; kexue.fm post 7466). For small xi each step of (2) is a power
iteration with the Hessian H of D at x, so that r tends to its top eigenvector
and the loss to epsilon^2/2 times its top eigenvalue.

The norm is of each example, over all axes but the first. The embeddings of the
tokens [B, n, D] so get one budget per example. To perturb an embedding matrix
[V, D], which all examples share, let the functions take the matrix and pass
norm_axes=(0, 1).

The functions must be deterministic. A new dropout mask at each call would make
p(x + r) differ from p(x) by the dropout, and (2) would follow that: fix the
dropout key outside, or run without dropout.

r is a constant of the differentiation (stop_gradient), float32, or float64 for
float64 embeddings; the functions get embeddings of that type.
"""

from collections.abc import Callable

import chex
import jax
import jax.numpy as jnp

from losses import checks
from losses import consistency

Divergence = Callable[[jax.Array, jax.Array], jax.Array]


def fgm_perturbation(
  loss_fn: Callable[[jax.Array], jax.Array],
  embeddings: chex.Array,
  *,
  epsilon: chex.Numeric = 1.0,
  norm_axes: int | tuple[int, ...] | None = None,
) -> jax.Array:
  """FGM: the step that raises the loss most, to first order (arXiv 1605.07725).

    r = epsilon g / |g|,  g = the gradient of loss_fn at the embeddings

  Adversarial training minimises loss_fn(x) + loss_fn(x + r), or the second
  alone. r is exactly of norm epsilon however small g is, so the scale of the
  loss has no effect; where g = 0, r = 0.

  Args:
    loss_fn: embeddings -> loss of any shape, which is summed. For a norm per
      example it must not mix examples.
    embeddings: [B, ...] floating.
    epsilon: the norm of r, a scalar at least 0; the code that goes with post
      7466 has 1.
    norm_axes: what a norm is taken over; None is all axes but the first.

  Returns:
    r, of the shape of embeddings, without gradient.

  Raises:
    ValueError: if `embeddings` is not floating point or `epsilon` is negative.

  >>> weights = jnp.array([[3.0, 4.0], [0.0, 0.0]])
  >>> print(losses.fgm_perturbation(lambda x: jnp.sum(weights * x, -1),
  ...                               jnp.ones((2, 2))))
  [[0.6 0.8]
   [0.  0. ]]
  """
  embeddings = checks.as_float("embeddings", embeddings)
  checks.rank_at_least("embeddings", embeddings, 1, "[B, ...]")
  checks.between("epsilon", epsilon, 0, jnp.inf)
  gradient = jax.grad(lambda x: jnp.sum(loss_fn(x)))(embeddings)
  return jax.lax.stop_gradient(epsilon * _unit(gradient, norm_axes))


def virtual_adversarial_perturbation(
  apply_fn: Callable[[jax.Array], jax.Array],
  embeddings: chex.Array,
  rng: chex.PRNGKey,
  *,
  epsilon: chex.Numeric = 1.0,
  xi: chex.Numeric = 10.0,
  num_iterations: int = 1,
  divergence: Divergence = consistency.softmax_kl,
  norm_axes: int | tuple[int, ...] | None = None,
) -> jax.Array:
  """The step that changes a prediction most (arXiv 1704.03976, post 7466).

    d ~ N(0, I); num_iterations times d <- grad_d D(p(x), p(x + xi unit(d)));
    r = epsilon unit(d)

  The defaults are those of the code that goes with the post; the paper has a
  small xi (memory), where the limit of the module docstring holds. The sign of
  r is random. Where the gradient is 0, r = 0.

  Args:
    apply_fn: embeddings -> logits, deterministic: the same dropout mask at
      every call.
    embeddings: [B, ...] floating.
    rng: key of the first direction.
    epsilon: the norm of r, a scalar at least 0.
    xi: the norm of the step at which the gradient is taken, at least 1e-6: at 0
      the gradient of any divergence is 0.
    num_iterations: at least 0, one evaluation of the gradient each; 0 is a
      random direction.
    divergence: (clean logits, perturbed logits) -> [B]. The default is for
      softmax; `losses.multilabel_symmetric_kl` is for multi-label scores, by
      functools.partial with its axes.
    norm_axes: what a norm is taken over; None is all axes but the first.

  Returns:
    r, of the shape of embeddings, without gradient.

  Raises:
    ValueError: if `embeddings` is not floating point, or `epsilon`, `xi` or
      `num_iterations` is too small.

  >>> weights = jnp.array([[2.0, 0.0], [0.0, 0.0]])  # logits see x_0 only
  >>> r = losses.virtual_adversarial_perturbation(
  ...     lambda x: x @ weights, jnp.ones((1, 2)), jax.random.key(0))
  >>> print(jnp.abs(r))
  [[1. 0.]]
  """
  embeddings = checks.as_float("embeddings", embeddings)
  return _perturbation(
    apply_fn,
    embeddings,
    apply_fn(embeddings),
    rng,
    epsilon=epsilon,
    xi=xi,
    num_iterations=num_iterations,
    divergence=divergence,
    norm_axes=norm_axes,
  )


def virtual_adversarial_loss(
  apply_fn: Callable[[jax.Array], jax.Array],
  embeddings: chex.Array,
  rng: chex.PRNGKey,
  *,
  epsilon: chex.Numeric = 1.0,
  xi: chex.Numeric = 10.0,
  num_iterations: int = 1,
  divergence: Divergence = consistency.softmax_kl,
  norm_axes: int | tuple[int, ...] | None = None,
) -> jax.Array:
  """D(p(x), p(x + r)): virtual adversarial training (arXiv 1704.03976).

  r is that of `losses.virtual_adversarial_perturbation`; r and p(x) are
  constants, so the gradient is that of the perturbed prediction alone. Needs no
  labels. Costs 2 + num_iterations evaluations of apply_fn and 1 +
  num_iterations gradients. For multi-label scores:

    divergence=functools.partial(losses.multilabel_symmetric_kl, axis=(-2, -1))

  Args:
    apply_fn: embeddings -> logits, deterministic: the same dropout mask at
      every call.
    embeddings: [B, ...] floating.
    rng: key of the first direction.
    epsilon: the norm of r, a scalar at least 0.
    xi: the norm of the step at which the gradient is taken, at least 1e-6.
    num_iterations: at least 0, one evaluation of the gradient each.
    divergence: (clean logits, perturbed logits) -> [B].
    norm_axes: what a norm is taken over; None is all axes but the first.

  Returns:
    What `divergence` returns, [B]; at least 0 up to rounding.

  Raises:
    ValueError: as `losses.virtual_adversarial_perturbation`.

  >>> weights = jnp.array([[2.0, 0.0], [0.0, 0.0]])
  >>> print(losses.virtual_adversarial_loss(
  ...     lambda x: x @ weights, jnp.zeros((1, 2)), jax.random.key(0)))
  [0.4338]
  """
  embeddings = checks.as_float("embeddings", embeddings)
  clean = jax.lax.stop_gradient(apply_fn(embeddings))
  perturbation = _perturbation(
    apply_fn,
    embeddings,
    clean,
    rng,
    epsilon=epsilon,
    xi=xi,
    num_iterations=num_iterations,
    divergence=divergence,
    norm_axes=norm_axes,
  )
  return divergence(clean, apply_fn(embeddings + perturbation))


def _perturbation(
  apply_fn,
  embeddings,
  clean,
  rng,
  *,
  epsilon,
  xi,
  num_iterations,
  divergence,
  norm_axes,
):
  """r of (2), given p(x) as its logits `clean`."""
  checks.rank_at_least("embeddings", embeddings, 1, "[B, ...]")
  checks.between("epsilon", epsilon, 0, jnp.inf)
  checks.between("xi", xi, 1e-6, jnp.inf)
  checks.between("num_iterations", num_iterations, 0, jnp.inf)
  # r is a constant anyway; so no second derivatives are traced for it.
  embeddings, clean = jax.lax.stop_gradient((embeddings, clean))

  def total(step):
    return jnp.sum(divergence(clean, apply_fn(embeddings + step)))

  direction = jax.random.normal(rng, embeddings.shape, embeddings.dtype)
  for _ in range(num_iterations):
    direction = jax.grad(total)(xi * _unit(direction, norm_axes))
  return jax.lax.stop_gradient(epsilon * _unit(direction, norm_axes))


def _unit(vector, norm_axes):
  """vector / |vector|, however small it is; 0 for 0."""
  axes = tuple(range(1, vector.ndim)) if norm_axes is None else norm_axes
  # Divided by its maximum first: squares of 1e-23 are 0 in float32.
  top = jnp.max(jnp.abs(vector), axis=axes, keepdims=True)
  vector = vector / jnp.where(top > 0, top, 1)
  squares = jnp.sum(jnp.square(vector), axis=axes, keepdims=True)
  return vector / jnp.sqrt(jnp.where(top > 0, squares, 1))
