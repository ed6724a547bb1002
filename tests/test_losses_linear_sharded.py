# SPDX-License-Identifier: Apache-2.0
"""A vocabulary sharded over devices, against all of it on one."""

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
# One class a shard, and shards that only pad the vocabulary.
def nll(axis_name, hidden, head, offset, labels):
  o = dict(offset=offset, axis_name=axis_name)
  return losses.linear_nll(hidden, head, labels, **o)

mesh = jax.make_mesh((4,), ("model",), axis_types=auto[:1])
for v, real in ((4, 4), (8, 2)):
  offset = np.float32(np.where(np.arange(v) < real, 0, -np.inf))
  shard = jax.shard_map(
    lambda *a: nll("model", *a), mesh=mesh, out_specs=P(),
    in_specs=(P(), P(None, "model"), P("model"), P()))
  arguments = hidden, head[:, :v], offset, labels % real
  actual, expected = (
    jax.jit(jax.value_and_grad(lambda *a, f=f: f(*a).sum(), (0, 1)))(*arguments)
    for f in (shard, lambda *a: nll(None, *a)))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
               actual, expected)
  assert np.isfinite(actual[0])
print("equal")
"""


def test_vocabulary_sharded_over_a_mesh_axis(on_four_devices):
  assert on_four_devices(SHARDED) == "equal"
