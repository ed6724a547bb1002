# SPDX-License-Identifier: Apache-2.0
"""What EXACT trains with: logits of one scale, a falling sigma, even steps.

The gradient of `expected_accuracy_loss` vanishes where sigma is far from the
scale of the logits, and shrinks as the mistakes do. So its authors (arXiv
2205.09615; ivan-chai/exact) standardise the logits, lower sigma exponentially,
and divide the gradients g_t, t = 1, 2, ..., by a moving average of their norm:

  m_t = d m_{t-1} + (1 - d) |g_t|,  m_0 = 0                               (1)
  u_t = g_t / max(m_t / (1 - d^t), floor)                                 (2)

Then |u| is about 1 however small the gradients are, down to the floor. d = 0
normalises each step by itself.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from losses import checks


def standardize_logits(
  logits: chex.Array,
  *,
  eps: float = 1e-6,
  where: chex.Array | None = None,
  axis_name: str | tuple[str, ...] | None = None,
) -> jax.Array:
  """The logits minus their mean, over their standard deviation plus eps.

  One mean and one deviation of the whole batch, with gradients through both:
  the "batch normalisation" of EXACT (ivan-chai/exact, whose training code has
  the eps). It fixes the scale that sigma is relative to.

  Args:
    logits: [..., C]; -inf is a class that does not exist, and stays so.
    eps: above 0; constant logits become 0, with finite gradients up to 1/eps.
    where: boolean, broadcastable to logits: what is counted. What is not comes
      out as 0, whatever it was.
    axis_name: of a mapped axis that splits the batch, to count all of it.

  Returns:
    [..., C]; 0 if nothing is counted.

  Raises:
    ValueError: if `logits` is not floating point, `where` does not fit or `eps`
      is not positive.

  >>> print(losses.standardize_logits(jnp.array([[4.0, 0.0], [2.0, 2.0]])))
  [[ 1.4142 -1.4142]
   [ 0.      0.    ]]
  """
  logits = checks.as_float("logits", logits)
  checks.positive("eps", eps)
  exists = logits != -jnp.inf
  where = checks.as_mask("where", where, logits.shape) & exists
  counted = jnp.where(where, logits, 0)

  def mean(x):
    total = jnp.sum(x, where=where), jnp.sum(where, dtype=x.dtype)
    if axis_name is not None:
      total = jax.lax.psum(total, axis_name)
    return total[0] / jnp.maximum(total[1], 1)

  centred = jnp.where(where, counted - mean(counted), 0)
  # DEVIATION: divided by n, not n - 1; a factor of 1 - 1/(2n).
  variance = mean(centred**2)
  # The square root has no derivative at 0.
  some = variance != 0
  deviation = jnp.where(some, jnp.sqrt(jnp.where(some, variance, 1)), 0)
  return jnp.where(exists, centred / (deviation + eps), -jnp.inf)


def sigma_schedule(
  *, init: float, final: float, num_steps: int
) -> optax.Schedule:
  """sigma for `expected_accuracy_loss`, falling exponentially.

    sigma(step) = init (final / init)^(step / num_steps), then final

  The authors' tabular runs go from 10 to 0.01 in 16 epochs (ivan-chai/exact).

  Args:
    init: sigma at step 0, above 0.
    final: sigma from num_steps on, above 0.
    num_steps: at least 1.

  Returns:
    A function of the step.

  Raises:
    ValueError: if an argument is out of its range.

  >>> sigma = losses.sigma_schedule(init=10.0, final=0.1, num_steps=2)
  >>> print(jnp.array([sigma(step) for step in range(4)]))
  [10.   1.   0.1  0.1]
  """
  checks.positive("init", init)
  checks.positive("final", final)
  checks.whole_number("num_steps", num_steps, 1)
  return optax.exponential_decay(init, num_steps, final / init, end_value=final)


class ScaleByNormEmaState(NamedTuple):
  """State of `scale_by_norm_ema`: t and m_t."""

  count: chex.Array
  ema: chex.Array


def scale_by_norm_ema(
  *, decay: float = 0.9, floor: float = 1e-2
) -> optax.GradientTransformation:
  """The gradient normalisation of EXACT: (2), in place of clipping.

  The constants are the authors': momentum 0.9, floor 1e-2 (ivan-chai/exact).

  A gradient that is not finite stays in the average: put
  optax.apply_if_finite around the whole optimizer.

  Args:
    decay: in [0, 1).
    floor: the least divisor, above 0, in units of the gradient norm.

  Returns:
    An optax.GradientTransformation; first in optax.chain, before SGD.

  Raises:
    ValueError: if `decay` or `floor` is out of its range.

  >>> optimizer = optax.chain(losses.scale_by_norm_ema(), optax.sgd(1.0))
  >>> grads = {"w": jnp.array([3.0, -4.0])}
  >>> updates, _ = optimizer.update(grads, optimizer.init(grads))
  >>> print(updates["w"])
  [-0.6  0.8]
  """
  # Known of the official code: the average, its momentum and its floor. How it
  # starts is not; here its bias is corrected, so the first update has norm 1.
  value = checks.concrete(decay)  # None if optax.inject_hyperparams traces it.
  if value is not None and not 0 <= value < 1:
    raise ValueError(f"decay has {decay}, which is outside [0, 1)")
  checks.positive("floor", floor)

  def init(params):
    del params
    return ScaleByNormEmaState(jnp.zeros([], jnp.int32), jnp.zeros([]))

  def update(updates, state, params=None):
    del params
    norm = optax.tree.norm(optax.tree.cast(updates, jnp.float32))
    ema = decay * state.ema + (1 - decay) * norm
    count = optax.safe_increment(state.count)
    divisor = jnp.maximum(ema / (1 - decay**count), floor)
    updates = jax.tree.map(lambda g: (g / divisor).astype(g.dtype), updates)
    return updates, ScaleByNormEmaState(count, ema)

  return optax.GradientTransformation(init, update)
