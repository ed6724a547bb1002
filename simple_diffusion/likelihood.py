# SPDX-License-Identifier: Apache-2.0
"""How likely: bits per dimension of images with a finite number of greys.

Notation as in `diffusion`; x has L greys, Delta = 2 / (L - 1) apart, from -1 to
1, and D dimensions. Two upper bounds of -log2 P(x) / D:

  variational  prior + diffusion - E log p(x | z_0)                        (1)
               (see `variational_bound`), where p(x | z_0) is for each
               pixel a softmax of -(z_0 - alpha x')^2 / (2 sigma^2) over
               the greys x': the decoder of arXiv 2107.00630
  flow         -E log p(x + u) - H(u) - E log p(x | x + u)                 (2)
               (see `probability_flow`), where u is
    uniform    within Delta / 2 of 0: H(u) = D log Delta turns a density of
               [-1, 1] into a probability, and x is certain
    normal     of variance (sigma / alpha)^2: x + u is z_0 / alpha, with the
               decoder of (1)

(2) bounds by Jensen's inequality. The two are of two models, one sampled with
noise and one without, so neither bounds the other.

Limits: where noise is far below Delta, a network that does not see that x has
L greys (eps_hat = 0) pays half a nat per dimension and per unit of log-SNR in
the diffusion loss for nothing, since the decoder is certain already.
`ending_at` cuts a schedule there.
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from simple_diffusion import greys
from simple_diffusion import probability_flow
from simple_diffusion import schedules
from simple_diffusion import variational_bound

DEQUANTISATIONS = ("uniform", "normal")


def default_logsnr_end(num_levels: int) -> float:
  """The log-SNR at which noise has a sixth of the distance of two greys.

  13.3 for 256 greys: there a public variational diffusion model ends (code:
  google-research/vdm). The same ratio for others: 7.76 for 17.
  """
  return 13.3 - 2 * math.log(
    greys.grey_width(num_levels) / greys.grey_width(256)
  )


def ending_at(
  schedule: schedules.Schedule, logsnr: float
) -> schedules.Schedule:
  """The schedule with another log-SNR at its data end.

  Raises:
    ValueError: if a network that was trained on the schedule has not seen that.
  """
  low, high = float(schedule.logsnr(1.0)), float(schedule.logsnr(0.0))
  if not low < logsnr < high + 1e-3:
    raise ValueError(
      f"logsnr={logsnr:g} is not within the schedule, {low:.2f} to {high:.2f}"
    )
  shift = 2 * math.log(schedule.ref_at_data / schedule.image_size)
  return dataclasses.replace(schedule, logsnr_max=logsnr - shift)


def _normal(keys, like):
  return jax.vmap(lambda key: jax.random.normal(key, like.shape[1:]))(keys)


def reconstruction_bits(
  x: jax.Array,
  eps: jax.Array,
  *,
  schedule: schedules.Schedule,
  num_levels: int,
) -> jax.Array:
  """-log2 p(x | z_0) / D of equation (1), [B].

  A grey that is m widths away from x is exp(-(m w)^2 / 2 - m w eps) times as
  likely, with w = Delta alpha / sigma; so z_0 itself, which in float32 has few
  digits for its noise, is not needed.

  Args:
    x: [B, ...] images on the grid of greys, see `greys.on_grid`.
    eps: [B, ...] the noise of z_0.
    schedule: its data end is where z_0 is.
    num_levels: L.
  """
  width = greys.grey_width(num_levels)
  w = width * jnp.exp(schedule.logsnr(0.0) / 2)
  level = jnp.round((x + 1) / width)

  def add(index, log_total):
    m = level - index
    return jnp.logaddexp(log_total, -(((m * w) ** 2) / 2 + m * w * eps))

  nats = jax.lax.fori_loop(0, num_levels, add, jnp.full_like(x, -jnp.inf))
  return jnp.mean(nats, axis=tuple(range(1, x.ndim))) / math.log(2)


class VariationalBits(NamedTuple):
  """Equation (1) is their sum; each [B] in bits per dimension."""

  prior: jax.Array
  diffusion: jax.Array
  reconstruction: jax.Array


def variational_bits(
  keys: jax.Array,
  x: jax.Array,
  cond,
  *,
  schedule: schedules.Schedule,
  num_levels: int,
  **options,
) -> VariationalBits:
  """The parts of equation (1).

  Args:
    keys: [B] random keys.
    x: [B, ...] images on the grid of greys, see `greys.on_grid`.
    cond: what the network sees beside.
    schedule: the log-SNR schedule, see `ending_at`.
    num_levels: L.
    **options: what else `variational_bound.diffusion_bits` takes.
  """
  rng_diffusion, rng_z_0 = jax.vmap(jax.random.split, out_axes=1)(keys)
  return VariationalBits(
    variational_bound.prior_bits(x, schedule=schedule),
    variational_bound.diffusion_bits(
      rng_diffusion, x, cond, schedule=schedule, **options
    ),
    reconstruction_bits(
      x, _normal(rng_z_0, x), schedule=schedule, num_levels=num_levels
    ),
  )


def dequantise(
  keys: jax.Array,
  x: jax.Array,
  *,
  schedule: schedules.Schedule,
  num_levels: int,
  dequantisation: str,
) -> tuple[jax.Array, jax.Array]:
  """x + u [B, ...] and what (2) adds to its density, [B] in bits per dimension.

  Raises:
    ValueError: if `dequantisation` is not one of `DEQUANTISATIONS`.
  """
  width = greys.grey_width(num_levels)
  match dequantisation:
    case "uniform":

      def draw(key):
        return jax.random.uniform(key, x.shape[1:], minval=-0.5, maxval=0.5)

      added = jnp.full(len(x), -math.log2(width))
      return x + width * jax.vmap(draw)(keys), added
    case "normal":
      eps = _normal(keys, x)
      std = jnp.exp(-schedule.logsnr(0.0) / 2)
      entropy = math.log2(2 * math.pi * math.e) / 2 + jnp.log2(std)
      decoded = reconstruction_bits(
        x, eps, schedule=schedule, num_levels=num_levels
      )
      return x + std * eps, decoded - entropy
  raise ValueError(
    f"dequantisation={dequantisation!r}; the options are "
    f"{', '.join(DEQUANTISATIONS)}"
  )


def flow_bits(
  keys: jax.Array,
  x: jax.Array,
  cond,
  *,
  schedule: schedules.Schedule,
  num_levels: int,
  dequantisation: str,
  num_probes: int | None,
  **options,
) -> jax.Array:
  """Equation (2) at one u, [B] in bits per dimension.

  Args:
    keys: [B] random keys.
    x: [B, ...] images on the grid of greys, see `greys.on_grid`.
    cond: what the network sees beside.
    schedule: where the flow begins and ends, see `ending_at`.
    num_levels: L.
    dequantisation: of u, one of `DEQUANTISATIONS`.
    num_probes: random signs for the trace, or None for the exact trace.
    **options: what else `probability_flow.density_bits` takes.

  Raises:
    ValueError: if an option is unknown or a number is below 1.
  """
  if num_probes is not None and num_probes < 1:
    raise ValueError(f"num_probes={num_probes} must be at least 1, or None")
  rng_u, rng_probes = jax.vmap(jax.random.split, out_axes=1)(keys)
  y, added = dequantise(
    rng_u,
    x,
    schedule=schedule,
    num_levels=num_levels,
    dequantisation=dequantisation,
  )
  shape = x.shape[1:]
  if num_probes is None:
    probes = probability_flow.unit_probes(image_shape=shape)
  else:
    probes = probability_flow.sign_probes(
      rng_probes, num_probes=num_probes, image_shape=shape
    )
  return added + probability_flow.density_bits(
    y, probes, cond, schedule=schedule, **options
  )
