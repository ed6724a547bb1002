# SPDX-License-Identifier: Apache-2.0
"""How noisy: log-SNR schedules in continuous time.

t in [0, 1] is time (0 = data, 1 = noise) and logsnr(t) = log(alpha^2/sigma^2).
Simple diffusion (arXiv 2301.11093) has one family:

  logsnr(t) = logsnr_0(t) + 2 t     log(ref_at_noise / image_size)
                          + 2 (1-t) log(ref_at_data  / image_size)       (1)
  logsnr_0(t) = -2 log tan(u),    u  = t_min + t (t_max - t_min)         (2)
              = 2 log sin(u') - 2 log sin(u),         u' = pi/2 - u      (3)
  t_min = atan(exp(-logsnr_max/2)),  t_max = atan(exp(-logsnr_min/2))

* cosine:       both references equal image_size, so (1) is logsnr_0;
* shifted:      both equal one reference resolution, 32 or 64 in the paper. The
  SNR then is what the reference resolution sees after average pooling;
* interpolated: two references, named by the end of the schedule they hold at.

The bounds logsnr_min, logsnr_max clip logsnr_0, that is *before* the shift:
512 pixels with reference 64 end at [-19.16, 10.84]. The numbers -15 and 15 are
those of two public implementations; the paper's text does not print them.

Limits: (3) rather than (2) because u is near pi/2 at the noise end, where a
float32 tangent keeps three digits; u' = s_min + (1-t)(t_max - t_min) does not
cancel.
"""

import dataclasses
import math

import chex
import jax
import jax.numpy as jnp

MAX_BOUND = 100.0  # Ours: beyond 177 exp(logsnr / 2) leaves float32.


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
  """The interpolated, shifted and clipped cosine schedule, equation (1).

  Attributes:
    image_size: side of the images in pixels, d in the paper.
    ref_at_noise: reference resolution in pixels at t = 1.
    ref_at_data: reference resolution in pixels at t = 0.
    logsnr_min: value of the unshifted schedule at t = 1.
    logsnr_max: value of the unshifted schedule at t = 0.

  Raises:
    ValueError: if a size is not positive, the bounds are not ordered or beyond
      MAX_BOUND, or logsnr(t) would not fall everywhere, which happens when
      ref_at_noise is more than about 23 times ref_at_data.
  """

  image_size: float
  ref_at_noise: float
  ref_at_data: float
  logsnr_min: float = -15.0
  logsnr_max: float = 15.0

  def __post_init__(self):
    for name in ("image_size", "ref_at_noise", "ref_at_data"):
      if not getattr(self, name) > 0:
        raise ValueError(
          f"schedule: {name}={getattr(self, name)} must be a positive number "
          "of pixels"
        )
    for name in ("logsnr_min", "logsnr_max"):
      if not abs(getattr(self, name)) <= MAX_BOUND:
        raise ValueError(
          f"schedule: {name}={getattr(self, name)} must be within "
          f"-{MAX_BOUND:g} and {MAX_BOUND:g}; float32 has no more beyond 177"
        )
    if not self.logsnr_min < self.logsnr_max:
      raise ValueError(
        f"schedule: logsnr_min={self.logsnr_min} must be below "
        f"logsnr_max={self.logsnr_max}"
      )
    # -dlogsnr_0/dt = 4 span / sin(2u) is smallest where sin(2u) is largest.
    lo, hi = 2 * self._u_at(0.0), 2 * self._u_at(1.0)
    sin_2u = 1.0 if lo <= math.pi / 2 <= hi else max(math.sin(lo), math.sin(hi))
    steepness = 4 * self._span / sin_2u
    if 2 * math.log(self.ref_at_noise / self.ref_at_data) >= steepness:
      raise ValueError(
        f"schedule: logsnr(t) is not monotone with ref_at_noise="
        f"{self.ref_at_noise:g} and ref_at_data={self.ref_at_data:g}; keep "
        "ref_at_noise / ref_at_data below "
        f"{math.exp(steepness / 2):.2f}"
      )

  @property
  def _t_min(self) -> float:
    return math.atan(math.exp(-self.logsnr_max / 2))

  @property
  def _s_min(self) -> float:  # pi/2 - t_max, without the cancellation
    return math.atan(math.exp(self.logsnr_min / 2))

  @property
  def _span(self) -> float:
    return math.pi / 2 - self._s_min - self._t_min

  def _u_at(self, t):
    return self._t_min + t * self._span

  def _u_complement_at(self, t):
    return self._s_min + (1 - t) * self._span

  def _shift(self, t):
    at_noise = 2 * math.log(self.ref_at_noise / self.image_size)
    at_data = 2 * math.log(self.ref_at_data / self.image_size)
    return t * at_noise + (1 - t) * at_data

  def logsnr(self, t: chex.Numeric) -> jax.Array:
    """logsnr(t), equations (1) and (3); t in [0, 1] of any shape."""
    t = jnp.asarray(t, jnp.float32)
    log_alpha = jnp.log(jnp.sin(self._u_complement_at(t)))
    log_sigma = jnp.log(jnp.sin(self._u_at(t)))
    return 2 * (log_alpha - log_sigma) + self._shift(t)

  def neg_slope(self, t: chex.Numeric) -> jax.Array:
    """-dlogsnr/dt > 0, the density of times per unit of log-SNR inverted.

    4 span / sin(2u) - 2 log(ref_at_noise / ref_at_data), with
    2 / sin(2u) = cot(u) + cot(u').
    """
    t = jnp.asarray(t, jnp.float32)
    cot_sum = 1 / jnp.tan(self._u_at(t)) + 1 / jnp.tan(self._u_complement_at(t))
    interpolation = 2 * math.log(self.ref_at_noise / self.ref_at_data)
    return 2 * self._span * cot_sum - interpolation

  def time(self, logsnr: chex.Numeric) -> jax.Array:
    """The t at which logsnr(t) = logsnr; clipped to [0, 1] beyond the ends.

    Equation (1) has no closed inverse when it interpolates, so t is bracketed
    by bisection: logsnr(t) is monotone, and 30 halvings are below float32.
    """
    logsnr = jnp.asarray(logsnr, jnp.float32)

    def halve(_, bracket):
      low, high = bracket
      middle = (low + high) / 2
      is_right = self.logsnr(middle) > logsnr
      return jnp.where(is_right, middle, low), jnp.where(is_right, high, middle)

    start = jnp.zeros_like(logsnr), jnp.ones_like(logsnr)
    low, high = jax.lax.fori_loop(0, 30, halve, start)
    return (low + high) / 2


def cosine(*, image_size: float, **bounds) -> Schedule:
  """The usual schedule: its logsnr(t) = -2 log tan(pi t / 2), clipped."""
  return Schedule(
    image_size=image_size,
    ref_at_noise=image_size,
    ref_at_data=image_size,
    **bounds,
  )


def shifted_cosine(*, image_size: float, ref: float, **bounds) -> Schedule:
  """The cosine schedule moved by 2 log(ref / image_size)."""
  return Schedule(
    image_size=image_size, ref_at_noise=ref, ref_at_data=ref, **bounds
  )


def interpolated_cosine(
  *,
  image_size: float,
  ref_at_noise: float = 32,
  ref_at_data: float | None = None,
  **bounds,
) -> Schedule:
  """Two shifts, interpolated over time, arXiv 2301.11093 eq. (6).

  # DEVIATION: the printed equation has the high reference at the noise end,
  the lineage of its appendix code the low one. Only the latter spreads log-SNR,
  which is the stated purpose, so it is the default: 32 at the noise end,
  image_size / 2 at the data end (256 for 512 pixels, as in the paper).
  """
  return Schedule(
    image_size=image_size,
    ref_at_noise=ref_at_noise,
    ref_at_data=image_size / 2 if ref_at_data is None else ref_at_data,
    **bounds,
  )
