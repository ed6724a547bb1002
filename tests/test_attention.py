# SPDX-License-Identifier: Apache-2.0
"""Attention against its formula, and the choice of its form."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simple_diffusion import attention
from simple_diffusion import sizes

on_cpu = pytest.mark.skipif(
  jax.default_backend() != "cpu", reason="says what a CPU does"
)


def qkv(dtype, shape=(2, 5, 3, 8)):
  rng = np.random.default_rng(0)
  return [jnp.asarray(rng.standard_normal(shape), dtype) for _ in range(3)]


def by_hand(q, k, v):
  """softmax(q k^T / sqrt(C)) v, head by head in float64."""
  q, k, v = (np.asarray(a, np.float64) for a in (q, k, v))
  out = np.empty_like(v)
  for b, _, head, _ in np.ndindex(q.shape[0], 1, q.shape[2], 1):
    logits = q[b, :, head] @ k[b, :, head].T / np.sqrt(q.shape[-1])
    weights = np.exp(logits)
    weights /= weights.sum(1, keepdims=True)
    out[b, :, head] = weights @ v[b, :, head]
  return out


# bfloat16 has 8 bits: products of a few rounded numbers, relative to 1.
@pytest.mark.parametrize("dtype, atol", [("float32", 1e-6), ("bfloat16", 0.02)])
def test_formula(dtype, atol):
  args = qkv(dtype)
  out = jax.jit(attention.attend)(*args)
  assert out.dtype == dtype
  np.testing.assert_allclose(
    np.asarray(out, np.float64), by_hand(*args), atol=atol
  )


@pytest.mark.parametrize("dtype, atol", [("float32", 1e-6), ("bfloat16", 0.02)])
def test_value_and_gradient_are_those_of_jax(dtype, atol):
  def gradients(attend):
    def total(q, k, v):
      return (attend(q, k, v).astype(jnp.float32) ** 2).sum()

    return jax.jit(jax.value_and_grad(total, argnums=(0, 1, 2)))(*qkv(dtype))

  ours, theirs = map(gradients, (attention.plain, jax.nn.dot_product_attention))
  for a, b in zip(*map(jax.tree.leaves, (ours, theirs)), strict=True):
    a, b = np.float64(a), np.float64(b)
    np.testing.assert_allclose(a, b, rtol=atol, atol=atol * abs(b).max())


@on_cpu
def test_the_probe_tells_what_compiles():
  assert attention.compiles("xla", 4, 2, 8, "bfloat16")
  assert not attention.compiles("cudnn", 4, 2, 8, "bfloat16")


@on_cpu
def test_a_cpu_falls_back_to_xla_quickly_and_silently(capfd):
  attention.compiles.cache_clear()
  began = time.perf_counter()
  assert attention.choose((8, 256, 4, 64), jnp.bfloat16) == "xla"
  assert time.perf_counter() - began < 0.3
  assert capfd.readouterr() == ("", "")


def test_a_shape_is_tried_once_whatever_the_batch():
  attention.compiles.cache_clear()
  for batch_size in (1, 8):
    attention.choose((batch_size, 16, 4, 64), jnp.bfloat16)
  attention.choose((1, 16, 4, 32), jnp.bfloat16)
  assert attention.compiles.cache_info().misses == 2


def test_nothing_is_tried_for_hardware_that_is_elsewhere():
  attention.compiles.cache_clear()
  with jax.sharding.use_abstract_mesh(sizes.NOWHERE):
    assert attention.choose((8, 256, 4, 64), jnp.bfloat16) == "xla"
  assert attention.compiles.cache_info().misses == 0


def test_the_size_of_a_network_is_that_of_the_formula(monkeypatch):
  # As on a GPU, whose kernel is one operation without products inside.
  monkeypatch.setattr(attention, "compiles", lambda *shape: True)
  q = jax.ShapeDtypeStruct((1, 16, 4, 64), jnp.bfloat16)
  macs = sizes.macs_by_scope(lambda q: attention.attend(q, q, q), q)
  assert sum(macs.values()) == 2 * 4 * 16**2 * 64


TRACED_ON_A_MESH = """
import jax
import jax.numpy as jnp
from simple_diffusion import attention
from simple_diffusion import sharding

mesh = sharding.make_mesh(data=2, fsdp=2)
found = []
def traced(q):
  found.append(attention.compiles("xla", 4, 2, 8, "bfloat16"))
  return attention.attend(q, q, q)
split = sharding.by_example(mesh)
step = jax.jit(sharding.traced_on(mesh, traced), in_shardings=split)
q = jax.device_put(jnp.ones((4, 4, 2, 8), jnp.bfloat16), split)
out = step(q)
assert found == [True], found
print(out.sharding.is_equivalent_to(split, 4))
"""


def test_the_probe_works_inside_of_a_trace_for_many_devices(on_four_devices):
  assert on_four_devices(TRACED_ON_A_MESH) == "True"
