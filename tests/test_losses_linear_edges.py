# SPDX-License-Identifier: Apache-2.0
"""The fused linear losses at the edges: masks, sizes, shards, mistakes."""

import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import test_losses_linear as ordinary

import losses

D, N, TILES = ordinary.D, ordinary.N, ordinary.TILES
arrays = ordinary.arrays


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


SHARDED = """
import jax, jax.numpy as jnp, numpy as np, losses
jax.config.update("jax_numpy_rank_promotion", "raise")
P = jax.sharding.PartitionSpec
auto = (jax.sharding.AxisType.Auto,) * 2
mesh = jax.make_mesh((2, 2), ("data", "model"), axis_types=auto)
rng = np.random.default_rng(0)
n, d, v = 24, 4, 66
hidden, head, bias, table = (
  np.float32(rng.normal(size=s)) for s in ((n, d), (d, v), (v,), (v, 3)))
labels = rng.integers(0, v, n)
offset = np.float32(np.where(np.arange(v) == 5, -np.inf, 0))
labels = np.where(labels == 5, 6, labels)
options = dict(token_tile=8, vocab_tile=16)

def total(axis_name, hidden, head, bias, table, offset, labels):
  o = dict(bias=bias, offset=offset, axis_name=axis_name, **options)
  terms = losses.linear_nll_terms(hidden, head, labels, **o)
  fixed = losses.linear_emo_terms(
    hidden, head, labels, cost_embedding=table, **o)
  now = losses.linear_emo_terms(hidden, head, labels, **o)
  per_token = (losses.tailr(terms.nll, gamma=0.1) + terms.uniform_nll
               + losses.emo_mode1(*fixed) + now.emd)
  return per_token

def sharded(check_vma):
  shard = jax.shard_map(
    lambda *a: total("model", *a), mesh=mesh, out_specs=P("data"),
    in_specs=(P("data"), P(None, "model"), P("model"), P("model"), P("model"),
              P("data")), check_vma=check_vma)
  return lambda *a: shard(*a)

def run(f):
  g = jax.value_and_grad(lambda *a: f_sum(f, *a), (0, 1, 2), has_aux=True)
  return jax.jit(g)(hidden, head, bias, table, offset, labels)

def f_sum(f, *a):
  per_token = f(*a)
  weights = jnp.cos(jnp.arange(n))
  return (per_token * weights).sum(), per_token

expected = run(lambda *a: total(None, *a))
for check_vma in (True, False):
  actual = run(sharded(check_vma))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5),
               actual, expected)
print("equal")
"""


def test_vocabulary_sharded_over_a_mesh_axis():
  done = subprocess.run(
    [sys.executable, "-c", SHARDED],
    env={
      **os.environ,
      "JAX_PLATFORMS": "cpu",
      "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
    },
    cwd=pathlib.Path(__file__).parent.parent,
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.stdout.strip() == "equal", done.stderr


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
      "soft_cap=0.0 must be positive",
    ),
    (
      lambda: losses.linear_nll(HIDDEN, HEAD, LABELS, vocab_axis=2),
      "vocab_axis=2",
    ),
    (
      lambda: losses.linear_nll(HIDDEN, HEAD, LABELS, vocab_tile=0),
      "vocab_tile=0",
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
  with pytest.raises(TypeError, match="softcap"):
    losses.linear_nll(HIDDEN, HEAD, LABELS, softcap=3.0)
