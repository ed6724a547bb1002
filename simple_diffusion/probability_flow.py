# SPDX-License-Identifier: Apache-2.0
"""The density of images under the probability flow, on the log-SNR axis.

Notation as in `diffusion`. With the log-SNR as time, alpha' = alpha sigma^2 / 2
and sigma' = -alpha^2 sigma / 2, so the flow whose marginals are those of the
diffusion (arXiv 2011.13456, section 4.3) is

  dz/dlogsnr = alpha' x_hat + sigma' eps_hat = -(alpha sigma / 2) v_hat    (1)

and the density of a point that it carries changes with its divergence:

  dlog p/dlogsnr = (alpha sigma / 2) tr(dv_hat/dz)                         (2)

From z = alpha x at the data end to z_1 at the noise end, where p is N(0, I),

  log p(x) = log N(z_1; 0, I) + D log alpha + integral of (2) over logsnr  (3)

The trace is a mean of n^T (dv_hat/dz) n over probes n: random signs for an
unbiased estimate (Hutchinson; arXiv 1810.01367), or all scaled unit vectors,
which is exact and takes D products.

Limits: (3) is the density of images that are as noisy as the schedule's data
end. alpha sigma <= 1/2, so (1) is not stiff and few steps of Runge-Kutta do.
"""

import math

import chex
import jax
import jax.numpy as jnp

from simple_diffusion import diffusion
from simple_diffusion import schedules

# Products with the Jacobian that are in memory together: the exact trace of
# CIFAR-10's images takes 3,072.
PROBES_AT_A_TIME = 16


def sign_probes(
  keys: jax.Array, *, num_probes: int, image_shape: tuple[int, ...]
) -> jax.Array:
  """Independent random signs [P, B, ...], for keys [B]."""

  def draw(key):
    return jax.random.rademacher(key, (num_probes, *image_shape), jnp.float32)

  return jax.vmap(draw, out_axes=1)(keys)


def unit_probes(*, image_shape: tuple[int, ...]) -> jax.Array:
  """The D unit vectors times sqrt(D), [D, 1, ...]: their mean is the trace."""
  num_dims = math.prod(image_shape)
  vectors = math.sqrt(num_dims) * jnp.eye(num_dims, dtype=jnp.float32)
  return vectors.reshape(num_dims, 1, *image_shape)


def density_bits(
  x: jax.Array,
  probes: jax.Array,
  cond,
  *,
  predict_fn,
  schedule: schedules.Schedule,
  prediction: str,
  num_steps: int,
) -> jax.Array:
  """-log2 p(x) / D of equation (3), by Runge-Kutta of order 4.

  Steps are uniform in log-SNR. Compare two numbers of them: their difference
  falls as num_steps^-4.

  Args:
    x: [B, ...] images.
    probes: [P, B, ...] of `sign_probes` or [P, 1, ...] of `unit_probes`, the
      same all along a trajectory.
    cond: what predict_fn takes as its third argument.
    predict_fn: predict_fn(z, logsnr, cond) -> [B, ...], logsnr [B].
    schedule: where the flow begins and ends; nothing else of it matters.
    prediction: what predict_fn says: "v", "eps" or "x".
    num_steps: T >= 1; 4 T evaluations of the network and 4 T P products with
      its Jacobian.

  Returns:
    [B] in bits per dimension, float32; as x is continuous it may be negative.

  Raises:
    ValueError: if num_steps < 1 or `prediction` is unknown.
  """
  if num_steps < 1:
    raise ValueError(f"num_steps={num_steps} must be at least 1")
  chex.assert_equal_shape_suffix([x, probes], x.ndim - 1)
  high, low = schedule.logsnr(0.0), schedule.logsnr(1.0)
  h = (low - high) / num_steps  # Negative: from data to noise.
  axes = tuple(range(1, x.ndim))

  def slopes(state, logsnr):
    """Equations (1) and (2), the latter per dimension."""
    z, _ = state

    def v_hat(z):
      logsnr_b = jnp.full(z.shape[:1], logsnr)
      output = predict_fn(z, logsnr_b, cond)
      return diffusion.predictions(output, z, logsnr_b, prediction=prediction).v

    def trace(probe):
      _, product = jax.jvp(v_hat, (z,), (jnp.broadcast_to(probe, z.shape),))
      return jnp.mean(probe * product, axis=axes)

    # v itself does not depend on the probe: XLA computes it once for those
    # that are together.
    traces = jax.lax.map(trace, probes, batch_size=PROBES_AT_A_TIME)
    rate = diffusion.alpha(logsnr) * diffusion.sigma(logsnr) / 2
    return -rate * v_hat(z), rate * jnp.mean(traces, axis=0)

  def moved(state, slope, step):
    return jax.tree.map(lambda s, ds: s + step * ds, state, slope)

  def step(state, index):
    logsnr = high + h * index
    k1 = slopes(state, logsnr)
    k2 = slopes(moved(state, k1, h / 2), logsnr + h / 2)
    k3 = slopes(moved(state, k2, h / 2), logsnr + h / 2)
    k4 = slopes(moved(state, k3, h), logsnr + h)
    mean = jax.tree.map(
      lambda a, b, c, d: (a + 2 * b + 2 * c + d) / 6, k1, k2, k3, k4
    )
    return moved(state, mean, h), None

  log_alpha = jax.nn.log_sigmoid(high) / 2
  start = diffusion.alpha(high) * x, jnp.zeros(x.shape[:1])
  (z_1, change), _ = jax.lax.scan(step, start, jnp.arange(num_steps))
  log_normal = -(jnp.mean(z_1**2, axis=axes) + math.log(2 * math.pi)) / 2
  return -(log_normal + log_alpha - change) / math.log(2)
