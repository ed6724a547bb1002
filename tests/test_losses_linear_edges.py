# SPDX-License-Identifier: Apache-2.0
"""The fused linear losses at the edges: masks, sizes, mistakes."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import test_losses_linear as ordinary

import losses

D, N, TILES = ordinary.D, ordinary.N, ordinary.TILES
arrays = ordinary.arrays


def test_second_derivatives_of_a_confident_token():
  # e^100 is infinite in float32: of the label itself, which is not asked.
  hidden, head = jnp.array([[100.0, 0.0]]), jnp.eye(2, 5)
  labels = jnp.array([0])

  def total(hidden):
    return losses.linear_nll(hidden, head, labels).sum()

  second = jax.jacrev(jax.grad(total))(hidden)
  np.testing.assert_array_equal(second, jnp.zeros_like(second))


def test_tokens_left_out_have_no_part():
  values, labels = arrays()
  keep = np.arange(N) % 3 > 0
  hidden = np.where(keep[:, None], values["hidden"], np.nan)
  labels = np.where(keep, labels, -100)

  @jax.jit
  def run(hidden, head, keep):
    def total(hidden, head):
      nll = losses.linear_nll(hidden, head, labels, where=keep, **TILES)
      return nll.sum(), nll

    return jax.grad(total, (0, 1), has_aux=True)(hidden, head)

  (dh, dw), nll = run(hidden, values["head"], keep)
  assert not nll[~keep].any() and not dh[~keep].any()
  z = values["hidden"][keep] @ values["head"]
  expected = optax.softmax_cross_entropy_with_integer_labels(z, labels[keep])
  np.testing.assert_allclose(nll[keep], expected, rtol=1e-5)
  assert np.isfinite(dw).all() and np.any(dw)
  # Nobody left: no loss, no gradient, no NaN.
  (dh, dw), nll = run(hidden, values["head"], np.zeros(N, bool))
  assert not nll.any() and not dh.any() and not dw.any()


@pytest.mark.parametrize("v", [1, 2])
def test_smallest_vocabularies_one_token_and_large_logits(v):
  def total(hidden, head):
    nll, emd = losses.linear_emo_terms(hidden, head, jnp.array(0))
    return nll + emd, (nll, emd)

  hidden, head = jnp.array([1e2, -1e2]), jnp.array([[-1e2, 1e2][:v]] * 2)
  head = head.at[1].multiply(-1)  # Logits -2e4 and 2e4.
  gradients, (nll, emd) = jax.grad(total, (0, 1), has_aux=True)(hidden, head)
  assert all(np.isfinite(g).all() for g in gradients)
  np.testing.assert_allclose([nll, emd], [0, 0] if v == 1 else [4e4, 2])


def test_labels_that_are_no_classes():
  def run(label, offset=None, dtype=np.int32):
    def total(hidden):
      y = jnp.asarray([label], dtype)
      terms = losses.linear_nll_terms(hidden, jnp.eye(3, 300), y, offset=offset)
      emd = losses.linear_emo_terms(
        hidden, jnp.eye(3, 300), y, offset=offset
      ).emd
      return terms.nll[0], (terms, emd)

    return jax.jit(jax.grad(total, has_aux=True))(jnp.ones((1, 3)))

  # Under jit nobody can refuse them: they show.
  for label in (-100, -1, 300):
    _, (terms, emd) = run(label)
    assert np.isnan([*terms, emd]).all()
  # A type too small for the number of classes.
  chex.assert_trees_all_equal(run(5, dtype=np.uint8), run(5))
  # A class that does not exist is impossible; without any, nothing is lost.
  gone = np.zeros(300, np.float32)
  gone[5] = -np.inf
  gradient, (terms, emd) = run(5, gone)
  assert terms.nll == np.inf and np.isfinite([terms.uniform_nll, emd]).all()
  assert np.isfinite(gradient).all()
  gradient, (terms, emd) = run(5, np.full(300, -np.inf, np.float32))
  assert not np.any([*terms, emd]) and not gradient.any()


def test_empty_batch():
  def total(head):
    y = jnp.zeros((0,), jnp.int32)
    terms = losses.linear_emo_terms(jnp.ones((0, 3)), head, y)
    return sum(terms).sum(), terms

  gradient, terms = jax.grad(total, has_aux=True)(HEAD)
  assert terms.nll.shape == (0,) and not gradient.any()


def test_costs_are_not_negative():
  # Rounding puts a vector's cosine with its double above 1: of 50, some are.
  table = np.float32(np.random.default_rng(3).normal(size=(50, 7)))
  table = np.concatenate([table, 3 * table])
  unit = table / np.linalg.norm(table, axis=1, keepdims=True)
  assert (1 - (unit[:50] * unit[50:]).sum(1)).min() < 0

  def emd(i):  # Only label i and its double exist.
    exists = (jnp.arange(100) == i) | (jnp.arange(100) == i + 50)
    offset = jnp.where(exists, 0, -jnp.inf)
    z = jnp.ones((1, 1)), jnp.zeros((1, 100)), i[None]
    tiled = losses.linear_emo_terms(*z, cost_embedding=table, offset=offset).emd
    return tiled, losses.emo_terms(offset[None], i[None], table).emd

  tiled, dense = jax.jit(jax.vmap(emd))(jnp.arange(50))
  assert (tiled >= 0).all() and (dense >= 0).all()


def test_leading_axes_and_vmap():
  values, labels = arrays()
  hidden, labels = values["hidden"][:36].reshape(2, 3, 6, D), labels[:36]
  labels = labels.reshape(2, 3, 6)
  together = losses.linear_nll(hidden, values["head"], labels, **TILES)
  assert together.shape == (2, 3, 6)
  each = jax.vmap(
    lambda h, y: losses.linear_nll(h, values["head"], y, **TILES)
  )(hidden, labels)
  np.testing.assert_allclose(each, together, rtol=1e-5)


def every_size(jaxpr):
  """Sizes of all arrays that a program makes, in loops and calls too."""
  for equation in jaxpr.eqns:
    yield from (v.aval.size for v in equation.outvars)
    for value in jax.tree.leaves(
      list(equation.params.values()),
      is_leaf=lambda p: hasattr(p, "jaxpr") or hasattr(p, "eqns"),
    ):
      value = getattr(value, "jaxpr", value)
      if hasattr(value, "eqns"):
        yield from every_size(value)


def test_there_is_no_array_of_all_logits():
  n, d, v = 4096, 8, 20_000
  arguments = (
    jax.ShapeDtypeStruct((n, d), jnp.bfloat16),
    jax.ShapeDtypeStruct((d, v), jnp.bfloat16),
    jax.ShapeDtypeStruct((n,), jnp.int32),
  )

  def largest(f):
    program = jax.make_jaxpr(jax.value_and_grad(f, (0, 1)))(*arguments)
    return max(every_size(program.jaxpr))

  def naive(hidden, head, labels):
    z = hidden @ head
    return optax.softmax_cross_entropy_with_integer_labels(z, labels).sum()

  assert largest(naive) >= n * v
  for f in (losses.linear_nll, lambda *a: losses.linear_emo_terms(*a).emd):
    # A tile of 1024 tokens and 4096 classes at most.
    assert largest(lambda *a, f=f: f(*a).sum()) <= 1024 * 4096


HIDDEN, HEAD = jnp.ones((2, 3)), jnp.ones((3, 5))
LABELS = jnp.array([0, 4])


@pytest.mark.parametrize(
  "call, message",
  [
    (
      lambda: losses.linear_nll(HIDDEN, HEAD, LABELS + 1),
      "labels has 5.*5 classes 0 to 4",
    ),
    (
      lambda: losses.linear_nll(HIDDEN, HEAD.T, LABELS),
      r"head has shape \(5, 3\), not \[D, V\] with D = 3.*vocab_axis",
    ),
    (
      lambda: losses.linear_nll(HIDDEN, HEAD, LABELS[:1]),
      r"labels has shape \(1,\)",
    ),
    (
      lambda: losses.linear_nll(HIDDEN, HEAD, LABELS * 1.0),
      "labels must be integers",
    ),
    (
      lambda: losses.linear_nll(HIDDEN.astype(int), HEAD, LABELS),
      "hidden must be floating",
    ),
    (
      lambda: losses.linear_nll(HIDDEN, HEAD, LABELS, bias=jnp.ones(4)),
      r"bias has shape \(4,\), not \[V\] with V = 5",
    ),
    (
      lambda: losses.linear_nll(HIDDEN, HEAD, LABELS, soft_cap=0.0),
      "soft_cap has 0.0, which is not above 0",
    ),
    (
      lambda: losses.linear_nll(HIDDEN, HEAD, LABELS, vocab_axis=2),
      "vocab_axis=2",
    ),
    (
      lambda: losses.linear_nll(HIDDEN, HEAD, LABELS, vocab_tile=2.0),
      "vocab_tile=2.0 must be an integer of at least 1",
    ),
    (
      lambda: losses.linear_nll(HIDDEN, HEAD, LABELS, bias=[-jnp.inf] * 5),
      "bias has -inf",
    ),
    (
      lambda: losses.linear_nll(HIDDEN, jnp.ones((3, 0)), LABELS),
      "D and V must be at least 1",
    ),
    (
      lambda: jax.jit(
        lambda cap: losses.linear_nll(HIDDEN, HEAD, LABELS, soft_cap=cap)
      )(3.0),
      "soft_cap is traced",
    ),
    (
      lambda: losses.linear_emo_terms(
        HIDDEN, HEAD, LABELS, cost_embedding=HEAD
      ),
      r"cost_embedding has shape \(3, 5\)",
    ),
  ],
)
def test_mistakes_are_named(call, message):
  with pytest.raises(ValueError, match=message):
    call()


def test_a_misspelt_option_is_an_error():
  with pytest.raises(TypeError, match="softcap is no option.*soft_cap"):
    losses.linear_nll(HIDDEN, HEAD, LABELS, softcap=3.0)
