# SPDX-License-Identifier: Apache-2.0
"""Log-SNR schedules against float64 formulas and worked values.

The worked values were derived in float64 from equations (1) and (2) of
`schedules`, independently of the code, for 512 pixels and bounds of +-15. The
bounds before the shift are those of two public implementations, one of which
asserts the [-19.16, 10.84] below.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simple_diffusion import schedules

SCHEDULES = {
  "cosine": schedules.cosine(image_size=512),
  "shift_64": schedules.shifted_cosine(image_size=512, ref=64),
  # Equation (6) of arXiv 2301.11093 as printed: high reference at the noise.
  "printed": schedules.interpolated_cosine(
    image_size=512, ref_at_noise=256, ref_at_data=32
  ),
  # The lineage of the appendix's code, ours by default.
  "code": schedules.interpolated_cosine(image_size=512),
}
every_schedule = pytest.mark.parametrize("name", SCHEDULES)

# t: cosine, shift_64, printed, code.
TABLE = {
  0.0: (15, 10.841, 9.455, 13.614),
  0.01: (8.239, 4.080, 2.736, 6.811),
  0.10: (3.680, -0.479, -1.450, 1.878),
  0.25: (1.761, -2.398, -2.744, -0.665),
  0.50: (0, -4.159, -3.466, -3.466),
  0.75: (-1.761, -5.920, -4.187, -6.267),
  0.90: (-3.680, -7.839, -5.482, -8.809),
  0.99: (-8.239, -12.398, -9.667, -13.743),
  1.0: (-15, -19.159, -16.386, -20.545),
}
# At the probabilities 5, 25, 50, 75, 95 %, for t uniform.
QUANTILES = {
  "shift_64": (-9.23, -5.92, -4.16, -2.40, 0.91),
  "printed": (-6.67, -4.19, -3.47, -2.74, -0.27),
  "code": (-10.41, -6.27, -3.47, -0.66, 3.48),
}


def times():
  """Times over [0, 1], dense at both ends, exact in float32."""
  near = np.geomspace(1e-7, 0.4, 60)
  t = np.concatenate([[0], near, np.linspace(0.4, 0.6, 21), 1 - near, [1]])
  return np.sort(t.astype(np.float32))


def literal_logsnr(t, schedule):
  """Equations (1) and (2), typed from the paper, in float64."""
  t = np.asarray(t, np.float64)
  t_min = np.arctan(np.exp(-schedule.logsnr_max / 2))
  t_max = np.arctan(np.exp(-schedule.logsnr_min / 2))
  unshifted = -2 * np.log(np.tan(t_min + t * (t_max - t_min)))
  at_noise = np.log(schedule.ref_at_noise / schedule.image_size)
  at_data = np.log(schedule.ref_at_data / schedule.image_size)
  return unshifted + 2 * (t * at_noise + (1 - t) * at_data)


@pytest.mark.parametrize("t", TABLE)
def test_worked_values(t):
  values = [schedule.logsnr(t) for schedule in SCHEDULES.values()]
  np.testing.assert_allclose(values, TABLE[t], atol=6e-4)


@pytest.mark.parametrize("name", QUANTILES)
def test_worked_quantiles(name):
  # logsnr falls, so its 5 % quantile is where 95 % of the times lie below.
  t = 1 - np.array([0.05, 0.25, 0.50, 0.75, 0.95])
  values = SCHEDULES[name].logsnr(t)
  np.testing.assert_allclose(values, QUANTILES[name], atol=6e-3)


@every_schedule
def test_agrees_with_the_literal_formula_up_to_both_ends(name):
  schedule, t = SCHEDULES[name], times()
  values = schedule.logsnr(t)
  assert values.dtype == jnp.float32
  # Two units in the last place of a float32 between 16 and 32.
  np.testing.assert_allclose(values, literal_logsnr(t, schedule), atol=4e-6)
  np.testing.assert_allclose(jax.jit(schedule.logsnr)(t), values, atol=4e-6)


@every_schedule
def test_falls_strictly(name):
  t = np.linspace(0, 1, 1001)
  assert np.all(np.diff(SCHEDULES[name].logsnr(t)) < 0)


@every_schedule
def test_neg_slope_is_minus_the_derivative(name):
  schedule, t = SCHEDULES[name], times()
  slope = jax.vmap(jax.grad(schedule.logsnr))(t)
  np.testing.assert_allclose(schedule.neg_slope(t), -slope, rtol=1e-5)
  # And a central difference in float64, where it has no cancellation left.
  t, step = np.linspace(0.01, 0.99, 99), 1e-6
  after, before = (literal_logsnr(t + d, schedule) for d in (step, -step))
  difference = (after - before) / (2 * step)
  # Rounding t = 0.99 to float32 moves 1 - t by 6e-6 of itself.
  np.testing.assert_allclose(schedule.neg_slope(t), -difference, rtol=1e-5)


def test_neg_slope_at_the_middle_and_the_ends():
  # 4 (t_max - t_min) / sin(2u), worked in float64.
  values = SCHEDULES["cosine"].neg_slope(np.array([0, 0.5, 1]))
  np.testing.assert_allclose(values, [5676.1, 6.27876, 5676.1], rtol=1e-5)


@pytest.mark.parametrize(
  "ref_at_noise, ref_at_data, smallest",
  # Worked values; the first is the cosine.
  [(512, 512, 6.279), (256, 32, 2.120), (512, 32, 0.734)],
)
def test_smallest_slope(ref_at_noise, ref_at_data, smallest):
  schedule = schedules.interpolated_cosine(
    image_size=512, ref_at_noise=ref_at_noise, ref_at_data=ref_at_data
  )
  slope = schedule.neg_slope(np.linspace(0, 1, 1001)).min()
  np.testing.assert_allclose(slope, smallest, atol=6e-4)


@every_schedule
def test_time_is_the_inverse(name):
  schedule, t = SCHEDULES[name], times()
  # The smallest slope is 2.1, so an error of 4e-6 in logsnr is 2e-6 in time.
  back = schedule.time(schedule.logsnr(t))
  np.testing.assert_allclose(back, t, atol=2e-6)
  logsnr = np.linspace(*schedule.logsnr(np.array([1.0, 0.0])), 101)
  # Where times are spaced 6e-8 (near t = 1), the slope of -15 magnifies them.
  spacing = 6e-8 * schedule.neg_slope(schedule.time(logsnr))
  error = np.abs(schedule.logsnr(schedule.time(logsnr)) - logsnr)
  np.testing.assert_array_less(error, spacing + 4e-6)


def test_time_of_the_cosine_has_a_closed_form():
  # t = (atan(exp(-logsnr / 2)) - t_min) / (t_max - t_min), in float64.
  logsnr = np.linspace(-14, 14, 57)
  t_min, t_max = np.arctan(np.exp([-7.5, 7.5]))
  t = (np.arctan(np.exp(-logsnr / 2)) - t_min) / (t_max - t_min)
  np.testing.assert_allclose(SCHEDULES["cosine"].time(logsnr), t, atol=1e-6)


@every_schedule
def test_time_is_clipped_beyond_the_ends(name):
  t = SCHEDULES[name].time(np.array([[30.0], [-30.0]]))
  np.testing.assert_allclose(t, [[0], [1]], atol=1e-7)
  assert np.all((t >= 0) & (t <= 1))


def test_bounds_hold_before_the_shift():
  ends = SCHEDULES["shift_64"].logsnr(np.array([1.0, 0.0]))
  np.testing.assert_allclose(ends, [-19.16, 10.84], atol=6e-3)
  schedule = schedules.shifted_cosine(
    image_size=64, ref=32, logsnr_min=-10, logsnr_max=20
  )
  ends = schedule.logsnr(np.array([1.0, 0.0]))
  np.testing.assert_allclose(ends + 2 * math.log(2), [-10, 20], atol=4e-6)


def test_equal_references_are_no_shift():
  shifted = schedules.shifted_cosine(image_size=128, ref=128)
  assert shifted == schedules.cosine(image_size=128)
  interpolated = schedules.interpolated_cosine(
    image_size=128, ref_at_noise=32, ref_at_data=32
  )
  assert interpolated == schedules.shifted_cosine(image_size=128, ref=32)


def test_default_interpolation_is_the_papers_at_512():
  assert SCHEDULES["code"].ref_at_noise == 32
  assert SCHEDULES["code"].ref_at_data == 256


def test_shift_gives_the_reference_resolution_its_snr():
  # Means of k x k pixels keep a flat signal and divide the noise's variance by
  # k^2, so at 64x64 the pooled 512x512 image is on the cosine schedule.
  t, k = np.linspace(0.1, 0.9, 9), 512 // 64
  snr = np.exp(np.asarray(SCHEDULES["shift_64"].logsnr(t), np.float64))
  pooled = 1 / np.tan(np.pi * t / 2) ** 2
  # The clipping, which the closed form has not, moves t by up to 4e-4.
  np.testing.assert_allclose(snr * k**2, pooled, rtol=6e-3)


def test_not_monotone_is_refused():
  # At 512/16 = 32 times the derivative reaches +0.653 (worked value).
  with pytest.raises(ValueError, match="512.*16.*below 23.09"):
    schedules.interpolated_cosine(
      image_size=512, ref_at_noise=512, ref_at_data=16
    )
  # Falling by construction in the default direction.
  schedules.interpolated_cosine(image_size=512, ref_at_noise=1, ref_at_data=512)


@pytest.mark.parametrize(
  "logsnr_min, logsnr_max, limit",
  # (4 span / max sin 2u) / 2 exponentiated: 23.09 at +-15, e^pi unclipped;
  # one-sided bounds, where sin(2u) < 1 everywhere, by a dense grid below.
  [(-15, 15, 23.0881), (-60, 60, 23.1407), (2, 15, None), (-12, -3, None)],
)
def test_the_limit_of_monotonicity(logsnr_min, logsnr_max, limit):
  bounds = {"logsnr_min": logsnr_min, "logsnr_max": logsnr_max}
  if limit is None:
    plain = schedules.cosine(image_size=64, **bounds)
    t = np.linspace(0, 1, 100001)
    steepness = -np.diff(literal_logsnr(t, plain)).max() / 1e-5
    limit = math.exp(steepness / 2)
  just_below = schedules.interpolated_cosine(
    image_size=64, ref_at_noise=limit * 0.9995, ref_at_data=1, **bounds
  )
  assert np.diff(literal_logsnr(np.linspace(0, 1, 1001), just_below)).max() < 0
  with pytest.raises(ValueError, match=f"below {limit:.2f}"):
    schedules.interpolated_cosine(
      image_size=64, ref_at_noise=limit * 1.0005, ref_at_data=1, **bounds
    )


@pytest.mark.parametrize(
  "change, message",
  [
    ({"image_size": 0}, "image_size=0 "),
    ({"ref_at_noise": -32}, "ref_at_noise=-32 "),
    ({"ref_at_data": math.nan}, "ref_at_data=nan "),
    ({"logsnr_min": 15}, "logsnr_min=15 must be below logsnr_max=15"),
    ({"logsnr_max": -16}, "logsnr_min=-15.0 must be below logsnr_max=-16"),
    ({"logsnr_max": math.inf}, "logsnr_max=inf must be within -100 and 100"),
    ({"logsnr_min": -400}, "logsnr_min=-400 must be within -100 and 100"),
  ],
)
def test_bad_input_is_named(change, message):
  good = {"image_size": 64, "ref_at_noise": 32, "ref_at_data": 32}
  with pytest.raises(ValueError, match=message):
    schedules.Schedule(**good | change)


def test_any_shape_and_type_of_times():
  schedule = SCHEDULES["code"]
  assert schedule.logsnr(1).shape == ()
  assert schedule.neg_slope(jnp.ones((2, 3), jnp.bfloat16)).shape == (2, 3)
  assert schedule.neg_slope(jnp.ones((2, 3), jnp.bfloat16)).dtype == jnp.float32
  np.testing.assert_allclose(schedule.logsnr(1), TABLE[1.0][3], atol=6e-4)
