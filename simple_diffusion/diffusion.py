# SPDX-License-Identifier: Apache-2.0
"""The algebra of the Gaussian diffusion process, as functions of the log-SNR.

Notation (arXiv 2301.11093; variance preserving):

  z_t = alpha_t x + sigma_t eps,      eps ~ N(0, I)                       (1)
  alpha^2 = sigmoid(logsnr),  sigma^2 = sigmoid(-logsnr)                  (2)
  v = alpha eps - sigma x                                                 (3)
  x = alpha z - sigma v,   eps = sigma z + alpha v                        (4)

and for times s < t, hence logsnr_s > logsnr_t, with
r = alpha_t^2 sigma_s^2 / (alpha_s^2 sigma_t^2) = exp(logsnr_t - logsnr_s):

  q(z_s | z_t, x) = N(mu, var_min),
  mu = r alpha_s/alpha_t z_t + (1 - r) alpha_s x                          (5)
  var_min = (1 - r) sigma_s^2                                             (6)
  q(z_t | z_s) has variance var_max = (1 - r) sigma_t^2                   (7)

`z, x, eps, v` are [B, ...] arrays; `logsnr` is a scalar or [B].

Limits: (3) and (4) are rotations and stable at every log-SNR. Dividing by
alpha (x from eps, at the noise end) or sigma (eps from x, at the data end)
multiplies an error of the prediction by exp(|logsnr|/2). That is the maths, not
rounding: 1808 at |logsnr| = 15.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp


def broadcast_to_images(scalar: chex.Numeric, images: jax.Array) -> jax.Array:
  """A scalar as it is, [B] as [B, 1, ..., 1], to meet images [B, ...]."""
  scalar = jnp.asarray(scalar)
  chex.assert_rank(scalar, {0, 1})
  if scalar.ndim == 0:
    return scalar
  chex.assert_axis_dimension(scalar, 0, images.shape[0])
  return scalar.reshape((-1,) + (1,) * (images.ndim - 1))


def alpha(logsnr: chex.Numeric) -> jax.Array:
  """Signal level alpha = sqrt(sigmoid(logsnr)), equation (2)."""
  return jnp.exp(0.5 * jax.nn.log_sigmoid(logsnr))


def sigma(logsnr: chex.Numeric) -> jax.Array:
  """Noise level sigma = sqrt(sigmoid(-logsnr)), equation (2)."""
  return jnp.exp(0.5 * jax.nn.log_sigmoid(-jnp.asarray(logsnr)))


def _levels(logsnr, like):
  logsnr = broadcast_to_images(logsnr, like)
  return alpha(logsnr), sigma(logsnr)


def diffuse(x: jax.Array, eps: jax.Array, logsnr: chex.Numeric) -> jax.Array:
  """A sample z_t of q(z_t | x) from noise eps ~ N(0, I), equation (1)."""
  alpha_t, sigma_t = _levels(logsnr, x)
  return alpha_t * x + sigma_t * eps


def v_from_x_eps(x, eps, logsnr):
  """v = alpha eps - sigma x, equation (3)."""
  alpha_t, sigma_t = _levels(logsnr, x)
  return alpha_t * eps - sigma_t * x


def x_from_v(v, z, logsnr):
  """x = alpha z - sigma v, equation (4)."""
  alpha_t, sigma_t = _levels(logsnr, z)
  return alpha_t * z - sigma_t * v


def eps_from_v(v, z, logsnr):
  """eps = sigma z + alpha v, equation (4)."""
  alpha_t, sigma_t = _levels(logsnr, z)
  return sigma_t * z + alpha_t * v


def x_from_eps(eps, z, logsnr):
  """x = (z - sigma eps) / alpha, equation (1)."""
  alpha_t, sigma_t = _levels(logsnr, z)
  return (z - sigma_t * eps) / alpha_t


def eps_from_x(x, z, logsnr):
  """eps = (z - alpha x) / sigma, equation (1)."""
  alpha_t, sigma_t = _levels(logsnr, z)
  return (z - alpha_t * x) / sigma_t


def v_from_x(x, z, logsnr):
  """v = (alpha z - x) / sigma, equation (4)."""
  alpha_t, sigma_t = _levels(logsnr, z)
  return (alpha_t * z - x) / sigma_t


def v_from_eps(eps, z, logsnr):
  """v = (eps - sigma z) / alpha, equation (4)."""
  alpha_t, sigma_t = _levels(logsnr, z)
  return (eps - sigma_t * z) / alpha_t


class Prediction(NamedTuple):
  """One prediction seen in the three parametrisations, each [B, ...]."""

  x: jax.Array
  eps: jax.Array
  v: jax.Array


def predictions(
  output: jax.Array, z: jax.Array, logsnr: chex.Numeric, *, prediction: str
) -> Prediction:
  """x_hat, eps_hat and v_hat from what a network says about z_t.

  Args:
    output: [B, ...] the network's output.
    z: [B, ...] the noisy images it saw.
    logsnr: scalar or [B].
    prediction: what `output` means: "v", "eps" or "x".

  Returns:
    The `Prediction`, in float32.

  Raises:
    ValueError: if `prediction` is none of the three.
  """
  chex.assert_equal_shape([output, z])
  output, z = output.astype(jnp.float32), z.astype(jnp.float32)
  match prediction:
    case "v":
      x, eps = x_from_v(output, z, logsnr), eps_from_v(output, z, logsnr)
      return Prediction(x, eps, output)
    case "eps":
      x, v = x_from_eps(output, z, logsnr), v_from_eps(output, z, logsnr)
      return Prediction(x, output, v)
    case "x":
      eps, v = eps_from_x(output, z, logsnr), v_from_x(output, z, logsnr)
      return Prediction(output, eps, v)
  raise ValueError(f"prediction={prediction!r}; the options are v, eps, x")


class Posterior(NamedTuple):
  """q(z_s | z_t, x): mean [B, ...]; log variances [] or [B]."""

  mean: jax.Array
  logvar_min: jax.Array
  logvar_max: jax.Array


def posterior(
  x: jax.Array,
  z_t: jax.Array,
  logsnr_s: chex.Numeric,
  logsnr_t: chex.Numeric,
) -> Posterior:
  """q(z_s | z_t, x) for s < t, equations (5) to (7).

  `logvar_min` is the posterior's own variance; `logvar_max` is that of
  q(z_t | z_s), the largest an ancestral sampler uses.
  """
  logsnr_s, logsnr_t = jnp.asarray(logsnr_s), jnp.asarray(logsnr_t)
  # expm1 keeps small steps, r near 1, exact.
  one_minus_r = -jnp.expm1(logsnr_t - logsnr_s)
  log_one_minus_r = jnp.log(one_minus_r)
  one_minus_r = broadcast_to_images(one_minus_r, z_t)
  r = broadcast_to_images(jnp.exp(logsnr_t - logsnr_s), z_t)
  alpha_s, _ = _levels(logsnr_s, z_t)
  alpha_t, _ = _levels(logsnr_t, z_t)
  return Posterior(
    mean=r * (alpha_s / alpha_t) * z_t + one_minus_r * alpha_s * x,
    logvar_min=log_one_minus_r + jax.nn.log_sigmoid(-logsnr_s),
    logvar_max=log_one_minus_r + jax.nn.log_sigmoid(-logsnr_t),
  )
