# SPDX-License-Identifier: Apache-2.0
"""How to add up the losses of several tasks without tuning their weights.

Notation: losses L [..., n] of n tasks, all positive; sg stops gradients. The
weighted sums of kexue.fm post 8870,

  L = sum_i L_i / L_i^0                                                   (1)

with L^0 the loss at the start, the loss of the best constant predictor, or the
loss of now, sg(L_i). All do not change when a loss changes its unit; the last
has the gradient of sum_i log L_i, the geometric mean's direction. The
generalised mean has one number in place of n weights:

  M = (sum_i w_i L_i^gamma)^(1/gamma),  sum w = 1                         (2)
  dM/dL_i = w_i (L_i / M)^(gamma - 1)                                     (3)

gamma  -inf  minimum: only the easiest task learns
         -1  harmonic mean
          0  geometric mean, exp(sum w_i log L_i): units cancel
          1  mean
        inf  maximum: only the hardest task learns

None is invariant under adding a constant to a loss; for that weight by gradient
norms, `inverse_norm_weights`. A loss that can be negative (a log density, a
contrastive loss) has no logarithm: shift it by its lower bound. It is refused,
or NaN under jit. As L_i -> 0 its weight 1 / L_i in (1) and (3) grows without
bound; below `floor` it stays at 1 / floor, by continuing log L in a straight
line.
"""

import chex
import jax
import jax.numpy as jnp
import numpy as np

from losses import checks

# Far below a loss that still means something, far above float32's underflow
# when squared; a choice of ours.
_FLOOR = 1e-8


def initial_cross_entropy(num_classes: int) -> jax.Array:
  """log K, the cross-entropy before training (kexue.fm post 8870).

  Of uniform predictions; the loss where the last layer starts at 0.

  Args:
    num_classes: K, at least 2: with one class there is nothing to learn.

  Returns:
    [] above 0, float32.

  Raises:
    ValueError: if `num_classes` is less than 2.

  >>> print(f"{losses.initial_cross_entropy(10):.4f}")
  2.3026
  """
  checks.between("num_classes", num_classes, 2, np.inf)
  return jnp.log(jnp.asarray(num_classes, jnp.float32))


def initial_squared_error(targets: chex.Array) -> jax.Array:
  """E |y|^2, the squared error before training (kexue.fm post 8870).

  Of predictions 0, for the loss |y - y_hat|^2 summed over the components of y:
  halve or divide it as the loss is.

  Args:
    targets: [B, ...]; the components are summed, the examples averaged.

  Returns:
    [] at least 0; NaN without examples.

  Raises:
    ValueError: if `targets` is not floating point or has no axis.

  >>> targets = jnp.array([[3.0, 0.0], [0.0, 1.0]])
  >>> print(f"{losses.initial_squared_error(targets):.4f}")
  5.0000
  """
  return _mean_square(_examples(targets))


def prior_cross_entropy(frequencies: chex.Array) -> jax.Array:
  """-sum_k p_k log p_k, that of the best constant prediction (post 8870).

  The entropy of the classes, at most log K: what is known without looking at
  the input (memory, as are the formulas of both priors).

  Args:
    frequencies: [..., K] at least 0; probabilities or counts.

  Returns:
    [...] in [0, log K].

  Raises:
    ValueError: if `frequencies` is not floating point or negative.

  >>> print(losses.prior_cross_entropy(jnp.array([[5.0, 5.0], [9.0, 1.0]])))
  [0.6931 0.3251]
  """
  frequencies = checks.as_float("frequencies", frequencies)
  checks.rank_at_least("frequencies", frequencies, 1, "[..., K]")
  checks.between("frequencies", frequencies, 0, np.inf)
  total = jnp.sum(frequencies, axis=-1, keepdims=True)
  p = frequencies / jnp.where(total > 0, total, 1)
  return -jnp.sum(p * jnp.log(jnp.where(p > 0, p, 1)), axis=-1)


def prior_squared_error(targets: chex.Array) -> jax.Array:
  """E |y - E y|^2, that of the best constant prediction (post 8870).

  For the loss |y - y_hat|^2, as in `initial_squared_error`.

  Args:
    targets: [B, ...]; the components are summed, the examples averaged.

  Returns:
    [] at least 0; NaN without examples.

  Raises:
    ValueError: if `targets` is not floating point or has no axis.

  >>> targets = jnp.array([[3.0, 0.0], [0.0, 1.0]])
  >>> print(f"{losses.prior_squared_error(targets):.4f}")
  2.5000
  """
  targets = _examples(targets)
  return _mean_square(targets - jnp.mean(targets, axis=0, keepdims=True))


def _examples(targets):
  targets = checks.as_float("targets", targets)
  checks.rank_at_least("targets", targets, 1, "[B, ...]")
  return targets


def _mean_square(y):
  return jnp.sum(y**2) / y.shape[0]


def inverse_loss_weights(reference_losses: chex.Array) -> jax.Array:
  """1 / L_i^0, the weights of equation 1 (kexue.fm post 8870).

  Args:
    reference_losses: [n] above 0: of the functions `initial_...` or `prior_...`
      or measured at the first steps.

  Returns:
    [n] above 0; the weighted losses start near 1 each.

  Raises:
    ValueError: if `reference_losses` is not floating point or not positive.

  >>> reference = jnp.stack([losses.initial_cross_entropy(10), jnp.array(4.0)])
  >>> print(losses.inverse_loss_weights(reference))
  [0.4343 0.25  ]
  """
  reference_losses = checks.as_float("reference_losses", reference_losses)
  checks.rank_at_least("reference_losses", reference_losses, 1, "[..., n]")
  checks.positive("reference_losses", reference_losses)
  return 1 / reference_losses


def real_time_weighting(
  losses: chex.Array, *, floor: chex.Numeric = _FLOOR
) -> jax.Array:
  """sum_i L_i / sg(L_i), each loss over its value of now (post 8870).

  Its value is n, so log the losses instead. Gradient: sum_i dL_i / L_i, that of
  sum_i log L_i and, over n, of the log of the geometric mean.

  Args:
    losses: [..., n] at least 0.
    floor: above 0, the least divisor.

  Returns:
    [...] n, less where a loss is below `floor`.

  Raises:
    ValueError: if `losses` is not floating point, has no axis or is negative,
      or `floor` is not positive.

  >>> print(jax.grad(losses.real_time_weighting)(jnp.array([2.0, 0.5, 8.0])))
  [0.5   2.    0.125]
  """
  losses = _losses(losses)
  floor = _floor(floor, losses)
  now = jax.lax.stop_gradient(losses)
  return jnp.sum(losses / jnp.maximum(now, floor), axis=-1)


def generalized_mean(
  losses: chex.Array,
  *,
  gamma: chex.Numeric,
  weights: chex.Array | None = None,
  floor: chex.Numeric = _FLOOR,
) -> jax.Array:
  """(sum_i w_i L_i^gamma)^(1/gamma), equation 2 (kexue.fm post 8870).

  Taken of logarithms, so nothing overflows where a product of losses would; at
  gamma = 0 its limit, with the limits of the derivatives. Gradient: equation 3.
  gamma < 1 favours the tasks with small losses, gamma > 1 those with large.

  Args:
    losses: [..., n] at least 0.
    gamma: a scalar, inf and -inf too; may be traced.
    weights: [n] at least 0, not all 0; normalised to sum 1. None is 1 / n.
    floor: above 0; below it log L goes on in a straight line.

  Returns:
    [...] between the least and the largest loss, if none is below `floor`.

  Raises:
    ValueError: if `losses` is not floating point, has no axis or is negative,
      `weights` has another shape, is negative or all 0, `gamma` is no scalar
      or `floor` is not positive.

  >>> three = jnp.array([2.0, 0.5, 8.0])
  >>> gamma = jnp.array([-jnp.inf, -1.0, 0.0, 1.0, jnp.inf])
  >>> print(jax.vmap(lambda g: losses.generalized_mean(three, gamma=g))(gamma))
  [0.5    1.1429 2.     3.5    8.    ]
  """
  losses = _losses(losses)
  floor = _floor(floor, losses)
  n = losses.shape[-1]
  weights = jnp.ones(n) if weights is None else weights
  weights = checks.as_float("weights", weights).astype(losses.dtype)
  checks.shape("weights", weights, (n,), f"[{n}], one for each loss")
  checks.between("weights", weights, 0, np.inf)
  checks.positive("the sum of weights", weights.sum())
  weights = jnp.broadcast_to(weights / jnp.sum(weights), losses.shape)
  checks.shape("gamma", gamma, (), "a scalar; use jax.vmap for several")
  gamma = jnp.asarray(gamma, losses.dtype)

  is_low = losses < floor
  line = jnp.log(floor) + (jnp.where(is_low, losses, floor) - floor) / floor
  log_losses = jnp.where(is_low, line, jnp.log(jnp.where(is_low, 1, losses)))
  return jnp.exp(_log_mean_exp(log_losses, weights, gamma))


def _log_mean_exp(x, w, gamma):
  """log(sum w exp(gamma x)) / gamma over the last axis, for a scalar gamma."""
  mean = jnp.sum(w * x, axis=-1, keepdims=True)
  low = jnp.min(x, axis=-1, keepdims=True, initial=jnp.inf, where=w > 0)
  high = jnp.max(x, axis=-1, keepdims=True, initial=-jnp.inf, where=w > 0)

  # |gamma| spread small: the cumulants, whose truncation is 1e-2^4 / 120 of the
  # spread. The logarithm below has the value too, but not its derivatives in
  # gamma, differences of nearly equal numbers over gamma^2.
  is_small = jnp.abs(gamma) * jax.lax.stop_gradient(high - low) < 1e-2
  g = jnp.where(is_small, gamma, 0)
  d = jnp.where(is_small, x - mean, 0)
  m2, m3, m4 = (jnp.sum(w * d**k, axis=-1, keepdims=True) for k in (2, 3, 4))
  series = mean + g * m2 / 2 + g**2 * m3 / 6 + g**3 * (m4 - 3 * m2**2) / 24

  # Relative to the largest term: no overflow, and no term of the sum cancels.
  # The formula does not depend on `end`, so neither does its gradient.
  end = jax.lax.stop_gradient(jnp.where(gamma > 0, high, low))
  is_end = jnp.isinf(gamma)
  g = jnp.where(is_small | is_end, 1, gamma)
  d = jnp.where(is_small | is_end | (w == 0), 0, x - end)
  total = jnp.sum(w * jnp.expm1(g * d), axis=-1, keepdims=True)
  is_near = total > -0.5  # else 1 + total may have lost a small weight
  near = jnp.log1p(jnp.where(is_near, total, 0))
  far = jnp.log(jnp.sum(w * jnp.exp(g * d), axis=-1, keepdims=True))
  regular = end + jnp.where(is_near, near, far) / g

  extreme = jnp.where(gamma > 0, high, low)
  result = jnp.where(is_small, series, jnp.where(is_end, extreme, regular))
  return jnp.squeeze(result, axis=-1)


def _losses(losses):
  """[..., n] in float32 or better; a negative one is refused, or NaN traced."""
  losses = checks.as_float("losses", losses)
  checks.rank_at_least("losses", losses, 1, "[..., n]")
  values = checks.concrete(losses)
  if values is not None and (values < 0).any():
    wrong = values[values < 0].flat[0]
    raise ValueError(
      f"losses has {wrong}, which is negative; shift it by its lower bound"
    )
  return jnp.where(losses < 0, jnp.nan, losses)


def _floor(floor, losses):
  checks.positive("floor", floor)
  checks.shape("floor", floor, (), "a scalar")
  return jnp.asarray(floor, losses.dtype)
