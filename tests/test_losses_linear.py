# SPDX-License-Identifier: Apache-2.0
"""The fused linear losses against the dense ones, which have other tests."""

import functools

import jax
from jax import test_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import special

import losses

# Neither N nor V is a multiple of its tile: 3 x 16 > 37, 3 x 128 > 301.
N, D, V = 37, 8, 301
TILES = {"token_tile": 16, "vocab_tile": 128}


@functools.cache
def arrays(vocab_axis=1):
  rng = np.random.default_rng(0)
  shape = (D, V) if vocab_axis == 1 else (V, D)
  values = {
    "hidden": rng.normal(size=(N, D)),
    "head": rng.normal(size=shape),
    "bias": rng.normal(size=V),
    "offset": rng.normal(size=V),
    "cost_embedding": rng.normal(size=(V, 5)),
    "weights": rng.normal(size=(3, N)),
  }
  values = {name: np.float32(value) for name, value in values.items()}
  values["offset"][7] = -np.inf  # A row that pads the vocabulary.
  values["head"][..., 9 if vocab_axis else 0] = 0  # A column without direction.
  labels = rng.integers(0, V, N)
  return values, np.where(labels == 7, 8, labels)


def fused(hidden, head, labels, *, cost_embedding=None, **options):
  options = {**TILES, **options}
  nll, uniform_nll = losses.linear_nll_terms(hidden, head, labels, **options)
  terms = losses.linear_emo_terms(
    hidden, head, labels, cost_embedding=cost_embedding, **options
  )
  np.testing.assert_equal(nll.shape, terms.nll.shape)
  return jnp.stack([0.5 * (nll + terms.nll), uniform_nll, terms.emd])


def dense(
  hidden,
  head,
  labels,
  *,
  cost_embedding=None,
  bias=None,
  offset=None,
  soft_cap=None,
  vocab_axis=1,
):
  head = head if vocab_axis == 1 else head.T
  dtype = jnp.promote_types(hidden.dtype, jnp.float32)
  z = jnp.dot(hidden, head, preferred_element_type=dtype)
  z = z if bias is None else z + bias[None]
  z = z if soft_cap is None else soft_cap * jnp.tanh(z / soft_cap)
  z = z if offset is None else z + offset[None]
  embedding = head.T if cost_embedding is None else cost_embedding
  terms = losses.emo_terms(z, labels, embedding)
  return jnp.stack([terms.nll, losses.uniform_nll(z), terms.emd])


def with_gradients(f, values, labels, names, **options):
  """The three terms [3, N], and gradients of a random combination of them."""
  given = {name: values[name] for name in names}
  weights = values["weights"]

  @jax.jit
  def run(hidden, head, given):
    def total(hidden, head, bias):
      extra = {**given, **({} if bias is None else {"bias": bias})}
      terms = f(hidden, head, labels, **extra, **options)
      return (terms * weights).sum(), terms

    bias = given.get("bias")
    argnums = (0, 1) if bias is None else (0, 1, 2)
    gradients, terms = jax.grad(total, argnums, has_aux=True)(
      hidden, head, bias
    )
    return terms, gradients

  return run(values["hidden"], values["head"], given)


def assert_close(actual, expected, tolerance):
  for a, b in zip(
    jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True
  ):
    scale = np.abs(np.float32(b)).max()
    np.testing.assert_allclose(
      np.float32(a), np.float32(b), atol=tolerance * scale
    )


@pytest.mark.parametrize(
  "names, options",
  [
    ((), {"vocab_axis": 1}),
    (("bias", "cost_embedding"), {"vocab_axis": 0}),
    (("bias", "offset"), {"vocab_axis": 0, "soft_cap": 3.0}),
    (("offset", "cost_embedding"), {"vocab_axis": 1, "soft_cap": 2.0}),
  ],
)
def test_equals_the_dense_form(names, options):
  values, labels = arrays(options["vocab_axis"])
  actual = with_gradients(fused, values, labels, names, **options)
  expected = with_gradients(dense, values, labels, names, **options)
  assert_close(actual, expected, 3e-6)


def test_bfloat16_is_exact_but_for_the_rounding_of_gradients():
  values, labels = arrays()
  half = {
    name: jnp.asarray(values[name], jnp.bfloat16) for name in ("hidden", "head")
  }
  terms, gradients = with_gradients(fused, {**values, **half}, labels, ())
  assert terms.dtype == jnp.float32
  assert [g.dtype for g in gradients] == [jnp.bfloat16] * 2
  exact = {name: np.float32(value) for name, value in half.items()}
  expected = with_gradients(dense, {**values, **exact}, labels, ())
  # Products of bfloat16 are exact in float32.
  assert_close(terms, expected[0], 3e-6)
  assert_close(gradients, expected[1], 1e-2)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_ratio_of_a_confident_token(dtype):
  rng = np.random.default_rng(1)
  hidden = jnp.asarray(rng.normal(size=(1, D)), dtype)
  head = jnp.asarray(rng.normal(size=(D, V)), dtype)
  z = np.float64(hidden) @ np.float64(head)
  # A bias that makes 1 - p_t = 1e-6.
  bias = np.zeros(V, np.float32)
  bias[0] = special.logsumexp(z[0, 1:]) - z[0, 0] - np.log(1e-6)
  z[0] += np.float64(bias)
  nll64 = np.log1p(np.exp(z[0, 1:] - z[0, 0]).sum())
  e = np.float64(head) / np.linalg.norm(np.float64(head), axis=0)
  p = np.exp(z[0, 1:] - special.logsumexp(z[0]))
  emd64 = p @ (1 - e[:, 1:].T @ e[:, 0])

  nll, emd = losses.linear_emo_terms(
    hidden, head, jnp.array([0]), bias=bias, **TILES
  )
  np.testing.assert_allclose(nll64, 1e-6, rtol=1e-3)
  np.testing.assert_allclose(nll, nll64, rtol=1e-4)
  np.testing.assert_allclose(nll / emd, nll64 / emd64, rtol=1e-4)


MAPS = {
  "tailr": functools.partial(losses.tailr, gamma=0.1, min_weight=0.3),
  "smooth_accuracy": losses.smooth_accuracy_loss,
  "focal": losses.focal,
  "gce": functools.partial(losses.generalized_cross_entropy, q=0.7),
}


def test_every_map_of_the_nll_works_on_top():
  values, labels = arrays()
  prior = np.float32(np.arange(1, V + 1))

  def every(nll):
    return jnp.stack([f(nll) for f in MAPS.values()]).sum()

  def on_fused(hidden, head):
    offset = losses.logit_adjustment(prior)
    terms = losses.linear_nll_terms(
      hidden, head, labels, offset=offset, **TILES
    )
    return (
      every(terms.nll) + losses.label_smoothing(*terms, smoothing=0.1).sum()
    )

  def on_dense(hidden, head):
    z = hidden @ head + losses.logit_adjustment(prior)[None]
    nll = optax.softmax_cross_entropy_with_integer_labels(z, labels)
    smooth = optax.smooth_labels(jax.nn.one_hot(labels, V), 0.1)
    return every(nll) + optax.softmax_cross_entropy(z, smooth).sum()

  actual, expected = (
    jax.jit(jax.value_and_grad(f, (0, 1)))(values["hidden"], values["head"])
    for f in (on_fused, on_dense)
  )
  assert_close(actual, expected, 5e-6)


@pytest.mark.slow
def test_gradients_by_finite_differences():
  with jax.enable_x64(True):
    values, labels = arrays()
    hidden, head, bias = (
      jnp.asarray(values[name], jnp.float64)
      for name in ("hidden", "head", "bias")
    )
    # Costs of a table of its own: those of the head are constants, not fixed.
    table = values["cost_embedding"]
    f = jax.jit(
      lambda h, w, b: fused(
        h, w, labels[:3], bias=b, soft_cap=4.0, cost_embedding=table
      )
    )
    test_util.check_grads(
      f, (hidden[:3], head, bias), order=2, modes=["rev"], rtol=1e-6
    )


def test_no_second_derivative_of_bfloat16_rather_than_a_wrong_one():
  def total(hidden):
    return losses.linear_nll(hidden, head, jnp.array([0])).sum()

  hidden, head = (
    jnp.ones((1, 3), jnp.bfloat16),
    jnp.eye(3, 4).astype(jnp.bfloat16),
  )
  with pytest.raises(NotImplementedError, match="needs float32"):
    jax.grad(lambda h: jax.grad(total)(h).sum())(hidden)


def test_streaming_is_the_dense_form_to_the_last_digits():
  # The reference derivation had 5e-16 between the two, in float64.
  with jax.enable_x64(True):
    values, labels = arrays()
    values = {name: np.float64(value) for name, value in values.items()}
    actual, expected = (
      with_gradients(f, values, labels, ("bias",)) for f in (fused, dense)
    )
  for a, b in zip(
    jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True
  ):
    assert a.dtype == np.float64
    np.testing.assert_allclose(a, b, atol=3e-15 * np.abs(b).max())
