# SPDX-License-Identifier: Apache-2.0
"""Measures the losses of a linear head against their dense JAX forms.

  python -m scripts.benchmark_linear

For nll and for emo (mode 1, costs of the head itself), loss and gradients on
hidden states and head in bfloat16:

* time_ratio: time of the tiled form over that of the dense one; the sides
  alternate in one process and the median of the ratios is taken.
* memory_ratio: dense over tiled memory above inputs and gradients, as the
  compiled program states it (program) and as a process of its own needed it
  beyond what it had before the call (process; resident set on a CPU under
  Linux, the allocator's peak on a GPU).

The dense forms are what one would type: logits in float32 by a product of
bfloat16, optax's cross-entropy, costs by a second product; XLA fuses as it can.
JAX then has float32 cotangents in the products of the backward pass. For a
dense form with those in bfloat16, nll_rounded rounds the logits to bfloat16
first, which costs digits of the loss. All sides must agree.
"""

import json
import pathlib
import subprocess
import sys
import time

from absl import flags
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments import cli
from experiments import records
from experiments import workdir
import losses

_TOKENS = flags.DEFINE_integer("tokens", 4096, "N.")
_WIDTH = flags.DEFINE_integer("width", 1024, "D.")
_VOCAB = flags.DEFINE_integer("vocab", 131_072, "V.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Alternations.")
_SIDE = flags.DEFINE_enum(
  "side",
  None,
  ["nll_dense", "nll_rounded", "nll_tiled", "emo_dense", "emo_tiled"],
  "Run this side once and print the memory of the process, no more.",
)
_RESULTS = flags.DEFINE_string(
  "results", "experiments/results/losses.jsonl", "File to append to."
)

# Dense bfloat16 peak, operations per second, by jax's name of the device:
# H100 SXM and H200 data sheets of NVIDIA.
PEAK = {"NVIDIA H100 80GB HBM3": 989e12, "NVIDIA H200": 989e12}


def nll_dense(hidden, head, labels):
  z = jnp.dot(hidden, head, preferred_element_type=jnp.float32)
  return optax.softmax_cross_entropy_with_integer_labels(z, labels).mean()


def nll_rounded(hidden, head, labels):
  z = jnp.dot(hidden, head).astype(jnp.float32)
  return optax.softmax_cross_entropy_with_integer_labels(z, labels).mean()


def nll_tiled(hidden, head, labels):
  return losses.linear_nll(hidden, head, labels).mean()


def emo_dense(hidden, head, labels):
  z = jnp.dot(hidden, head, preferred_element_type=jnp.float32)
  log_p = jax.nn.log_softmax(z)
  nll = -jnp.take_along_axis(log_p, labels[:, None], axis=1)[:, 0]
  e = jax.lax.stop_gradient(head).astype(jnp.float32)
  e = (e / jnp.linalg.norm(e, axis=0, keepdims=True)).astype(head.dtype)
  cosine = jnp.dot(e[:, labels].T, e, preferred_element_type=jnp.float32)
  emd = jnp.sum(jnp.exp(log_p) * (1 - cosine), axis=1)
  return losses.emo_mode1(nll, emd).mean()


def emo_tiled(hidden, head, labels):
  terms = losses.linear_emo_terms(hidden, head, labels)
  return losses.emo_mode1(*terms).mean()


SIDES = {
  f.__name__: f
  for f in (nll_dense, nll_rounded, nll_tiled, emo_dense, emo_tiled)
}


def inputs():
  """Hidden states, head [D, V] with logits of unit variance, labels."""
  keys = jax.random.split(jax.random.key(0), 3)
  n, d, v = _TOKENS.value, _WIDTH.value, _VOCAB.value
  hidden = jax.random.normal(keys[0], (n, d), jnp.bfloat16)
  head = jax.random.normal(keys[1], (d, v), jnp.bfloat16) / d**0.5
  return jax.block_until_ready(
    (hidden, head, jax.random.randint(keys[2], (n,), 0, v))
  )


def compiled(name, arguments):
  f = jax.jit(jax.value_and_grad(SIDES[name], (0, 1)))
  return f.lower(*arguments).compile()


def resident(field):
  """VmRSS (now) or VmHWM (the peak since it was reset), in bytes."""
  status = pathlib.Path("/proc/self/status").read_text()
  line = next(x for x in status.splitlines() if x.startswith(field + ":"))
  return 1024 * int(line.split()[1])


def process_memory(name):
  """Bytes that one call needs beyond inputs and results, in this process."""
  arguments = inputs()
  f = compiled(name, arguments)
  device = jax.devices()[0]
  if device.platform == "cpu":
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # Resets VmHWM.
    before = resident("VmRSS")
    results = jax.block_until_ready(f(*arguments))
    peak = resident("VmHWM")
  else:
    # The allocator's peak cannot be reset: inputs() and the compiler needed
    # less than any of the sides.
    before = device.memory_stats()["bytes_in_use"]
    results = jax.block_until_ready(f(*arguments))
    peak = device.memory_stats()["peak_bytes_in_use"]
  return peak - before - sum(x.nbytes for x in jax.tree.leaves(results))


def check_agreement(results):
  """AssertionError unless tiled and dense forms say the same, to bfloat16."""
  for loss in ("nll", "emo"):
    dense, tiled = results[f"{loss}_dense"], results[f"{loss}_tiled"]
    for a, b in zip(
      jax.tree.leaves(dense), jax.tree.leaves(tiled), strict=True
    ):
      a, b = np.float32(a), np.float32(b)
      error = np.linalg.norm(a - b) / np.linalg.norm(a)
      np.testing.assert_array_less(error, 2e-2, err_msg=loss)


def process_memory_of_child(name):
  program = [sys.executable, "-m", "scripts.benchmark_linear"]
  sizes = [f"--{f.name}={f.value}" for f in (_TOKENS, _WIDTH, _VOCAB)]
  done = subprocess.run(
    [*program, *sizes, f"--side={name}"],
    check=True,
    stdout=subprocess.PIPE,
    text=True,
  )
  return json.loads(done.stdout.splitlines()[-1])["bytes"]


def main(_):
  if _SIDE.value:
    print(json.dumps({"bytes": process_memory(_SIDE.value)}))
    return
  # First, while this process holds no memory of the device.
  in_process = {name: process_memory_of_child(name) for name in SIDES}
  arguments = inputs()
  programs = {name: compiled(name, arguments) for name in SIDES}
  by_program = {
    name: program.memory_analysis().temp_size_in_bytes
    for name, program in programs.items()
  }
  check_agreement({name: f(*arguments) for name, f in programs.items()})
  seconds = {name: [] for name in SIDES}
  for _ in range(_ROUNDS.value):
    for name, program in programs.items():
      began = time.perf_counter()
      jax.block_until_ready(program(*arguments))
      seconds[name].append(time.perf_counter() - began)

  environment = workdir.environment()
  n, d, v = _TOKENS.value, _WIDTH.value, _VOCAB.value
  record = {
    "benchmark": "linear",
    "tokens": n,
    "width": d,
    "vocab": v,
    "rounds": _ROUNDS.value,
    "nll_rounded": {
      "time_ratio": float(
        np.median(
          np.array(seconds["nll_tiled"]) / np.array(seconds["nll_rounded"])
        )
      ),
      "program_bytes": by_program["nll_rounded"],
      "process_bytes": in_process["nll_rounded"],
    },
    "environment": environment,
  }
  peak = PEAK.get(environment["devices"][0])
  for loss, products in (("nll", 3), ("emo", 4)):
    dense, tiled = f"{loss}_dense", f"{loss}_tiled"
    ratios = np.array(seconds[tiled]) / np.array(seconds[dense])
    time_tiled = float(np.median(seconds[tiled]))
    # What the loss takes at least; what is computed twice does not count.
    operations = products * 2 * n * d * v
    record[loss] = {
      "time_ratio": float(np.median(ratios)),
      "time_ratios": ratios.tolist(),
      "dense_seconds": float(np.median(seconds[dense])),
      "tiled_seconds": time_tiled,
      "tokens_per_second": n / time_tiled,
      "share_of_peak": peak and operations / time_tiled / peak,
      "program_bytes": [by_program[dense], by_program[tiled]],
      "program_memory_ratio": by_program[dense] / by_program[tiled],
      "process_bytes": [in_process[dense], in_process[tiled]],
      "process_memory_ratio": in_process[dense] / in_process[tiled],
    }
  print(json.dumps({k: v for k, v in record.items() if k != "environment"}))
  records.append_result(pathlib.Path(_RESULTS.value), record)


if __name__ == "__main__":
  cli.run(main)
