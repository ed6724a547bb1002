# SPDX-License-Identifier: Apache-2.0
"""The commit that rented machines check out, and where from."""

import pathlib
import re
import subprocess

# What a training is made of: other files may differ, such as results or plans.
CODE = (
  *("configs", "experiments", "losses", "simple_diffusion"),
  *("pyproject.toml", "setup.cfg"),
)
RESULTS = "experiments/results"

ROOT = pathlib.Path(__file__).parent.parent.parent


def _git(root, *args) -> str:
  try:
    done = subprocess.run(
      ["git", "-C", str(root), *args],
      capture_output=True,
      text=True,
      check=True,
    )
  except FileNotFoundError as error:
    raise ValueError("git is not installed; give --commit") from error
  except subprocess.CalledProcessError as error:
    raise ValueError(
      f"git {args[0]}: {error.stderr.strip()}; give --commit and --repository"
    ) from error
  return done.stdout.strip()


def pushed_commit(config: str, root: pathlib.Path = ROOT) -> str:
  """HEAD, if that is the code here and others can fetch it.

  Args:
    config: path of the config's file, which need not be in configs/.
    root: of the repository.

  Raises:
    ValueError: if code is changed or the commit is not pushed.
  """
  _check_inside(config)
  paths = (*CODE, config, f":(exclude){RESULTS}")
  if changed := _git(root, "status", "--porcelain", "--", *paths):
    first = changed.splitlines()[0].strip()
    raise ValueError(
      f"the working tree differs from its commit ({first}, ...): rented "
      "machines check out a commit. Commit and push, or name one with --commit"
    )
  commit = _git(root, "rev-parse", "HEAD")
  if not _git(root, "branch", "--remotes", "--contains", commit):
    raise ValueError(
      f"commit {commit[:12]} is not pushed: rented machines could not fetch "
      "it. git push, or name another one with --commit"
    )
  return commit


def named_commit(name: str, root: pathlib.Path = ROOT) -> str:
  """All 40 hex digits of what --commit names.

  Raises:
    ValueError: if there is no such commit here.
  """
  if re.fullmatch("[0-9a-f]{40}", name):
    return name  # Perhaps only the repository has it.
  return _git(root, "rev-parse", "--verify", f"{name}^{{commit}}")


def check_file(path: str, commit: str, root: pathlib.Path = ROOT) -> None:
  """Raises ValueError if a config is not one of the commit's files."""
  _check_inside(path)
  try:
    _git(root, "rev-parse", "--verify", f"{commit}^{{commit}}")
  except ValueError:
    return  # A commit that is not here: it can't be asked.
  try:
    _git(root, "cat-file", "-e", f"{commit}:{path}")
  except ValueError as error:
    raise ValueError(
      f"--config={path} is not in commit {commit[:12]}; commit and push it"
    ) from error


def _check_inside(path: str) -> None:
  if pathlib.Path(path).is_absolute() or ".." in pathlib.Path(path).parts:
    raise ValueError(
      f"--config={path} must be a path in the repository, such as "
      "configs/digits.py: rented machines have nothing else"
    )


def repository(root: pathlib.Path = ROOT) -> str:
  """Where machines without our keys fetch from: origin, by https.

  Raises:
    ValueError: if there is no remote called origin, or it is no address.
  """
  url = _git(root, "remote", "get-url", "origin")
  # Another port of ssh's is none of https's.
  form = r"ssh://git@([^:/]+)(?::\d+)?/(.+)|git@([^:/]+):(.+)"
  if ssh := re.fullmatch(form, url):
    host, path = (part for part in ssh.groups() if part)
    return f"https://{host}/{path}"
  # A password in it would be there for all to read in the machines' metadata.
  url = re.sub(r"^(https?://)[^/@]+@", r"\1", url)
  check_address(url, "the remote origin")
  return url


def check_address(url: str, source: str) -> None:
  """Raises ValueError if machines elsewhere cannot fetch from a URL.

  Args:
    url: of a repository.
    source: what says so, such as "--repository".
  """
  if not re.match(r"(https|ssh)://[^/]+/.|git@[^/:]+:.", url):
    raise ValueError(
      f"{source} is {url}: rented machines cannot fetch from there. Give "
      "--repository=https://HOST/PATH (or ssh://..., git@HOST:PATH)"
    )
