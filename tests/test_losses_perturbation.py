# SPDX-License-Identifier: Apache-2.0
"""Adversarial perturbations against closed forms of linear models.

For logits x W the gradient of KL(p || softmax((x + d) W)) on d is W (q - p),
and its Hessian at d = 0 is W (diag p - p p') W'.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

import losses

RNG = np.random.default_rng(1)
B, N, D, C = 3, 2, 4, 5
X = RNG.normal(size=(B, N, D))
W = RNG.normal(size=(N * D, C))
HALF = W / 2
KEY = jax.random.key(3)


def logits(x, weights=W):
  return x.reshape(x.shape[0], -1) @ jnp.asarray(weights, x.dtype)


def norms(r):
  return np.linalg.norm(np.asarray(r).reshape(r.shape[0], -1), axis=-1)


def unit(v):
  """Of each row [B, N * D], in float64."""
  return v / np.linalg.norm(v, axis=-1, keepdims=True)


def test_fgm_of_a_linear_loss_is_its_unit_gradient():
  slope = RNG.normal(size=(B, N, D))
  slope[1] *= 1e-30  # its squares are 0 in float32
  slope[2] = 0
  expected = unit(slope.reshape(B, -1)[:2]).reshape(2, N, D)
  r = losses.fgm_perturbation(
    lambda x: jnp.sum(jnp.float32(slope) * x, axis=(1, 2)), X, epsilon=0.3
  )
  np.testing.assert_allclose(r[:2], 0.3 * expected, rtol=1e-5)
  np.testing.assert_array_equal(r[2], 0)


def test_fgm_norm_over_an_embedding_matrix():
  slope = jnp.array([[3.0, 0.0], [0.0, 4.0]])
  r = losses.fgm_perturbation(
    lambda matrix: jnp.sum(slope * matrix), slope, norm_axes=(0, 1)
  )
  np.testing.assert_allclose(r, slope / 5, rtol=1e-6)
  per_row = losses.fgm_perturbation(
    lambda matrix: jnp.sum(slope * matrix), slope
  )
  np.testing.assert_allclose(per_row, [[1, 0], [0, 1]], rtol=1e-6)


def test_fgm_raises_the_loss_and_has_no_gradient():
  labels = jnp.array([0, 2, 4])

  def nll(x):
    log_p = jax.nn.log_softmax(logits(x))
    return -jnp.take_along_axis(log_p, labels[:, None], axis=-1)[:, 0]

  x = jnp.float32(X)
  r = losses.fgm_perturbation(nll, x, epsilon=0.1)
  # Convex in x: the rise is at least the first-order one, epsilon |g|.
  slope = jax.grad(lambda x: nll(x).sum())(x)
  assert (nll(x + r) - nll(x) >= 0.1 * norms(slope) - 1e-5).all()
  through = jax.grad(lambda x: losses.fgm_perturbation(nll, x).sum())(x)
  np.testing.assert_array_equal(through, 0)


def test_one_iteration_is_the_gradient_at_a_random_step():
  xi, epsilon = 10.0, 0.7
  noise = np.float64(jax.random.normal(KEY, X.shape)).reshape(B, -1)
  flat = X.reshape(B, -1)
  p = special.softmax(flat @ W, -1)
  q = special.softmax((flat + xi * unit(noise)) @ W, -1)
  expected = epsilon * unit((q - p) @ W.T)
  r = losses.virtual_adversarial_perturbation(
    logits, X, KEY, epsilon=epsilon, xi=xi
  )
  np.testing.assert_allclose(r.reshape(B, -1), expected, atol=1e-5)
  # Without an iteration, the noise itself.
  r = losses.virtual_adversarial_perturbation(logits, X, KEY, num_iterations=0)
  np.testing.assert_allclose(r.reshape(B, -1), unit(noise), atol=1e-6)


def fisher(kind, weights=W):
  """The matrix [B, C, C] in the Hessian W (...) W' of the divergence at 0."""
  z = X.reshape(B, -1) @ weights
  if kind == "softmax":
    p = special.softmax(z, -1)
    return np.eye(C) * p[:, None] - p[:, None] * p[..., None]
  p = special.expit(z)
  return 2 * np.eye(C) * (p * (1 - p))[:, None]


@pytest.mark.parametrize(
  "kind, divergence",
  [
    ("softmax", losses.softmax_kl),
    ("multilabel", losses.multilabel_symmetric_kl),
  ],
)
def test_many_small_steps_find_the_top_eigenvector(kind, divergence):
  values, vectors = np.linalg.eigh(W @ fisher(kind) @ W.T)
  top, ratio = vectors[..., -1], values[:, -2] / values[:, -1]
  assert (ratio < 0.5).all()  # or the iterations would not do

  def both(x, key):
    settings = dict(xi=1e-4, num_iterations=15, divergence=divergence)
    return (
      losses.virtual_adversarial_perturbation(logits, x, key, **settings),
      losses.virtual_adversarial_loss(logits, x, key, epsilon=1e-3, **settings),
    )

  with jax.enable_x64(True):
    r, loss = jax.jit(both)(jnp.asarray(X), KEY)
  np.testing.assert_allclose(norms(r), 1, rtol=1e-6)
  cosine = (np.asarray(r).reshape(B, -1) * top).sum(-1)
  np.testing.assert_allclose(abs(cosine), 1, atol=1e-3)
  # The loss is epsilon^2/2 times the top eigenvalue, to first order.
  np.testing.assert_allclose(loss, 1e-6 / 2 * values[:, -1], rtol=1e-2)


@pytest.mark.parametrize(
  "xi, worst", [(1e-4, 0.99), (1e-3, 0.999), (1e-2, 0.999)]
)
def test_useful_steps_in_float32(xi, worst):
  """Against the exact limit of xi -> 0: the Hessian times the noise."""
  noise = np.float64(jax.random.normal(KEY, X.shape)).reshape(B, -1)
  # (W * 1/2) keeps the prediction away from certainty, where the Hessian is 0.
  exact = np.einsum(
    "bij,bj->bi", HALF @ fisher("softmax", HALF) @ HALF.T, noise
  )
  apply_fn = functools.partial(logits, weights=HALF)
  r = losses.virtual_adversarial_perturbation(
    apply_fn, jnp.float32(X), KEY, xi=xi
  )
  cosine = (np.asarray(r).reshape(B, -1) * unit(exact)).sum(-1)
  assert cosine.min() > worst


def test_hessian_of_the_loss_is_that_of_the_perturbed_prediction():
  """With r and p(x) constant: that of logsumexp, W (diag q - q q') W'."""

  def total(x):
    return losses.virtual_adversarial_loss(logits, x, KEY, epsilon=0.5).sum()

  with jax.enable_x64(True):
    x = jnp.asarray(X)
    r = losses.virtual_adversarial_perturbation(logits, x, KEY, epsilon=0.5)
    hessian = jax.jit(jax.hessian(total))(x)
  q = special.softmax(np.asarray(x + r).reshape(B, -1) @ W, -1)
  of_logits = np.eye(C) * q[:, None] - q[:, None] * q[..., None]
  expected = np.zeros((B, N * D, B, N * D))
  expected[range(B), :, range(B)] = W @ of_logits @ W.T
  hessian = np.reshape(hessian, expected.shape)
  np.testing.assert_allclose(hessian, expected, atol=1e-10)


def test_loss_gradient_takes_the_step_and_the_clean_prediction_as_constants():
  x, weights = jnp.float32(X), jnp.float32(W)

  @jax.jit
  @functools.partial(jax.value_and_grad, argnums=(0, 1))
  def loss(weights, x):
    return losses.virtual_adversarial_loss(
      functools.partial(logits, weights=weights), x, KEY, epsilon=0.5
    ).sum()

  r = losses.virtual_adversarial_perturbation(logits, x, KEY, epsilon=0.5)
  flat = np.float64(x + r).reshape(B, -1)
  p = special.softmax(X.reshape(B, -1) @ W, -1)
  q = special.softmax(flat @ W, -1)
  value, (on_weights, on_x) = loss(weights, x)
  np.testing.assert_allclose(value, special.rel_entr(p, q).sum(), rtol=1e-4)
  np.testing.assert_allclose(on_weights, flat.T @ (q - p), atol=1e-5)
  expected = ((q - p) @ W.T).reshape(X.shape)
  np.testing.assert_allclose(on_x, expected, atol=1e-5)


def test_scores_of_spans_and_an_embedding_matrix():
  matrix = jnp.float32(RNG.normal(size=(7, 4)))
  tokens = jnp.array([[0, 3, 5], [6, 6, 1]])

  def scores(matrix):
    x = matrix[tokens]
    return losses.global_pointer_scores(x, x)[:, None]  # [B, heads, n, n]

  divergence = functools.partial(
    losses.multilabel_symmetric_kl,
    where=losses.span_mask(jnp.ones(3, bool)),
    axis=(-3, -2, -1),
  )
  settings = dict(divergence=divergence, norm_axes=(0, 1), epsilon=0.5)

  @jax.jit
  def both(matrix):
    return (
      losses.virtual_adversarial_perturbation(scores, matrix, KEY, **settings),
      losses.virtual_adversarial_loss(scores, matrix, KEY, **settings),
    )

  r, loss = both(matrix)
  np.testing.assert_allclose(np.linalg.norm(r), 0.5, rtol=1e-5)
  np.testing.assert_array_equal(r[jnp.array([2, 4])], 0)  # not in the texts
  assert loss.shape == (2,)
  assert (loss > 0).all()


@pytest.mark.parametrize("scale", [0.0, 1e4])
def test_no_nan_where_the_gradient_is_zero(scale):
  """A constant model, and one whose probabilities are 0 and 1."""

  def apply_fn(x):
    return scale * logits(x)

  def value(x):
    r = losses.virtual_adversarial_perturbation(apply_fn, x, KEY)
    loss = losses.virtual_adversarial_loss(apply_fn, x, KEY)
    return loss.sum(), (loss, r)

  slope, (loss, r) = jax.jit(jax.grad(value, has_aux=True))(jnp.float32(X))
  assert all(jnp.isfinite(array).all() for array in (slope, loss, r))
  if scale == 0:
    np.testing.assert_array_equal(loss, 0)
    np.testing.assert_array_equal(r, 0)


def test_no_step_no_loss():
  loss = losses.virtual_adversarial_loss(logits, X, KEY, epsilon=0.0)
  np.testing.assert_array_equal(loss, 0)


def test_mistakes_are_named():
  with pytest.raises(ValueError, match="embeddings must be floating point"):
    losses.fgm_perturbation(jnp.sum, np.arange(6).reshape(2, 3))
  with pytest.raises(ValueError, match="epsilon has -1"):
    losses.fgm_perturbation(jnp.sum, X, epsilon=-1.0)
  with pytest.raises(ValueError, match="xi has 0"):
    losses.virtual_adversarial_loss(logits, X, KEY, xi=0.0)
  with pytest.raises(ValueError, match="xi has 9.99.*e-07, which is outside"):
    losses.virtual_adversarial_loss(logits, X, KEY, xi=1e-6)
  for number in (-1, 1.0):
    with pytest.raises(ValueError, match=f"num_iterations={number} must be"):
      losses.virtual_adversarial_loss(logits, X, KEY, num_iterations=number)
  # [4] would be taken along the last axis.
  with pytest.raises(ValueError, match=r"epsilon has shape \(4,\)"):
    losses.fgm_perturbation(jnp.sum, X, epsilon=np.ones(4))
