# SPDX-License-Identifier: Apache-2.0
"""Batches shared out to P processes: process p makes p, p + P, p + 2P, ...

Which items are in a batch does not depend on P, and what is gathered is in the
order of the items, so that P processes find what one finds. One process has all
batches, and nothing travels.
"""

import jax
from jax.experimental import multihost_utils
import numpy as np

from simple_diffusion.metrics import moments


def mine() -> slice:
  """This process's part of a sequence of batches: sequence[mine()]."""
  return slice(jax.process_index(), None, jax.process_count())


def indices(num_items: int, batch_size: int) -> np.ndarray:
  """int32 indices, in order, of the items in this process's batches."""
  items = np.arange(num_items, dtype=np.int32)
  return items[items // batch_size % jax.process_count() == jax.process_index()]


def gather(indices: np.ndarray, tree):
  """Rows of all processes in the order of their indices, on each of them.

  Args:
    indices: int32 [n] >= 0 of this process's rows; n may be 0, and another in
      each process, but not 0 in all.
    tree: of arrays [>= n, ...] of 32 bits or fewer a number. Rows beyond n are
      left out.

  Returns:
    The tree with arrays [N, ...], N the sum of n over the processes.
  """
  tree = jax.tree.map(lambda rows: rows[: len(indices)], tree)
  if jax.process_count() == 1:
    return tree
  # Only equal shapes travel.
  length = multihost_utils.process_allgather(np.int32(len(indices))).max()
  indices, tree = multihost_utils.process_allgather(
    (
      padded(indices, length, fill=-1),
      jax.tree.map(lambda rows: padded(rows, length), tree),
    ),
    tiled=True,
  )
  return jax.tree.map(lambda rows: in_order(indices, rows), tree)


def padded(rows: np.ndarray, length: int, fill=0) -> np.ndarray:
  """Rows [n, ...] with more of them, [length, ...]."""
  widths = [(0, length - len(rows))] + [(0, 0)] * (rows.ndim - 1)
  return np.pad(rows, widths, constant_values=fill)


def in_order(indices: np.ndarray, rows: np.ndarray) -> np.ndarray:
  """Rows by their indices, without those of index -1."""
  order = np.argsort(indices)
  return rows[order[indices[order] >= 0]]


def total(values: np.ndarray) -> np.ndarray:
  """The sum of float64 arrays of equal shape over the processes, on each."""
  if jax.process_count() == 1:
    return values
  return moments.gather_float64(values).sum(0)
