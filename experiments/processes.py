# SPDX-License-Identifier: Apache-2.0
"""One run in several processes: how they start, and how they end together.

Each process of a pod runs the same command. They agree before anything is
compiled: on the config, and on whether all of them can start. A mistake in one
of them is the message of all, and none waits for another that has gone.
"""

import contextlib
import hashlib
import json
import os
import sys
import threading
import traceback

from absl import flags
import jax
from jax.experimental import multihost_utils
import numpy as np

from experiments import cli
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
_JOIN_TIMEOUT = flags.DEFINE_integer(
  "join_timeout_s", 300, "How long to wait for the other processes to start.", 1
)
_FLAGS = (_DISTRIBUTED, _ADDRESS, _NUM_PROCESSES, _PROCESS_ID, _JOIN_TIMEOUT)


def initialize() -> None:
  """Joins the other processes if the flags say so; before devices are used.

  Raises:
    ValueError: if the flags are incomplete, the others are not found, or they
      have other numbers of devices.
  """
  where = (_ADDRESS.value, _NUM_PROCESSES.value, _PROCESS_ID.value)
  if any(value is not None for value in where):
    if None in where or not _DISTRIBUTED.value:
      raise ValueError(
        "--coordinator_address, --num_processes and --process_id go together, "
        "with --distributed"
      )
    address, num_processes, process_id = where
    if not process_id < num_processes:
      raise ValueError(
        f"--process_id={process_id} must be below "
        f"--num_processes={num_processes}"
      )
    port = address.rpartition(":")[2]
    if not (port.isdigit() and int(port) < 2**16):
      raise ValueError(f"--coordinator_address={address} must be host:port")
  if not _DISTRIBUTED.value:
    return
  # Devices of CPUs talk through gloo; those of TPUs and GPUs do not ask.
  jax.config.update("jax_cpu_collectives_implementation", "gloo")
  seconds = _JOIN_TIMEOUT.value
  with _time_limit(seconds, _lonely(f"none for {seconds} seconds")):
    try:
      # Its own time limit aborts the process, so ours must come first.
      jax.distributed.initialize(*where, initialization_timeout=seconds + 600)
    except Exception as error:  # JAX, gRPC and XLA raise many kinds.
      reason = str(error).strip() or type(error).__name__
      raise ValueError(_lonely(reason.splitlines()[0][:200])) from error
  of_devices = [d.process_index for d in jax.devices()]
  require_as_many_devices(
    [of_devices.count(i) for i in range(jax.process_count())]
  )


def require_as_many_devices(counts: list[int]) -> None:
  """Raises ValueError if processes have different numbers of devices.

  All of them see it. JAX gathers nothing then, and neither batches nor shares
  of an evaluation have parts of different sizes.
  """
  if len(set(counts)) > 1:
    raise ValueError(
      "--distributed: "
      + ", ".join(
        f"process {i}: {count} device(s)" for i, count in enumerate(counts)
      )
      + "; give each the same number"
    )


def _lonely(reason):
  return (
    f"--distributed: the other processes were not found ({reason}); start all "
    "of them within --join_timeout_s, with the same "
    "--coordinator_address=<host of process 0>:<port> and --num_processes, and "
    "--process_id 0, 1, ..."
  )


@contextlib.contextmanager
def _time_limit(seconds, message):
  """Ends the process if the block takes longer, even inside C++.

  With the code of what may be better another time: they may just be late.
  """

  def end():
    sys.stderr.write(f"error: {message}\n")
    sys.stderr.flush()
    os._exit(cli.EXIT_ALONE)

  timer = threading.Timer(seconds, end)
  timer.daemon = True
  timer.start()
  try:
    yield
  finally:
    timer.cancel()


def tell_of_bad_flags(message: str) -> None:
  """Tells the others, who are at their first `same_fate`, why this one ends."""
  mine = flags.FlagValues()
  for holder in _FLAGS:
    mine[holder.name] = flags.FLAGS[holder.name]
  try:
    mine(sys.argv, known_only=True)
    flags.FLAGS.mark_as_parsed()
    initialize()
  except (flags.Error, ValueError):
    return  # The message that there is already comes first.
  gather_text(message)
  leave()


def leave() -> None:
  """Waits for the others to come to their end, too."""
  if jax.process_count() > 1:
    jax.distributed.shutdown()


@contextlib.contextmanager
def joined():
  """A run as one of its processes, or the only one.

  They end together, by an agreed exit or by the same error. One that fails
  alone does not wait for the others: that it is gone ends them.

  Raises:
    ValueError: see `initialize`.
  """
  initialize()
  try:
    yield
  except BaseException as error:
    end_if_alone(type(error), error, error.__traceback__)
    leave()
    raise
  leave()


def end_if_alone(kind, error, trace) -> None:
  """An exit callback: ends a process that fails for a reason of its own.

  To be entered last, so that nothing is closed before that waits for the
  others, who do not come.
  """
  agreed = kind is None or issubclass(kind, (SystemExit, FloatingPointError))
  if not agreed and jax.process_count() > 1:
    if issubclass(kind, KeyboardInterrupt):
      os._exit(130)
    traceback.print_exception(kind, error, trace)
    sys.stderr.flush()
    os._exit(1)


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


def of_all(value) -> list:
  """The plain value of each process, in order, in every process."""
  return [json.loads(text) for text in gather_text(json.dumps(value))]


def of_first(value):
  """Process 0's plain value, in every process."""
  return of_all(value)[0]


def require_same(**values) -> None:
  """Raises ValueError in every process if plain values differ between them."""
  values["num_processes"] = _NUM_PROCESSES.value
  text = json.dumps(values, sort_keys=True)
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
  cli.tell(mistake)
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
    cli.tell(error)
    if jax.process_count() > 1:
      os._exit(2)
    sys.exit(2)
