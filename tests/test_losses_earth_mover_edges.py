# SPDX-License-Identifier: Apache-2.0
"""EMO at the edges: masks, missing classes, clamps, mistakes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special
import test_losses_earth_mover as ordinary

import losses

Z, E, TAU = ordinary.Z, ordinary.E, ordinary.TAU
random_problem, terms64 = ordinary.random_problem, ordinary.terms64


def test_ratio_is_clamped_where_tokens_share_a_vector():
  nll, emd = jnp.array([2.0, 0.0]), jnp.array([0.0, 0.0])
  for mode in (losses.emo_mode1, losses.emo_mode2):
    value, gradient = jax.value_and_grad(
      lambda n, e, mode=mode: mode(n, e, ratio_max=50.0).sum(), (0, 1)
    )(nll, emd)
    assert np.isfinite(value) and np.isfinite(gradient).all()
    assert np.max(gradient) <= 50


def test_tokens_left_out_and_rows_of_zeros():
  logits, labels, embedding = random_problem(6)
  embedding[3] = 0
  labels[:2] = 3, -100
  logits[1] = np.nan
  keep = jnp.arange(6) != 1

  def terms(logits):
    nll, emd = losses.emo_terms(logits, labels, embedding, where=keep)
    return nll.sum() + emd.sum(), (nll, emd)

  gradient, (nll, emd) = jax.grad(terms, has_aux=True)(logits)
  assert nll[1] == emd[1] == 0 and not gradient[1].any()
  assert np.isfinite(gradient).all()
  rest = np.delete(np.arange(6), 1)
  nll64, emd64 = terms64(logits[rest], labels[rest], embedding)
  np.testing.assert_allclose(nll[rest], nll64, rtol=1e-5)
  np.testing.assert_allclose(emd[rest], emd64, rtol=1e-5)


@pytest.mark.parametrize("targets", ["labels", "one-hot", "soft"])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_finite_with_masked_classes_and_large_logits(targets, scale):
  logits, labels, embedding = random_problem(7)
  labels[:] = 0
  logits = jnp.asarray(logits * scale).at[:, 5:].set(-jnp.inf)
  soft = jnp.zeros((6, 9)).at[:, 0].set(1.0)
  if targets == "soft":
    soft = soft.at[:, :5].set(0.2)

  def total(logits):
    if targets == "labels":
      nll, emd = losses.emo_terms(logits, labels, embedding)
    else:
      nll, emd = losses.soft_emo_terms(logits, soft, embedding)
    mixed = losses.emo_mode1(nll, emd) + losses.emo_mode2(nll, emd)
    return (mixed + nll + emd).sum()

  value, gradient = jax.value_and_grad(total)(logits)
  assert np.isfinite(value) and np.isfinite(gradient).all()
  assert not gradient[:, 5:].any()


def test_one_class():
  value, gradient = jax.value_and_grad(
    lambda z: sum(losses.emo_terms(z, jnp.array([0]), jnp.ones((1, 2)))).sum()
  )(jnp.array([[3.0]]))
  assert value == 0 and not gradient.any()


def test_embedding_and_targets_are_constants():
  logits, labels, embedding = random_problem(8)
  soft = np.float32(np.full((6, 9), 1 / 9))
  gradients = jax.grad(
    lambda e, tau: (
      losses.emo_terms(logits, labels, e).emd.sum()
      + sum(losses.soft_emo_terms(logits, tau, e)).sum()
    ),
    (0, 1),
  )(embedding, soft)
  assert not any(np.any(g) for g in gradients)


@pytest.mark.parametrize(
  "call, message",
  [
    (lambda: losses.emo_terms(Z, 7, E), "labels has 7.*4 classes"),
    (lambda: losses.emo_terms(Z, 0.0, E), "labels must be integers"),
    (lambda: losses.emo_terms(jnp.arange(4), 0, E), "logits must be floating"),
    (lambda: losses.emo_terms(Z, 0, E[:3]), r"embedding has shape \(3, 2\)"),
    (lambda: losses.emo_terms(Z[None], 0, E), r"labels has shape \(\)"),
    (lambda: losses.soft_emo_terms(Z, TAU[:2], E), r"targets has shape \(2,\)"),
    (lambda: losses.soft_emo_terms(Z, 2 * TAU, E), "targets has 1.39.*0, 1"),
    (lambda: losses.emo_mode1(Z**2, Z[:2]), r"emd has shape \(2,\)"),
  ],
)
def test_mistakes_are_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()


@pytest.mark.parametrize("mode", [losses.emo_mode1, losses.emo_mode2])
def test_ratio_is_clamped_at_its_maximum(mode):
  # Ratios of 4 and of 1/4: one of the modes sees each.
  nll, emd = jnp.array([2.0, 0.5]), jnp.array([0.5, 2.0])
  gradients = jax.grad(lambda n, e: mode(n, e, ratio_max=3.0).sum(), (0, 1))(
    nll, emd
  )
  weight, index = (
    (2 * gradients[1], 0)
    if mode is losses.emo_mode1
    else (
      gradients[0],
      1,
    )
  )
  np.testing.assert_allclose(weight[index], 3, rtol=1e-6)
  np.testing.assert_allclose(weight[1 - index], 0.25, rtol=1e-6)


def value_and_gradient(logits, label):
  def total(z):
    terms = losses.emo_terms(z, label, E)
    return terms.nll + terms.emd, terms

  return jax.jit(jax.value_and_grad(total, has_aux=True))(jnp.asarray(logits))


def test_classes_that_do_not_exist():
  # The label's own: impossible. All: nothing to lose.
  (_, terms), gradient = value_and_gradient([-np.inf, 1.0, 0.0, -np.inf], 0)
  assert terms.nll == np.inf and np.isfinite(gradient).all()
  q = special.softmax([1.0, 0.0])
  np.testing.assert_allclose(terms.emd, q @ [0.4, 1.0], rtol=1e-6)
  (_, terms), gradient = value_and_gradient([-np.inf] * 4, 0)
  assert terms == (0, 0) and not gradient.any()

  soft = jax.jit(losses.soft_emo_terms)
  assert soft(jnp.array([-jnp.inf, 1, 0, 0]), TAU, E).nll == np.inf
  assert soft(jnp.full(4, -jnp.inf), TAU, E) == (0, 0)


@pytest.mark.parametrize("label", [-100, -1, 4])
def test_labels_that_are_no_classes_show_under_jit(label):
  (_, terms), _ = value_and_gradient(Z, label)
  assert np.isnan(terms).all()


def test_small_integers_and_many_classes():
  z, e = np.arange(300, dtype=np.float32) / 100, np.eye(300, dtype=np.float32)
  expected = losses.emo_terms(z, np.int32(5), e)
  for dtype in (np.int8, np.uint8):
    assert losses.emo_terms(z, dtype(5), e) == expected


def test_rows_of_zeros_in_the_bound():
  logits, _, embedding = random_problem(10)
  embedding[2] = 0
  targets = np.full((6, 9), 1 / 9, np.float32)
  bound = losses.soft_emo_terms(logits, targets, embedding).emd
  p = special.softmax(np.float64(logits), axis=1)
  expected = (p @ ordinary.costs64(embedding) * targets).sum(1)
  np.testing.assert_allclose(bound, expected, rtol=1e-5)


def test_length_of_a_vector_does_not_matter():
  logits, labels, embedding = random_problem(11)
  expected = losses.emo_terms(logits, labels, embedding).emd
  for length in (1e-25, 1e25):
    emd = losses.emo_terms(logits, labels, embedding * np.float32(length)).emd
    np.testing.assert_allclose(emd, expected, rtol=1e-5)


def test_gradient_vanishes_on_confident_mistakes():
  # Why EMO has maximum likelihood mixed in (kexue.fm post 9797).
  wrong = jnp.array([0.0, 20.0, 0.0, 0.0])
  gradient = jax.grad(lambda z: losses.emo_terms(z, 0, E).emd)(wrong)
  assert np.abs(gradient).max() < 1e-7
  gradient = jax.grad(lambda z: losses.emo_terms(z, 0, E).nll)(wrong)
  np.testing.assert_allclose(gradient[0], -1, rtol=1e-6)


def test_the_cancelling_form_in_float16():
  # The reference's case: V = 5000, p_t = .99997, true ratio near 1.
  logits, embedding = ordinary.confident(3e-5, dtype=np.float16)
  p = special.softmax(np.float64(logits)).astype(np.float16)
  e = np.float64(embedding)
  e = (e / np.linalg.norm(e, axis=1, keepdims=True)).astype(np.float16)
  naive = np.float16(1) - np.float16((p @ e).astype(np.float16) @ e[0])
  nll64, emd64 = terms64(np.float64(logits)[None], [0], np.float64(embedding))
  # The official ratio, nll / (emd + 1e-10), is 3.05e5.
  assert naive == 0
  np.testing.assert_allclose(nll64 / 1e-10, 3.05e5, rtol=0.05)
  nll, emd = losses.emo_terms(logits, 0, embedding)
  np.testing.assert_allclose(nll / emd, nll64[0] / emd64[0], rtol=1e-4)
