# SPDX-License-Identifier: Apache-2.0
"""SIGTERM: the step in progress is finished and saved, then the run ends.

Clouds send it half a minute before they take a machine away. With several
processes JAX passes it on, and all of them stop after the same step. A process
alone that has nothing to save (it is compiling, say) ends at once.
"""

import contextlib
import os
import signal
import threading

import jax
from jax.experimental import multihost_utils


@contextlib.contextmanager
def watch(*, nothing_to_save, end_at_once):
  """Yields is_due(step), whether to save and end after this step.

  Args:
    nothing_to_save: nothing_to_save() -> whether the process may just end; it
      is called in another thread.
    end_at_once: called in that thread when the signal comes and it may.
  """
  if jax.process_count() > 1:
    # JAX has its own handler, which tells the other processes.
    yield multihost_utils.reached_preemption_sync_point
    return

  asked = threading.Event()
  reader, writer = os.pipe()
  os.set_blocking(writer, False)

  def wait_for_signal():
    # Python runs handlers between two instructions of the main thread, which
    # may be minutes away inside XLA; the number of a signal comes at once.
    while number := os.read(reader, 1):
      if number[0] == signal.SIGTERM:
        asked.set()
        if nothing_to_save():
          end_at_once()

  thread = threading.Thread(target=wait_for_signal, daemon=True)
  thread.start()
  old_handler = signal.signal(signal.SIGTERM, lambda *_: None)
  old_fd = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
  try:
    yield lambda step: asked.is_set()
  finally:
    signal.set_wakeup_fd(old_fd)
    signal.signal(signal.SIGTERM, old_handler)
    os.close(writer)
    thread.join()
    os.close(reader)
