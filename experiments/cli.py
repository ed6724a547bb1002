# SPDX-License-Identifier: Apache-2.0
"""How the programs start, and how they say that the user must change something.

A mistake of the user's (ValueError, OSError in the set-up; any bad flag) is one
message on stderr and exit code 2. Everything else is a bug: a traceback.
"""

import contextlib
import sys

from absl import app
from absl import flags
import jax


def _parse(argv):
  try:
    return flags.FLAGS(argv)
  except flags.Error as error:
    message = str(error)
  # ml_collections raises these for a key that a locked config does not have.
  except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
    message = f"{error.args[0] if error.args else error}"
  except ImportError as error:
    message = f"the config can't be imported: {error}"
  sys.stderr.write(f"error: {message}\n")
  sys.exit(2)


@contextlib.contextmanager
def user_errors():
  """Turns the ValueError or OSError of a wrong input into one message."""
  try:
    yield
  except (ValueError, OSError) as error:
    sys.stderr.write(f"error: {error}\n")
    sys.exit(2)


def run(main):
  """Parses absl and JAX flags, then runs main(argv)."""
  jax.config.config_with_absl()
  app.run(main, flags_parser=_parse)
