# SPDX-License-Identifier: Apache-2.0
"""SIGTERM: the step in progress is finished and saved, then the run ends.

Clouds send it half a minute before they take a machine away. With several
processes JAX passes it on, and all of them stop after the same step. A process
alone that has nothing new to save (it compiles, or draws samples) ends at once.
More signals change nothing.
"""

import contextlib
import os
import signal
import sys
import threading

import jax
from jax.experimental import multihost_utils

from experiments import cli


class Watch:
  """What the signal's watcher and the training loop know of one another.

  Attributes:
    unsaved: set while there are steps that no checkpoint has.
    last_words: functions to call before an end at once, the last one first.
    is_due: is_due(step) -> whether to save and end after this step.
  """

  def __init__(self, is_due):
    self.unsaved, self.last_words = threading.Event(), []
    self.is_due = is_due

  def end(self, step: int) -> None:
    """Ends the run after a step that is saved."""
    sys.stderr.write(
      f"\npreempted at step {step}; saved; the same command resumes\n"
    )
    sys.exit(cli.EXIT_PREEMPTED)

  def end_at_once(self) -> None:
    """Ends the process from a thread that is not the main one."""
    for function in reversed(self.last_words):
      function()
    sys.stderr.write(
      "\npreempted; all there was is saved; the same command resumes\n"
    )
    sys.stderr.flush()
    os._exit(cli.EXIT_PREEMPTED)


@contextlib.contextmanager
def watch():
  """Yields a `Watch` of SIGTERM; to be entered by the main thread."""
  if jax.process_count() > 1:
    # JAX has its own handler, which tells the other processes.
    yield Watch(multihost_utils.reached_preemption_sync_point)
    return

  asked = threading.Event()
  watch = Watch(lambda step: asked.is_set())
  reader, writer = os.pipe()
  os.set_blocking(writer, False)

  def wait_for_signal():
    # Python runs handlers between two instructions of the main thread, which
    # may be minutes away inside XLA; the number of a signal comes at once.
    while number := os.read(reader, 1):
      if number[0] == signal.SIGTERM:
        asked.set()
        if not watch.unsaved.is_set():
          watch.end_at_once()

  thread = threading.Thread(target=wait_for_signal, daemon=True)
  thread.start()
  old_handler = signal.signal(signal.SIGTERM, lambda *_: None)
  old_fd = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
  try:
    yield watch
  finally:
    signal.set_wakeup_fd(old_fd)
    if not asked.is_set():  # A second signal must not end it otherwise.
      signal.signal(signal.SIGTERM, old_handler)
    os.close(writer)
    thread.join()
    os.close(reader)
