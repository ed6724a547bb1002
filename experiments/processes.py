# SPDX-License-Identifier: Apache-2.0
"""One run in several processes: how they start, and how they stay together.

Each process of a pod runs the same command. They agree before anything is
compiled: on the config, and on whether all of them can start. A mistake in one
of them is the message of all, and none waits for another that has gone.
"""

import contextlib
import hashlib
import json
import os
import sys

from absl import flags
import jax
from jax.experimental import multihost_utils
import numpy as np

from experiments import workdir as workdir_lib

_DISTRIBUTED = flags.DEFINE_bool(
  "distributed",
  False,
  "Run as one of several processes. On Cloud TPU and under Slurm JAX finds the "
  "others; elsewhere say where they are with the three flags below.",
)
_ADDRESS = flags.DEFINE_string(
  "coordinator_address", None, "host:port of process 0, for all processes."
)
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "How many.", 1)
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which is this.", 0)


def initialize() -> None:
  """Joins the other processes if the flags say so; before devices are used.

  Raises:
    ValueError: if the flags are incomplete, or the others are not found.
  """
  where = (_ADDRESS.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
  if any(value is not None for value in where):
    if None in where or not _DISTRIBUTED.value:
      raise ValueError(
        "--coordinator_address, --num_processes and --process_id go together, "
        "with --distributed"
      )
    if not where[2] < where[1]:
      raise ValueError(
        f"--process_id={where[2]} must be below --num_processes={where[1]}"
      )
  if not _DISTRIBUTED.value:
    return
  # Devices of CPUs talk through gloo; those of TPUs and GPUs do not ask.
  jax.config.update("jax_cpu_collectives_implementation", "gloo")
  try:
    jax.distributed.initialize(*where)
  except Exception as error:  # JAX, gRPC and XLA raise many kinds.
    reason = str(error).strip().splitlines()[0][:200]
    raise ValueError(
      f"--distributed: the other processes were not found ({reason}); give all "
      "of them --coordinator_address=<host of process 0>:<port>, "
      "--num_processes and --process_id"
    ) from error


def is_first() -> bool:
  """Whether this is the process that writes and prints."""
  return jax.process_index() == 0


def gather_text(text: str) -> list[str]:
  """The text of each process, in order, in every process."""
  if jax.process_count() == 1:
    return [text]
  data = np.frombuffer(text.encode(), np.uint8)
  lengths = multihost_utils.process_allgather(np.int32(len(data)))
  padded = np.zeros(max(1, lengths.max()), np.uint8)
  padded[: len(data)] = data
  rows = multihost_utils.process_allgather(padded)
  return [
    bytes(row[:length]).decode()
    for row, length in zip(rows, lengths, strict=True)
  ]


def require_same(config) -> None:
  """Raises ValueError in every process if their configs or code differ."""
  mine = {
    "config": workdir_lib.as_json(config),
    "git commit": workdir_lib.git_sha(),
    "jax": jax.__version__,
  }
  text = json.dumps(mine, sort_keys=True)
  digests = gather_text(hashlib.sha256(text.encode()).hexdigest())
  if len(set(digests)) == 1:
    return
  first, *others = (json.loads(text) for text in gather_text(text))
  for index, other in enumerate(others, start=1):
    differences = workdir_lib.differences(
      first, other, there="in process 0", here=f"in process {index}"
    )
    if differences:
      raise ValueError(
        f"the processes disagree: {'; '.join(differences)}. Start all of them "
        "with the same command and code"
      )


@contextlib.contextmanager
def same_fate():
  """User's mistakes end all processes, with the message and code 2.

  Every process must come to the end of the block or to its mistake.
  """
  mistake = ""
  try:
    yield
  except (ValueError, OSError, ImportError) as error:
    mistake = str(error)
  mistakes = gather_text(mistake)
  if not any(mistakes):
    return
  if not mistake:
    index = next(i for i, text in enumerate(mistakes) if text)
    mistake = f"process {index}: {mistakes[index]}"
  sys.stderr.write(f"error: {mistake}\n")
  sys.exit(2)


@contextlib.contextmanager
def own_fate():
  """A user's mistake met later: message, and code 2 without a farewell.

  The others are waiting in a collective operation. The usual way out would
  wait for them; a process that is gone ends them.
  """
  try:
    yield
  except (ValueError, OSError, ImportError) as error:
    sys.stderr.write(f"error: {error}\n")
    sys.stderr.flush()
    if jax.process_count() > 1:
      os._exit(2)
    sys.exit(2)
