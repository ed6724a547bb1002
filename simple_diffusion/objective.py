# SPDX-License-Identifier: Apache-2.0
"""What is minimised: a weighted, optionally multiscale, squared error.

Notation as in `diffusion`. A network predicts v, eps or x; its error is
measured in a loss space y, one of the three, and averaged over the pixels:

  loss(x, eps, t) = w_y(logsnr_t) mean (y - y_hat)^2                      (1)

A weighting is defined once, as the weight w on the x-MSE (so that it is the
same whatever the network predicts and wherever the error is measured), and
carried over by the exact identities

  x-MSE = exp(-logsnr) eps-MSE = sigmoid(-logsnr) v-MSE                   (2)

  name       w on the x-MSE                                 on the eps-MSE
  elbo       -dlogsnr/dt exp(logsnr)                        -dlogsnr/dt
  snr        exp(logsnr)                                    1
  min_snr    min(exp(logsnr), gamma)                        min(1, gamma/SNR)
  sigmoid    -dlogsnr/dt exp(b) sigmoid(logsnr - b)         -dlogsnr/dt
                                                            sigmoid(b - logsnr)
  constant   1 *in the loss space*, whichever it is

`constant` with loss space eps is the objective of arXiv 2301.11093, the ELBO's
weight replaced by one; with loss space v it is the `v_mse` of its U-ViT
appendix. `elbo` is twice the ELBO per dimension (arXiv 2303.00848 has
the half). `min_snr` is arXiv 2303.09556 and `sigmoid` arXiv 2410.19324, eq. 4.
"""

import chex
import jax
import jax.numpy as jnp

from simple_diffusion import diffusion
from simple_diffusion import schedules

WEIGHTINGS = ("constant", "elbo", "snr", "min_snr", "sigmoid")


def _choose(name, value, options):
  if value not in options:
    raise ValueError(f"{name}={value!r}; the options are {', '.join(options)}")


def log_weight(
  t: jax.Array,
  *,
  schedule: schedules.Schedule,
  weighting: str,
  loss_space: str,
  bias: float = 0.0,
  gamma: float = 5.0,
) -> jax.Array:
  """log w_y of equation (1), in logarithms because w spans 30 nats.

  Args:
    t: times in [0, 1], any shape.
    schedule: gives logsnr(t) and -dlogsnr/dt.
    weighting: one of `WEIGHTINGS`.
    loss_space: "eps", "v" or "x".
    bias: b of the sigmoid weighting, in nats of log-SNR.
    gamma: the SNR at which min-SNR clips.

  Returns:
    float32 of the shape of t.

  Raises:
    ValueError: if `weighting` or `loss_space` is not an option.
  """
  _choose("weighting", weighting, WEIGHTINGS)
  _choose("loss_space", loss_space, ("eps", "v", "x"))
  logsnr = schedule.logsnr(t)
  if weighting == "constant":
    return jnp.zeros_like(logsnr)
  log_slope = jnp.log(schedule.neg_slope(t))
  log_weight_on_x = {
    "elbo": log_slope + logsnr,
    "snr": logsnr,
    "min_snr": jnp.minimum(logsnr, jnp.log(gamma)),
    "sigmoid": log_slope + bias + jax.nn.log_sigmoid(logsnr - bias),
  }[weighting]
  log_x_mse_over_mse = {  # equation (2)
    "eps": -logsnr,
    "v": jax.nn.log_sigmoid(-logsnr),
    "x": jnp.zeros_like(logsnr),
  }[loss_space]
  return log_weight_on_x + log_x_mse_over_mse


def average_pool(x: jax.Array, factor: int) -> jax.Array:
  """D_s: means of factor x factor pixels, [B, H, W, C] -> [B, H/k, W/k, C]."""
  b, h, w, c = x.shape
  x = x.reshape(b, h // factor, factor, w // factor, factor, c)
  return x.mean(axis=(2, 4))


def mean_square(residual: jax.Array) -> jax.Array:
  """[B, ...] -> [B], the mean over everything but the examples."""
  return jnp.mean(residual**2, axis=tuple(range(1, residual.ndim)))


def multiscale_mean_square(residual: jax.Array, *, base: int) -> jax.Array:
  """The multiscale loss, arXiv 2301.11093.

    sum over s in {base, 2 base, ..., d} of (1/s) mean (D_s[residual])^2

  D_s pools to s x s pixels and commutes with the expectation, so the minimiser
  is the same; low frequencies gain weight. It is a sum and not an average: at
  512 pixels it is 16 (flat residual) to 260 times (white) smaller than the MSE,
  which makes gradient clipping at 1 nearly inactive.

  Args:
    residual: [B, H, W, C].
    base: the coarsest resolution, in pixels of the shorter side d; the paper
      has 32.

  Returns:
    [B].

  Raises:
    ValueError: if d is not a power of two times `base`.
  """
  height, width = residual.shape[1:3]
  d = min(height, width)
  factor = d // base if base > 0 else 0
  if factor * base != d or factor & (factor - 1) or max(height, width) % factor:
    raise ValueError(
      f"multiscale_base={base} does not reach {height}x{width} by doubling; "
      f"use a base that is {d} divided by a power of two, or None"
    )
  total = jnp.zeros(residual.shape[0], residual.dtype)
  while factor >= 1:
    scale = d // factor
    total += mean_square(average_pool(residual, factor)) / scale
    factor //= 2
  return total


def stratified_times(rng: jax.Array, batch_size: int) -> jax.Array:
  """Times [B] that share one uniform offset: t_i = (u + i/B) mod 1.

  Each is uniform in [0, 1), together they cover it evenly, which lowers the
  variance of the batch's loss (arXiv 2107.00630's low-discrepancy sampler,
  (memory)).
  """
  return (jax.random.uniform(rng) + jnp.arange(batch_size) / batch_size) % 1


def uniform_times(rng: jax.Array, batch_size: int) -> jax.Array:
  """Independent times [B], uniform in [0, 1)."""
  return jax.random.uniform(rng, (batch_size,))


def diffusion_loss(
  x: jax.Array,
  eps: jax.Array,
  t: jax.Array,
  cond,
  *,
  predict_fn,
  schedule: schedules.Schedule,
  prediction: str,
  loss_space: str,
  weighting: str,
  bias: float = 0.0,
  gamma: float = 5.0,
  multiscale_base: int | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Equation (1) of each example, given its noise and its time.

  Args:
    x: [B, H, W, C] images in [-1, 1].
    eps: [B, H, W, C] standard normal noise.
    t: [B] times in [0, 1].
    cond: what else the network sees, passed through; labels [B], say.
    predict_fn: predict_fn(z, logsnr, cond) -> [B, H, W, C].
    schedule: the log-SNR schedule.
    prediction: what predict_fn says: "v", "eps" or "x".
    loss_space: where the error is measured: "eps", "v" or "x".
    weighting: one of `WEIGHTINGS`.
    bias: see `log_weight`.
    gamma: see `log_weight`.
    multiscale_base: coarsest resolution of the multiscale loss; None for the
      plain mean over pixels.

  Returns:
    loss [B] in float32, and the unweighted {"eps_mse": [B], "v_mse": [B]}.

  Raises:
    ValueError: if an option is unknown or the scales do not fit.
  """
  chex.assert_rank([x, t], [4, 1])
  chex.assert_equal_shape([x, eps])
  chex.assert_equal_shape_prefix([x, t], 1)
  log_w = log_weight(
    t,
    schedule=schedule,
    weighting=weighting,
    loss_space=loss_space,
    bias=bias,
    gamma=gamma,
  )
  logsnr = schedule.logsnr(t)
  z = diffusion.diffuse(x, eps, logsnr)
  output = predict_fn(z, logsnr, cond)
  hat = diffusion.predictions(output, z, logsnr, prediction=prediction)
  true = diffusion.Prediction(x, eps, diffusion.v_from_x_eps(x, eps, logsnr))

  residual = getattr(true, loss_space) - getattr(hat, loss_space)
  if multiscale_base is None:
    error = mean_square(residual)
  else:
    error = multiscale_mean_square(residual, base=multiscale_base)
  metrics = {
    "eps_mse": mean_square(true.eps - hat.eps),
    "v_mse": mean_square(true.v - hat.v),
  }
  return jnp.exp(log_w) * error, metrics
