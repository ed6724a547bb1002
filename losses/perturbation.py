# SPDX-License-Identifier: Apache-2.0
"""The perturbations of embeddings that harm most: FGM and virtual adversaries.

Notation: embeddings x, loss L, prediction p(x), divergence D. With unit(v) =
v / |v|, and unit(0) = 0,

  FGM: r = epsilon unit(grad_x L(x))                                      (1)
  VAT: d <- grad_d D(p(x), p(x + xi unit(d))), from noise;
       r = epsilon unit(d),  loss D(p(x), p(x + r))                       (2)

FGM needs labels (arXiv 1605.07725); virtual adversarial training does not
(arXiv 1704.03976; kexue.fm post 7466). For small xi each step of (2) is a power
iteration with the Hessian of D at x. With more steps r tends to the top
eigenvector, and for small epsilon the loss tends to epsilon^2/2 times the top
eigenvalue.

By default each example has its own norm, taken over all axes but the first: the
embeddings [B, n, D] of the n tokens of an example share one epsilon. To perturb
an embedding matrix [V, D], which all examples share, let the function map the
matrix to the result, and pass norm_axes=(0, 1).

loss_fn and apply_fn must be deterministic. With a new dropout mask at each call
p(x + r) would differ from p(x) because of dropout too, and the gradient in (2)
would follow that difference. So fix the dropout key, or switch dropout off.

r is treated as a constant by differentiation (stop_gradient). It is float32, or
float64 for float64 embeddings; the functions get embeddings of that type.
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

  Adversarial training minimises loss_fn(x) + loss_fn(x + r), or only
  loss_fn(x + r). The norm of r is epsilon however small g is, so the scale of
  the loss has no effect. Where g = 0, r = 0.

  Args:
    loss_fn: embeddings -> losses of any shape, which are summed. The loss of
      one example must not depend on another, unless they share one norm.
    embeddings: [B, ...] floating.
    epsilon: the norm of r, a scalar at least 0; the code of post 7466 has 1.
    norm_axes: the axes a norm is taken over; None is all but the first.

  Returns:
    r, of the shape of embeddings, without gradient.

  Raises:
    ValueError: if `embeddings` is not floating point, or `epsilon` is negative
      or not a scalar.

  >>> weights = jnp.array([[3.0, 4.0], [0.0, 0.0]])
  >>> print(losses.fgm_perturbation(lambda x: jnp.sum(weights * x, -1),
  ...                               jnp.ones((2, 2))))
  [[0.6 0.8]
   [0.  0. ]]
  """
  embeddings = checks.as_float("embeddings", embeddings)
  checks.rank_at_least("embeddings", embeddings, 1, "[B, ...]")
  epsilon = _scalar("epsilon", epsilon, 0, embeddings.dtype)
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

  The defaults are those of the code of the post. The paper has a small xi
  (memory), for which the limits in the module docstring hold. The sign of r is
  random. Where the gradient is 0, r = 0.

  In float32 a small xi is 1e-3 to 1e-2, for embeddings whose entries are about
  1: in trials the direction agreed with that of xi -> 0 to a cosine of .999.
  Below, x + xi unit(d) is rounded too much: the worst cosine was .995 at 1e-4,
  .8 at 1e-5, and at 1e-6 the direction was noise. Larger entries need a larger
  xi, in proportion. If apply_fn computes in bfloat16, keep xi above a tenth of
  the norm of the embeddings.

  Args:
    apply_fn: embeddings -> logits, deterministic: the same dropout mask at
      every call.
    embeddings: [B, ...] floating.
    rng: key of the first direction.
    epsilon: the norm of r, a scalar at least 0.
    xi: the norm of the step at which the gradient is taken, a scalar at least
      1e-4, or 1e-8 for float64 embeddings.
    num_iterations: an integer, at least 0; each takes one gradient. 0 gives a
      random direction.
    divergence: (clean logits, perturbed logits) -> [B]. The default is for
      softmax. For multi-label scores use `losses.multilabel_symmetric_kl`; fix
      its `axis` by functools.partial.
    norm_axes: the axes a norm is taken over; None is all but the first.

  Returns:
    r, of the shape of embeddings, without gradient.

  Raises:
    ValueError: if `embeddings` is not floating point, `epsilon` or `xi` is too
      small or not a scalar, or `num_iterations` is not an integer or negative.

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

  r is that of `losses.virtual_adversarial_perturbation`. It needs no labels.
  r and p(x) are treated as constants, so the gradient comes from p(x + r) only.
  Training takes 2 + num_iterations forward and 1 + num_iterations backward
  passes. For multi-label scores of spans pass

    divergence=functools.partial(losses.multilabel_symmetric_kl, axis=(-2, -1))

  Args:
    apply_fn: embeddings -> logits, deterministic: the same dropout mask at
      every call.
    embeddings: [B, ...] floating.
    rng: key of the first direction.
    epsilon: the norm of r, a scalar at least 0.
    xi: the norm of the step at which the gradient is taken, a scalar at least
      1e-4, or 1e-8 for float64 embeddings.
    num_iterations: an integer, at least 0; each takes one gradient.
    divergence: (clean logits, perturbed logits) -> [B].
    norm_axes: the axes a norm is taken over; None is all but the first.

  Returns:
    What `divergence` returns, [B]; at least 0.

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
  # About the root of the rounding error: below it, rounding hides the step.
  smallest = 1e-8 if embeddings.dtype == jnp.float64 else 1e-4
  epsilon = _scalar("epsilon", epsilon, 0, embeddings.dtype)
  xi = _scalar("xi", xi, smallest, embeddings.dtype)
  checks.whole_number("num_iterations", num_iterations, 0)
  # r is a constant, so no derivative of its gradients need be traced.
  embeddings, clean = jax.lax.stop_gradient((embeddings, clean))

  def total(step):
    return jnp.sum(divergence(clean, apply_fn(embeddings + step)))

  direction = jax.random.normal(rng, embeddings.shape, embeddings.dtype)
  for _ in range(num_iterations):
    direction = jax.grad(total)(xi * _unit(direction, norm_axes))
  return jax.lax.stop_gradient(epsilon * _unit(direction, norm_axes))


def _scalar(name, value, low, dtype):
  """A scalar of at least `low`."""
  return checks.parameter(name, value, low, jnp.inf, like=jnp.zeros((), dtype))


def _unit(vector, norm_axes):
  """vector / |vector|, however small it is; 0 for 0."""
  axes = tuple(range(1, vector.ndim)) if norm_axes is None else norm_axes
  # Divided by its maximum first: the square of 1e-23 is 0 in float32.
  top = jnp.max(jnp.abs(vector), axis=axes, keepdims=True)
  vector = vector / jnp.where(top > 0, top, 1)
  squares = jnp.sum(jnp.square(vector), axis=axes, keepdims=True)
  return vector / jnp.sqrt(jnp.where(top > 0, squares, 1))
