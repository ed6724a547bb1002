# SPDX-License-Identifier: Apache-2.0
"""How the programs start, and how they say that the user must change something.

A mistake of the user's (ValueError, OSError, ImportError where it is looked
for; any bad flag) is one message on stderr and exit code 2. A diverged run is
one and exit code 1. A run that was preempted and saved ends with code 75; the
same command goes on. One whose other processes did not come in time ends with
code 69; the same command may go on. Ctrl-C ends a process alone at once, with
code 130. Everything else is a bug: a traceback.
"""

import contextlib
import functools
import logging as stdlib_logging
import os
import pathlib
import re
import sys

from absl import app
from absl import flags
from absl import logging
import jax

# EX_TEMPFAIL of sysexits.h: a temporary failure, try again.
EXIT_PREEMPTED = 75
# EX_UNAVAILABLE: what it needs is not there, and may never be.
EXIT_ALONE = 69

# As ml_collections says it.
_MISSPELT = re.compile(r"""'(?P<key>\w+)' Did you mean "(?P<meant>\w+)\"""")


def _parse(argv, on_bad_flags):
  try:
    rest = flags.FLAGS(argv)
    if "config" in flags.FLAGS:
      # A file that is not there speaks up only when the config is used.
      _ = flags.FLAGS.config.keys
    return rest
  # ml_collections raises these for a key that a locked config does not have,
  # and what a config raises when it does not know its argument.
  except (
    flags.Error,
    AttributeError,
    KeyError,
    OSError,
    ValueError,
  ) as error:
    message = _message(error, argv)
    sys.stderr.write(f"error: {message}\n")
    sys.stderr.flush()
    on_bad_flags(message)
    sys.exit(2)


def _message(error, argv) -> str:
  """Without what wrappers put around it or a traceback."""
  while error.args and isinstance(error.args[0], BaseException):
    error = error.args[0]
  message = str(error.args[0] if error.args else error)
  if "Traceback" in message or "Failed loading config" in message:
    last = message.strip().splitlines()[-1].strip()
    if "get_config() takes 0 positional arguments" in last:
      return "the config takes no argument: leave out the colon and the rest"
    return last.removeprefix("ValueError: ")
  message = " ".join(message.split())
  if " " not in message:  # Nothing is similar; the key is all that it says.
    return _no_such_key(message.strip("\"'"), None, argv)
  if misspelt := _MISSPELT.match(message):
    return _no_such_key(misspelt["key"], misspelt["meant"], argv)
  return message


def _no_such_key(key, meant, argv) -> str:
  """Names the flag that has the key, unless several may."""
  names = {flag.partition("=")[0] for flag in argv}
  having = [name for name in names if key in name.split(".")[1:]]
  where = having[0] if len(having) == 1 else "the config"
  remedy = f'Did you mean "{meant}"?' if meant else "See configs/common.py."
  return f"{where}: there is no key {key!r}. {remedy}"


def tell(mistake) -> None:
  """The one message of a user's mistake."""
  # What a cut checkpoint leaves pending has nothing to say after this.
  stdlib_logging.getLogger("asyncio").disabled = True
  sys.stderr.write(f"error: {mistake}\n")
  sys.stderr.flush()


@contextlib.contextmanager
def user_errors():
  """Turns the error of a wrong input into one message."""
  try:
    yield
  except (ValueError, OSError, ImportError) as error:
    tell(error)
    sys.exit(2)


def _keep_compiled_programs():
  """What took long to compile is compiled once a machine, not once a run."""
  # The flag and the variable of JAX come first; an empty one is for never.
  if "JAX_COMPILATION_CACHE_DIR" in os.environ:
    return
  if jax.config.jax_compilation_cache_dir is not None:
    return
  cache = pathlib.Path("~/.cache/simple_diffusion/xla").expanduser()
  try:
    cache.mkdir(parents=True, exist_ok=True)
  except OSError:  # A home that can't be written to.
    return
  jax.config.update("jax_compilation_cache_dir", str(cache))


def run(main, on_bad_flags=lambda message: None):
  """Parses absl and JAX flags, then runs main(argv).

  Libraries log at level info by the page: they are heard with --verbosity=0.

  Args:
    main: main(argv).
    on_bad_flags: called with the message before bad flags end the program.
  """
  jax.config.config_with_absl()
  logging.set_verbosity(logging.WARNING)

  def main_or_message(argv):
    _keep_compiled_programs()
    try:
      main(argv)
    except FloatingPointError as error:  # A diverged run is no bug of ours.
      sys.stderr.write(f"error: {error}\n")
      sys.exit(1)
    except KeyboardInterrupt:
      sys.stderr.write("interrupted\n")
      sys.exit(130)  # 128 + SIGINT, as shells have it

  parse = functools.partial(_parse, on_bad_flags=on_bad_flags)
  app.run(main_or_message, flags_parser=parse)
