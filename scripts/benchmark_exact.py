# SPDX-License-Identifier: Apache-2.0
"""Measures EXACT by quadrature against a plain Genz estimator.

  python -m scripts.benchmark_exact

Both give the mean of 1 - P over a batch and its gradient on the logits.
`genz_error` below is the estimator that the authors of EXACT use (arXiv
2205.09615), typed out: separation of variables, a class at a time, 16 samples,
differentiated by JAX. It comes plain and with each class checkpointed, which is
what one would do next.

* time_ratio: time of ours over that of each, below 1 is faster. They alternate
  in one process; the median of the ratios of neighbours in time.
* memory_ratio: temporary memory of each over that of ours, of the compiled
  programs.
"""

import functools
import json
import pathlib
import time

from absl import flags
import jax
import jax.numpy as jnp
import numpy as np

from experiments import cli
from experiments import records
from experiments import workdir
import losses

_BATCH = flags.DEFINE_integer("batch", 128, "Examples, B.")
_CLASSES = flags.DEFINE_integer("classes", 1000, "Classes, C.")
_SAMPLES = flags.DEFINE_integer("samples", 16, "Samples of the estimator, N.")
_NODES = flags.DEFINE_integer("nodes", 128, "Nodes of the quadrature.")
_ROUNDS = flags.DEFINE_integer("rounds", 20, "Alternations.")
_RESULTS = flags.DEFINE_string(
  "results", "experiments/results/losses.jsonl", "File to append to."
)


def genz_error(logits, labels, uniform, *, checkpoint=False):
  """1 - P [B] of logits [B, C] by uniform numbers [C - 1, N].

  P is the probability that a normal vector of covariance I + 11^T is below
  Delta. Its Cholesky factor has d_j on the diagonal and a_j below, in column j:
  d_j^2 = 2 - sum_{k < j} a_k^2, a_j = d_j - 1 / d_j.
  """
  mu_y = jnp.take_along_axis(logits, labels[:, None], axis=-1)
  # The label's own gap, put last, is left out.
  delta = jnp.sort(
    jnp.where(
      jax.nn.one_hot(labels, logits.shape[-1], dtype=bool),
      jnp.inf,
      mu_y - logits,
    )
  )[:, :-1]

  def add_class(carry, column):
    a_squared, shift, p = carry  # [], [B, N], [B, N]
    delta_j, u_j = column  # [B], [N]
    d_j = jnp.sqrt(2 - a_squared)
    a_j = d_j - 1 / d_j
    below = jax.scipy.special.ndtr((delta_j[:, None] - shift) / d_j)
    # The authors clip the quantiles at 5, too.
    y = jnp.clip(jax.scipy.special.ndtri(u_j[None] * below), -5, 5)
    return (a_squared + a_j**2, shift + a_j * y, p * below), None

  if checkpoint:
    add_class = jax.checkpoint(add_class, prevent_cse=False)
  shape = (len(logits), uniform.shape[1])
  start = (jnp.zeros([]), jnp.zeros(shape), jnp.ones(shape))
  (_, _, p), _ = jax.lax.scan(add_class, start, (delta.T, uniform))
  return 1 - p.mean(axis=-1)


def value_and_grad(error):
  """(mean error, its gradient) of logits, labels and what else error takes."""
  return jax.jit(jax.value_and_grad(lambda *args: error(*args).mean()))


def check_genz(logits, labels, rng):
  """AssertionError unless the estimator's mean is right, with its gradient."""
  every = max(len(logits) // 4, 1)  # Of the ranking's bottom and its top.
  logits, labels = logits[::every], labels[::every]
  shape = (logits.shape[-1] - 1, 4096)
  uniform = jax.random.uniform(rng, shape, minval=1e-7)
  exact, exact_grad = value_and_grad(losses.expected_accuracy_loss)(
    logits, labels
  )
  mean, grad = value_and_grad(functools.partial(genz_error, checkpoint=True))(
    logits, labels, uniform
  )
  np.testing.assert_allclose(mean, exact, atol=0.01)
  error = jnp.linalg.norm(grad - exact_grad) / jnp.linalg.norm(exact_grad)
  np.testing.assert_array_less(error, 0.1)
  return float(mean - exact), float(error)


def main(_):
  rng_logits, rng_labels, rng_check, rng = jax.random.split(
    jax.random.key(0), 4
  )
  labels = jax.random.randint(
    rng_labels, [_BATCH.value], 0, _CLASSES.value, jnp.int32
  )
  logits = jax.random.normal(rng_logits, [_BATCH.value, _CLASSES.value])
  # As in training: from the bottom of the ranking to beyond its top.
  logits += jax.nn.one_hot(labels, _CLASSES.value) * jnp.linspace(
    0, 8, _BATCH.value
  ).reshape(-1, 1)
  shape = (_CLASSES.value - 1, _SAMPLES.value)
  uniform = jax.random.uniform(rng, shape, minval=1e-7)
  mean_error, grad_error = check_genz(logits, labels, rng_check)

  quadrature = functools.partial(
    losses.expected_accuracy_loss, num_nodes=_NODES.value
  )
  checkpointed = functools.partial(genz_error, checkpoint=True)
  sides = {
    "quadrature": (quadrature, (logits, labels)),
    "genz": (genz_error, (logits, labels, uniform)),
    "genz_checkpointed": (checkpointed, (logits, labels, uniform)),
  }
  compiled = {
    name: value_and_grad(error).lower(*args).compile()
    for name, (error, args) in sides.items()
  }
  memory = {
    name: program.memory_analysis().temp_size_in_bytes
    for name, program in compiled.items()
  }
  seconds = {name: [] for name in sides}
  for round_ in range(_ROUNDS.value + 1):
    for name, (_, args) in sides.items():
      began = time.perf_counter()
      jax.block_until_ready(compiled[name](*args))
      if round_:  # The first round warms up.
        seconds[name].append(time.perf_counter() - began)
  seconds = {name: np.array(values) for name, values in seconds.items()}
  ours, *others = sides
  record = {
    "benchmark": "expected_accuracy",
    "batch": _BATCH.value,
    "classes": _CLASSES.value,
    "samples": _SAMPLES.value,
    "nodes": _NODES.value,
    "rounds": _ROUNDS.value,
    "time_ratio": {
      name: float(np.median(seconds[ours] / seconds[name])) for name in others
    },
    "memory_ratio": {name: memory[name] / memory[ours] for name in others},
    "median_ms": {
      name: 1e3 * float(np.median(values)) for name, values in seconds.items()
    },
    "memory_bytes": memory,
    "genz_4096_samples": {"error": mean_error, "gradient_error": grad_error},
    "environment": workdir.environment(),
  }
  print(json.dumps({k: v for k, v in record.items() if k != "environment"}))
  records.append_result(pathlib.Path(_RESULTS.value), record)


if __name__ == "__main__":
  cli.run(main)
