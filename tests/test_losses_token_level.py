# SPDX-License-Identifier: Apache-2.0
"""Maps of the per-token NLL against float64 closed forms and optax."""

import functools

import jax
from jax import test_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import integrate

import losses
from losses import logspace

NLL = np.float32([0, 1e-8, 1e-4, 0.1, 0.69, 1, 3, 10, 17, 50, 1e4])
GAMMAS = (0.0, 1e-7, 0.1, 0.5, 0.8, 0.999, 1 - 2e-5, 1.0)
# (gamma, min_weight) of the authors' example scripts, and p_0 derived from
# w(p_0) = p_0 / (gamma + (1 - gamma) p_0) = min_weight.
FLOORS = ((1e-7, 0.2, 2.5e-8), (0.1, 0.3, 0.0411), (0.8, 0.2, 0.1667))


def tailr64(nll, gamma):
  """The closed form in float64, by the exact p and 1 - p."""
  nll = np.float64(nll)
  m = -np.expm1(-nll)
  if gamma == 1:
    return m
  with np.errstate(divide="ignore"):
    near = -np.log1p(-(1 - gamma) * m)
    far = -np.logaddexp(np.log(gamma), np.log1p(-gamma) - nll)
  return np.where(m < 0.5, near, far) / (1 - gamma)


def weight64(nll, gamma):
  p = np.exp(-np.float64(nll))
  return p / (gamma + (1 - gamma) * p) if gamma else np.ones_like(p)


def slope(f, nll=NLL):
  return jax.vmap(jax.grad(f))(jnp.asarray(nll))


@pytest.mark.parametrize("gamma", GAMMAS)
def test_tailr_is_the_closed_form(gamma):
  gamma = float(np.float32(gamma))
  actual = losses.tailr(NLL, gamma=gamma)
  np.testing.assert_allclose(actual, tailr64(NLL, gamma), rtol=3e-6, atol=0)


@pytest.mark.parametrize("gamma", GAMMAS)
def test_gradient_of_tailr_is_its_weight(gamma):
  gamma = float(np.float32(gamma))
  actual = slope(functools.partial(losses.tailr, gamma=gamma))
  expected = weight64(NLL, gamma)
  np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-37)


# -log(gamma) / (1 - gamma), to the digits derived by hand.
@pytest.mark.parametrize(
  "gamma, bound", [(1e-7, 16.12), (0.1, 2.558), (0.5, 1.386), (0.8, 1.116)]
)
def test_bound_of_tailr(gamma, bound):
  loss = losses.tailr(np.float32([1e5, np.inf]), gamma=gamma)
  np.testing.assert_allclose(loss, bound, rtol=4e-4)


def test_limits_of_tailr_are_cross_entropy_and_smooth_accuracy():
  logits = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
  labels = np.arange(6) % 5
  nll = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
  np.testing.assert_array_equal(losses.tailr(nll, gamma=0.0), nll)
  p = jax.nn.softmax(logits)[np.arange(6), labels]
  np.testing.assert_allclose(losses.tailr(nll, gamma=1.0), 1 - p, atol=1e-6)
  np.testing.assert_allclose(losses.smooth_accuracy_loss(nll), 1 - p, atol=1e-6)


@pytest.mark.parametrize("gamma, floor, p_0", FLOORS)
def test_floor_is_the_antiderivative_of_the_clipped_weight(gamma, floor, p_0):
  f = functools.partial(losses.tailr, gamma=gamma, min_weight=floor)
  at = np.float32([0.1, 1, 2, 5, 20, 40])
  weight = np.maximum(weight64(at, np.float32(gamma)), floor)
  np.testing.assert_allclose(slope(f, at), weight, rtol=1e-5)
  for nll in at:
    clipped = integrate.quad(
      lambda u: max(weight64(u, gamma), floor), 0, nll, points=[-np.log(p_0)]
    )[0]
    np.testing.assert_allclose(f(nll), clipped, rtol=3e-6)
  # Where the floor begins: the weight of the pure loss is the floor there.
  np.testing.assert_allclose(weight64(-np.log(p_0), gamma), floor, rtol=2e-3)


@pytest.mark.parametrize("gamma", [0.0, 1e-12, 1e-8, 1e-3, 0.3])
def test_floor_of_one_is_the_cross_entropy(gamma):
  loss = losses.tailr(NLL, gamma=gamma, min_weight=1.0)
  np.testing.assert_allclose(loss, NLL, rtol=1e-6)


def test_derivative_in_the_floor():
  # At (gamma, w) = (.1, .3): above p_0 none, below it nll - nll_0.
  nll_0 = -np.log(0.3 * 0.1 / (1 - 0.3 * 0.9))
  by_floor = jax.grad(lambda w, nll: losses.tailr(nll, gamma=0.1, min_weight=w))
  assert by_floor(0.3, 1.0) == 0
  np.testing.assert_allclose(by_floor(0.3, 7.0), 7 - nll_0, rtol=1e-5)
  for gamma, floor in ((0.0, 0.2), (0.2, 0.0), (0.0, 0.0)):
    f = jax.grad(lambda w, g=gamma: losses.tailr(9.0, gamma=g, min_weight=w))
    assert np.isfinite(f(floor))


def test_infinite_nll_has_finite_gradients():
  for f in (
    losses.smooth_accuracy_loss,
    losses.focal,
    functools.partial(losses.tailr, gamma=0.2, min_weight=0.1),
    functools.partial(losses.generalized_cross_entropy, q=0.5),
  ):
    assert np.isfinite(jax.grad(f)(jnp.inf))
  # Of no tail it is that of the NLL.
  assert jax.grad(functools.partial(losses.tailr, gamma=0.0))(jnp.inf) == 1


def test_traced_gamma_is_differentiable_everywhere():
  for gamma in (0.0, 0.3, 1 - 5e-5, 1.0):
    for floor in (0.0, 0.2):
      by_gamma = jax.grad(
        lambda g, floor=floor: losses.tailr(
          NLL[3:8], gamma=g, min_weight=floor
        ).sum()
      )(gamma)
      assert np.isfinite(by_gamma), (gamma, floor)
  # d/dgamma at 1: L = m + c m^2 / 2 + ..., c = 1 - gamma, hence -m^2 / 2.
  by_gamma = jax.grad(lambda g: losses.tailr(1.0, gamma=g))(1.0)
  np.testing.assert_allclose(by_gamma, -((1 - np.exp(-1)) ** 2) / 2, rtol=1e-4)


@pytest.mark.parametrize("q", [0.0, 1e-6, 0.7, 1.0])
def test_generalized_cross_entropy_is_the_closed_form(q):
  q = float(np.float32(q))
  nll = np.float64(NLL)
  expected = -np.expm1(-q * nll) / q if q else nll
  actual = losses.generalized_cross_entropy(NLL, q=q)
  np.testing.assert_allclose(actual, expected, rtol=1e-6)
  f = functools.partial(losses.generalized_cross_entropy, q=q)
  np.testing.assert_allclose(slope(f), np.exp(-q * nll), rtol=1e-6, atol=1e-37)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
def test_focal_is_the_closed_form(gamma):
  nll = np.float64(NLL)
  m = -np.expm1(-nll)
  np.testing.assert_allclose(
    losses.focal(NLL, gamma=gamma), m**gamma * nll, rtol=2e-6, atol=1e-37
  )
  with np.errstate(divide="ignore", invalid="ignore"):
    expected = m**gamma + gamma * np.exp(-nll) * m ** (gamma - 1) * nll
  expected[0] = 0  # Of x^(1 + gamma) at 0; this code's choice at gamma = 0.
  actual = slope(functools.partial(losses.focal, gamma=gamma))
  np.testing.assert_allclose(actual, expected, rtol=3e-6, atol=1e-37)


def test_focal_of_two_classes_is_the_sigmoid_one_of_optax():
  logits = np.float32([[-3.0], [0.2], [4.0]])
  two = np.concatenate([logits, 0 * logits], axis=1)
  nll = optax.softmax_cross_entropy_with_integer_labels(two, np.zeros(3, int))
  expected = optax.losses.sigmoid_focal_loss(logits[:, 0], np.ones(3), gamma=2)
  # An nll of .018 from logits of 4 has five digits.
  np.testing.assert_allclose(losses.focal(nll), expected, rtol=5e-5)


def test_label_smoothing_is_that_of_one_hot_labels():
  rng = np.random.default_rng(1)
  logits = rng.normal(size=(7, 5)).astype(np.float32) * 3
  labels = rng.integers(0, 5, 7)
  one_hot = optax.smooth_labels(jax.nn.one_hot(labels, 5), 0.1)

  def ours(logits):
    nll = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    uniform_nll = losses.uniform_nll(logits)
    return losses.label_smoothing(nll, uniform_nll, smoothing=0.1).sum()

  def oracle(logits):
    return optax.softmax_cross_entropy(logits, one_hot).sum()

  a, b = (jax.value_and_grad(f)(logits) for f in (ours, oracle))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), a, b)


def test_classes_that_do_not_exist_get_no_smoothing():
  logits = np.float32([[1, 2, 3, 0]])
  expected = losses.uniform_nll(logits[:, :3])
  hidden = jnp.array([True, True, True, False])
  np.testing.assert_allclose(
    losses.uniform_nll(logits, where=hidden), expected, rtol=1e-6
  )
  masked = jnp.where(hidden[None], logits, -jnp.inf)
  value, gradient = jax.value_and_grad(lambda z: losses.uniform_nll(z).sum())(
    masked
  )
  np.testing.assert_allclose(value, expected[0], rtol=1e-6)
  # p - 1/3 on the classes that exist.
  p = np.exp(logits[0, :3]) / np.exp(logits[0, :3]).sum()
  np.testing.assert_allclose(gradient[0], [*(p - 1 / 3), 0], atol=1e-6)
  none = jnp.full((2, 3), -jnp.inf)
  value, gradient = jax.value_and_grad(lambda z: losses.uniform_nll(z).sum())(
    none
  )
  assert value == 0 and not gradient.any()


@pytest.mark.parametrize("tau", [0.5, 1.0])
def test_adjusted_nll_has_the_margins_of_the_paper(tau):
  z, prior = np.float32([0.3, -1, 2]), np.float32([0.7, 0.2, 0.1])
  adjusted = z + losses.logit_adjustment(prior, tau=tau)
  for t in range(3):
    ratio = (prior / prior[t]) ** tau * np.exp(z - z[t])
    expected = np.log1p(ratio.sum() - 1)
    actual = optax.softmax_cross_entropy_with_integer_labels(adjusted, t)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_counts_and_unseen_classes_are_priors():
  counts = losses.logit_adjustment(np.float32([30, 10, 0]))
  np.testing.assert_allclose(counts, np.log([0.75, 0.25, 1e-8]), rtol=1e-6)


@pytest.mark.parametrize(
  "f",
  [
    losses.smooth_accuracy_loss,
    functools.partial(losses.tailr, gamma=0.1),
    functools.partial(losses.tailr, gamma=1.0),
    functools.partial(losses.tailr, gamma=0.1, min_weight=0.3),
    functools.partial(losses.generalized_cross_entropy, q=0.7),
    losses.focal,
    losses.uniform_nll,
    lambda nll: losses.label_smoothing(nll, nll**2, smoothing=0.2),
  ],
)
def test_second_derivatives(f):
  with jax.enable_x64(True):
    nll = jnp.array([0.01, 0.3, 1.0, 2.5, 6.0], jnp.float64)
    test_util.check_grads(f, (nll,), order=2, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
  "call, message",
  [
    (lambda: losses.tailr(1.0, gamma=1.5), "gamma has 1.5.*0, 1"),
    (lambda: losses.tailr(1.0, gamma=-0.1), "gamma has -0.1"),
    (lambda: losses.tailr(1.0, gamma=0.1, min_weight=2.0), "min_weight has 2"),
    (lambda: losses.tailr(jnp.arange(3), gamma=0.1), "nll must be floating"),
    (lambda: losses.tailr(1.0, gamma="a half"), "gamma is 'a half', not"),
    (
      lambda: losses.tailr(jnp.ones(2), gamma=jnp.array([[0.1], [0.2]])),
      r"gamma has shape \(2, 1\), which does not broadcast to \(2,\)",
    ),
    (lambda: losses.tailr(jnp.log(0.5), gamma=0.1), "nll has -0.69.*-log p"),
    (lambda: losses.focal(1.0, gamma=-1.0), "gamma has -1.0.*0, inf"),
    (lambda: losses.generalized_cross_entropy(1.0, q=1.2), "q has 1.2"),
    (
      lambda: losses.label_smoothing(
        jnp.ones(3), jnp.ones((3, 1)), smoothing=0.1
      ),
      r"uniform_nll has shape \(3, 1\), not \(3,\) of nll",
    ),
    (
      lambda: losses.label_smoothing(1.0, 1.0, smoothing=1.1),
      "smoothing has 1.1",
    ),
    (lambda: losses.uniform_nll(jnp.float32(1.0)), r"logits has shape \(\)"),
    (lambda: losses.logit_adjustment(jnp.array([-1.0, 2])), "prior has -1"),
    (lambda: losses.logit_adjustment(jnp.zeros(2)), "sum of prior has 0.0"),
    (lambda: losses.logit_adjustment(jnp.ones(2), floor=0.0), "floor has 0.0"),
    (lambda: losses.logit_adjustment(jnp.ones(2), tau=-1.0), "tau has -1.0"),
  ],
)
def test_mistakes_are_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()


@pytest.mark.parametrize(
  "x",
  [[-20.0, -30.0], [-1e-3, 2.0], [1e4, 0.0], [5.0, -np.inf], [-np.inf] * 2, []],
)
def test_log1p_sum_exp(x):
  expected = np.logaddexp.reduce([0.0, *x]) if np.max([0, *x]) > 0 else None
  if expected is None:  # All small: log1p keeps what logaddexp loses.
    expected = np.log1p(np.sum(np.exp(x)))
  x = jnp.float32(np.array(x))
  value, gradient = jax.value_and_grad(logspace.log1p_sum_exp)(x)
  np.testing.assert_allclose(value, expected, rtol=1e-6)
  with np.errstate(invalid="ignore"):
    exact = np.exp(np.float64(x) - np.float64(value))
  np.testing.assert_allclose(gradient, exact, rtol=3e-4)
  hessian = jax.hessian(logspace.log1p_sum_exp)(x)
  exact = np.diag(gradient) - np.outer(gradient, gradient)
  np.testing.assert_allclose(hessian, exact, atol=1e-6)
