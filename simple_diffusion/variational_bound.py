# SPDX-License-Identifier: Apache-2.0
"""The variational bound of diffusion: prior and diffusion loss.

Notation as in `diffusion`; z_0 and z_1 are at the ends of the schedule. The
generative model draws z_1 from N(0, I) and goes back by q(z_s | z_t, x_hat).
Its bound of -log p(x) (arXiv 2107.00630) is, without the decoder of z_0,

  prior       KL(q(z_1 | x) || N(0, I))                                    (1)
  diffusion   1/2 sum over T steps of                                      (2)
              expm1(logsnr_s - logsnr_t) E |eps - eps_hat(z_t)|^2
  T -> inf    1/2 integral of E |eps - eps_hat|^2 over the log-SNR         (3)

(3) depends on the ends of the schedule only, (2) on what lies between as well.
"""

import math

import jax
import jax.numpy as jnp

from simple_diffusion import diffusion
from simple_diffusion import objective
from simple_diffusion import sampler
from simple_diffusion import schedules


def prior_bits(x: jax.Array, *, schedule: schedules.Schedule) -> jax.Array:
  """Equation (1), [B] in bits per dimension, in closed form."""
  logsnr = schedule.logsnr(1.0)
  x2 = objective.mean_square(x)
  # sigma^2 + alpha^2 x^2 - 1 - log sigma^2, without the ones that cancel.
  nats = jax.nn.sigmoid(logsnr) * (x2 - 1) + jax.nn.softplus(logsnr)
  return nats / (2 * math.log(2))


def _levels_and_weights(t, *, schedule, num_steps, spacing):
  """Log-SNRs for t in [0, 1), and what the eps-MSE / 2 there stands for."""
  if num_steps is not None:
    grid = sampler.logsnr_grid(schedule, num_steps=num_steps, spacing=spacing)
    index = jnp.minimum((t * num_steps).astype(jnp.int32), num_steps - 1)
    return grid[index], num_steps * jnp.expm1(grid[index + 1] - grid[index])
  match spacing:
    case "time":
      return schedule.logsnr(t), schedule.neg_slope(t)
    case "logsnr":
      high, low = schedule.logsnr(0.0), schedule.logsnr(1.0)
      return high + t * (low - high), jnp.full_like(t, high - low)
  raise ValueError(
    f"spacing={spacing!r}; the options are {', '.join(sampler.SPACINGS)}"
  )


def diffusion_bits(
  keys: jax.Array,
  x: jax.Array,
  cond,
  *,
  predict_fn,
  schedule: schedules.Schedule,
  prediction: str,
  clip: bool,
  num_samples: int,
  num_steps: int | None = None,
  spacing: str = "logsnr",
) -> jax.Array:
  """An unbiased estimate of equation (2) or (3).

  Args:
    keys: [B] random keys.
    x: [B, ...] images.
    cond: what predict_fn takes as its third argument.
    predict_fn: predict_fn(z, logsnr, cond) -> [B, ...], logsnr [B].
    schedule: the log-SNR schedule.
    prediction: what predict_fn says: "v", "eps" or "x".
    clip: whether x_hat is clipped to [-1, 1], as the sampler can. It never is
      further from an x in [-1, 1] then.
    num_samples: S >= 1 noise levels for each image, one at random from each of
      S equal parts of the schedule: S network evaluations. With S = T every
      step is taken once.
    num_steps: T, the steps of the bound; None for its limit, which is the
      integral.
    spacing: what the levels are uniform in, "time" or "logsnr". It changes the
      bound of T steps, and of the integral only the variance.

  Returns:
    [B] in bits per dimension, float32.

  Raises:
    ValueError: if an option is unknown or a number is below 1.
  """
  if num_samples < 1:
    raise ValueError(f"num_samples={num_samples} must be at least 1")

  def folded(index):
    return jax.vmap(lambda key: jax.random.fold_in(key, index))(keys)

  def noise(key):
    return jax.random.normal(key, x.shape[1:])

  offsets = jax.vmap(jax.random.uniform)(folded(num_samples))  # [B]

  def add(total, index):
    logsnr, weight = _levels_and_weights(
      (offsets + index) / num_samples,
      schedule=schedule,
      num_steps=num_steps,
      spacing=spacing,
    )
    eps = jax.vmap(noise)(folded(index))
    z = diffusion.diffuse(x, eps, logsnr)
    output = predict_fn(z, logsnr, cond)
    hat = diffusion.predictions(output, z, logsnr, prediction=prediction)
    eps_hat = hat.eps
    if clip:
      eps_hat = diffusion.eps_from_x(jnp.clip(hat.x, -1, 1), z, logsnr)
    return total + weight * objective.mean_square(eps - eps_hat), None

  total, _ = jax.lax.scan(add, jnp.zeros(len(x)), jnp.arange(num_samples))
  return total / (2 * num_samples * math.log(2))
