# SPDX-License-Identifier: Apache-2.0
"""What several processes make is, in its order, what one process makes."""

import types

import jax
import numpy as np
import pytest
import real_runs

from experiments import generate
from experiments import shares
from simple_diffusion import sharding


@pytest.fixture
def as_process(monkeypatch):
  """A function that lets this process be number `index` of `count`."""

  def be(index, count):
    monkeypatch.setattr(jax, "process_index", lambda: index)
    monkeypatch.setattr(jax, "process_count", lambda: count)

  return be


@pytest.mark.parametrize("count", [1, 2, 3, 8])  # 8: some have no batch.
def test_indices_are_those_of_the_batches(as_process, count):
  batches = np.split(np.arange(22), range(5, 22, 5))
  for index in range(count):
    as_process(index, count)
    own = np.concatenate([np.arange(0), *batches[shares.mine()]])
    np.testing.assert_array_equal(shares.indices(22, 5), own)
    assert list(own // 5) == [b for b in own // 5 if b % count == index]


def test_rows_come_back_in_order():
  rows = np.random.default_rng(0).normal(size=(7, 2, 3))
  shuffled = [4, 0, 6, 2, 1, 5, 3]
  # Padding in the middle, as from a process that had less.
  indices = np.int32([*shuffled[:3], -1, -1, *shuffled[3:], -1])
  found = shares.in_order(indices, rows[indices])
  np.testing.assert_array_equal(found, rows)


def test_one_process_has_all_rows():
  rows = np.arange(12.0).reshape(6, 2)
  found, nothing = shares.gather(shares.indices(5, 2), (rows, None))
  np.testing.assert_array_equal(found, rows[:5])
  assert nothing is None
  assert shares.total(rows) is rows


def fake_programs():
  """Its images are what they are made of: key and label."""

  def sample(params, keys, labels):
    words = jax.random.key_data(keys)
    return np.stack([words[:, 0], words[:, 1], labels], -1)

  mesh = sharding.make_mesh(data=1, fsdp=1, devices=jax.devices()[:1])
  return types.SimpleNamespace(mesh=mesh, sample=sample)


@pytest.mark.parametrize("count", [2, 3, 7])  # of 5 batches
def test_processes_make_the_images_of_one(as_process, count):
  programs, labels = fake_programs(), np.arange(22) % 3

  def make():
    batches = generate.batches_of_images(
      programs, None, labels=labels, seed=3, batch_size=5
    )
    return np.concatenate(list(batches))

  expected = make()
  assert len(np.unique(expected, axis=0)) == 22
  indices, rows = [], []
  for index in range(count):
    as_process(index, count)
    indices.append(shares.indices(22, 5))
    rows.append(make()[: len(indices[-1])])
  assert len({len(part) for part in indices}) > 1  # Not all shares are equal.
  found = shares.in_order(np.concatenate(indices), np.concatenate(rows))
  np.testing.assert_array_equal(found, expected)


PROCESS = """
import sys
import jax
import numpy as np
from experiments import shares

jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(sys.argv[1], 3, int(sys.argv[2]))
rows = np.float32(np.random.default_rng(0).normal(size=(7, 2)))
own = shares.indices(7, 4)  # Of 4, 3 and no rows.
padded = np.concatenate([rows[own], np.ones((1, 2), np.float32)])
found, nothing = shares.gather(own, (padded, None))
np.testing.assert_array_equal(found, rows)
assert nothing is None
thirds = np.array([[1 / 3, 2.0**-60], [jax.process_index(), -1 / 3]])
expected = [[1 / 3 + 1 / 3 + 1 / 3, 3 * 2.0**-60], [3, -1 / 3 - 1 / 3 - 1 / 3]]
np.testing.assert_allclose(shares.total(thirds), expected, rtol=1e-15)
jax.distributed.shutdown()
"""


def test_rows_and_sums_travel():
  address = f"127.0.0.1:{real_runs.free_port()}"
  real_runs.finish(
    [
      real_runs.start_python(["-c", PROCESS, address, str(process)])
      for process in range(3)
    ]
  )
