# SPDX-License-Identifier: Apache-2.0
"""KL and symmetric KL against float64 SciPy, optax and closed forms."""

import functools

import jax
from jax import test_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special

import losses

RNG = np.random.default_rng(0)
S, T = RNG.normal(scale=2, size=(2, 4, 5))  # float64 [B, C]
KL = (losses.softmax_kl, losses.symmetric_kl)
MULTILABEL = (
  losses.multilabel_symmetric_kl,
  losses.mean_multilabel_symmetric_kl,
)
EVERY = KL + MULTILABEL


def kl(s, t):
  return special.rel_entr(special.softmax(s, -1), special.softmax(t, -1)).sum(
    -1
  )


def binary_kl(s, t):
  """KL of each binary class of its own, from its probability."""
  p, q = special.expit(s), special.expit(t)
  return special.rel_entr(p, q) + special.rel_entr(1 - p, 1 - q)


@functools.cache
def compiled(f, argnums=None):
  """f, or the gradient of its sum, compiled once for all tests."""

  def values(*args, **kwargs):
    return f(*args, **kwargs)

  def total(*args, **kwargs):
    return jnp.sum(f(*args, **kwargs))

  g = values if argnums is None else jax.grad(total, argnums)
  return jax.jit(g, static_argnames="axis")


def gradient(f, *args, argnums=0, **kwargs):
  return compiled(f, argnums)(*args, **kwargs)


def test_softmax_divergences_are_those_of_scipy_and_optax():
  s, t = jnp.float32(S), jnp.float32(T)
  np.testing.assert_allclose(losses.softmax_kl(s, t), kl(S, T), rtol=1e-5)
  np.testing.assert_allclose(
    losses.softmax_kl(s, t),
    optax.losses.kl_divergence(jax.nn.log_softmax(t), jax.nn.softmax(s)),
    rtol=1e-5,
  )
  np.testing.assert_allclose(
    losses.symmetric_kl(s, t), kl(S, T) + kl(T, S), rtol=1e-5
  )


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_multilabel_is_the_sum_of_binary_kls(scale):
  expected = binary_kl(scale * S, scale * T) + binary_kl(scale * T, scale * S)
  result = losses.multilabel_symmetric_kl(S, T, scale=scale)
  np.testing.assert_allclose(result, expected.sum(-1), rtol=1e-5)
  result = losses.mean_multilabel_symmetric_kl(S, T, scale=scale)
  np.testing.assert_allclose(result, expected.mean(-1), rtol=1e-5)


def test_multilabel_golden_value_and_gradient():
  # Sum (sigmoid(s) - sigmoid(t)) (s - t) and its derivative in float64, worked
  # apart from this code; the formula is of kexue.fm post 9039.
  s, t = jnp.array([1.0, -1.0]), jnp.array([0.5, 0.2])
  value, slope = jax.value_and_grad(losses.multilabel_symmetric_kl)(s, t)
  np.testing.assert_allclose(value, 0.391371, atol=1e-6)
  np.testing.assert_allclose(slope, [0.206905, -0.516827], atol=1e-6)


def test_gradients_are_the_closed_forms():
  p, q = special.softmax(S, -1), special.softmax(T, -1)
  d = S - T
  centred = d - (p * d).sum(-1, keepdims=True)
  assert_close = functools.partial(np.testing.assert_allclose, atol=1e-5)
  assert_close(gradient(losses.symmetric_kl, S, T), p * centred + p - q)
  assert_close(gradient(losses.softmax_kl, S, T), p * centred)
  assert_close(gradient(losses.softmax_kl, S, T, argnums=1), q - p)
  a = 2.0
  u, v = special.expit(a * S), special.expit(a * T)
  expected = a * (u - v) + a**2 * u * (1 - u) * d
  result = gradient(losses.multilabel_symmetric_kl, S, T, scale=a)
  assert_close(result, expected)


@pytest.mark.parametrize("f", EVERY)
def test_derivatives_of_second_order(f):
  with jax.enable_x64(True):
    s, t = jnp.asarray(S[0]), jnp.asarray(T[0])
    f = jax.jit(f)
    test_util.check_grads(f, (s, t), order=2, modes=["rev"])
    test_util.check_grads(f, (s, s), order=2, modes=["rev"])  # where both agree


def test_hessian_where_both_agree_is_twice_the_fisher_information():
  s = jnp.float32(S[0])
  p = special.softmax(S[0])
  hessian = jax.jit(jax.hessian(losses.symmetric_kl))(s, s)
  fisher = np.diag(p) - np.outer(p, p)
  np.testing.assert_allclose(hessian, 2 * fisher, atol=1e-6)
  np.testing.assert_allclose(
    jax.jit(jax.hessian(losses.softmax_kl, 1))(s, s), fisher, atol=1e-6
  )


@pytest.mark.parametrize("f", (losses.symmetric_kl, *MULTILABEL))
def test_symmetric_and_zero_only_where_both_agree(f):
  value = compiled(f)
  np.testing.assert_allclose(value(S, T), value(T, S), rtol=1e-6)
  assert (value(S, T) > 0).all()
  np.testing.assert_array_equal(value(S, S), 0)
  np.testing.assert_array_equal(gradient(f, S, S), 0)


def test_near_agreement_keeps_its_digits():
  s = np.float32(S)
  t = s + np.float32(1e-3) * np.float32(T)
  wide_s, wide_t = np.float64(s), np.float64(t)
  expected = kl(wide_s, wide_t) + kl(wide_t, wide_s)  # about 1e-6
  np.testing.assert_allclose(losses.symmetric_kl(s, t), expected, rtol=2e-3)
  np.testing.assert_allclose(losses.softmax_kl(s, t), kl(wide_s, wide_t), 2e-3)
  slope = gradient(losses.softmax_kl, s, t, argnums=1)
  difference = special.softmax(wide_t, -1) - special.softmax(wide_s, -1)
  np.testing.assert_allclose(slope, difference, atol=2e-7)
  # Also where sigmoid rounds to 1 and the difference of the two to 0.
  s, t = jnp.array([20.0]), jnp.array([21.0])
  expected = special.expit(-20.0) - special.expit(-21.0)
  np.testing.assert_allclose(
    losses.multilabel_symmetric_kl(s, t), expected, rtol=1e-5
  )


def test_only_softmax_ignores_a_common_shift():
  for f in KL:
    f = compiled(f)
    np.testing.assert_allclose(f(S + 3.0, T - 1.0), f(S, T), rtol=1e-5)
  for f in MULTILABEL:
    f = compiled(f)
    assert (abs(f(S + 3.0, T) - f(S, T)) > 0.1).all()


@pytest.mark.parametrize("f", EVERY)
def test_absent_classes_are_as_if_deleted(f):
  kept = np.array([True, False, True, True, False])
  mask = np.broadcast_to(kept, S.shape)
  s, t = jnp.float32(S), jnp.float32(T)
  short_s, short_t = jnp.float32(S[:, kept]), jnp.float32(T[:, kept])
  expected = compiled(f)(short_s, short_t)
  slope = np.zeros_like(S)
  slope[:, kept] = gradient(f, short_s, short_t)
  hidden = jnp.where(mask, s, -jnp.inf), jnp.where(mask, t, -jnp.inf)
  one_sided = jnp.where(mask, s, -jnp.inf), t
  garbage = jnp.where(mask, s, jnp.nan), jnp.where(mask, t, jnp.nan)
  for pair, where in (
    ((s, t), mask),
    (garbage, kept),
    (hidden, None),
    (one_sided, None),
  ):
    result = compiled(f)(*pair, where=where)
    np.testing.assert_allclose(result, expected, rtol=1e-6)
    np.testing.assert_allclose(
      gradient(f, *pair, where=where), slope, atol=1e-6
    )


@pytest.mark.parametrize("f", EVERY)
def test_finite_at_the_edges(f):
  s = jnp.array([[1e4, -1e4, 0.0], [-jnp.inf] * 3, [-jnp.inf, -jnp.inf, 1e4]])
  t = jnp.array([[-1e4, 1e4, 0.0], [-jnp.inf] * 3, [-jnp.inf, -jnp.inf, -3.0]])
  values = compiled(f)(s, t)
  assert jnp.isfinite(values).all()
  assert values[0] > 1e3
  assert values[1] == 0
  for argnums in (0, 1):
    assert jnp.isfinite(gradient(f, s, t, argnums=argnums)).all()
  for one in KL:
    assert compiled(one)(s, t)[2] == 0  # a single class


@pytest.mark.parametrize("f", MULTILABEL)
def test_the_least_number_is_a_mask_at_any_scale(f):
  mask = jnp.finfo(jnp.float32).min
  s, t = jnp.array([1.0, mask]), jnp.array([0.0, mask])
  hidden = f(s.at[1].set(-jnp.inf), t.at[1].set(-jnp.inf), scale=2.0)
  count = 2 if f is losses.mean_multilabel_symmetric_kl else 1
  found, slope = jax.value_and_grad(lambda s: f(s, t, scale=2.0))(s)
  np.testing.assert_allclose(found * count, hidden, rtol=1e-6)
  assert jnp.isfinite(slope).all()


@pytest.mark.parametrize("f", EVERY)
def test_nan_is_not_hidden(f):
  assert jnp.isnan(f(jnp.array([0.0, jnp.nan]), jnp.zeros(2)))


def test_the_kl_has_no_negative_value():
  """Nor NaN, from agreement to where one side has probability 0."""
  steps = np.float32([0, 1e-7, 1e-5, 1e-2, 0.9, 1, 1.1, 30, 300, 1e4])
  s = np.tile(np.float32(S[:1]), (len(steps), 1))
  t = s + steps[:, None] * np.float32(T[:1])
  for pair in ((s, t), (t, s)):
    result = losses.softmax_kl(*pair)
    assert (result >= 0).all() and result[0] == 0
    log_p, log_q = (special.log_softmax(np.float64(z), -1) for z in pair)
    expected = (np.exp(log_p) * (log_p - log_q)).sum(-1)
    np.testing.assert_allclose(result[3:], expected[3:], rtol=1e-4)
    for argnums in (0, 1):
      slope = gradient(losses.softmax_kl, *pair, argnums=argnums)
      assert jnp.isfinite(slope).all()


def test_a_single_class():
  # One class is a binary decision of its own, but a certain softmax.
  s, t = S[:, :1], T[:, :1]
  expected = (binary_kl(s, t) + binary_kl(t, s))[:, 0]
  for f in MULTILABEL:
    np.testing.assert_allclose(f(s, t), expected, rtol=1e-5)
  for f in KL:
    np.testing.assert_array_equal(f(s, t), 0)
    np.testing.assert_array_equal(jax.grad(lambda s, f=f: f(s, t).sum())(s), 0)


def test_several_axes_are_one():
  s, t = RNG.normal(size=(2, 3, 2, 4, 4))
  where = np.triu(np.ones((4, 4), bool))
  for f in MULTILABEL:
    f = compiled(f)
    np.testing.assert_allclose(
      f(s, t, where=where, axis=(-2, -1)),
      f(s[..., where], t[..., where]),
      rtol=1e-5,
    )


def test_mistakes_are_named():
  with pytest.raises(ValueError, match=r"logits2 .*\(4, 4\), not \(4, 5\)"):
    losses.symmetric_kl(S, T[:, :4])
  with pytest.raises(ValueError, match="logits1 must be floating point"):
    losses.softmax_kl(np.arange(3), np.arange(3))
  with pytest.raises(ValueError, match="where must be boolean"):
    losses.symmetric_kl(S, T, where=np.ones(5, int))
  with pytest.raises(ValueError, match="scale has -1"):
    losses.multilabel_symmetric_kl(S, T, scale=-1.0)
  with pytest.raises(ValueError, match=r"scale has shape \(4,\)"):
    losses.multilabel_symmetric_kl(S, T, scale=np.ones(4))
