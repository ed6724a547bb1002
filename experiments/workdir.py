# SPDX-License-Identifier: Apache-2.0
"""A run's folder: which config it belongs to, and what it was run with."""

import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import sys
import tempfile

from flax import traverse_util
import jax
import ml_collections

# Settings that may change between two starts of one run: they touch neither
# the parameters' path nor the record's shape.
MUTABLE = (
  "data.data_dir",
  "data.eval_split",
  "data.in_memory",
  "data.num_threads",
  "eval",
  "mesh",
  "model.remat",
  "model.scan_unroll",
  "sample",
  "train.total_steps",
  "train.checkpoint_every_steps",
  "train.keep_checkpoints",
  "train.sample_every_steps",
)


def immutable(tree, prefix=""):
  """The tree without the settings that may change."""
  kept = {k: v for k, v in tree.items() if prefix + k not in MUTABLE}
  return {
    k: immutable(v, f"{prefix}{k}.") if isinstance(v, dict) else v
    for k, v in kept.items()
  }


def differences(old: dict, new: dict, *, there: str, here: str) -> list[str]:
  """What differs between two trees of plain values, each in one phrase."""
  old, new = (traverse_util.flatten_dict(t, sep=".") for t in (old, new))
  return [
    f"{key} is {old.get(key)!r} {there}, {new.get(key)!r} {here}"
    for key in sorted(old.keys() | new.keys())
    if old.get(key) != new.get(key)
  ]


def write_whole(path: pathlib.Path, text: str) -> None:
  """Writes a file whole or not at all."""
  temporary = path.with_name(path.name + ".tmp")
  temporary.write_text(text)
  os.replace(temporary, path)


def write_json(path: pathlib.Path, content) -> None:
  """Writes a file whole or not at all."""
  write_whole(path, json.dumps(content, indent=2) + "\n")


def check(
  workdir: str, config: ml_collections.ConfigDict, num_images: int
) -> pathlib.Path:
  """Makes the folder, or checks that it is a run of this config and data.

  Args:
    workdir: the folder.
    config: of the run.
    num_images: in the training split; the order of all batches depends on it.

  Raises:
    PermissionError: if the folder can't be written to.
    ValueError: if it holds a run of another config, or of another number of
      images than the training split has.
  """
  if "://" in workdir:
    raise ValueError(
      f"--workdir={workdir} must be a folder of this machine; mount the "
      "bucket, e.g. with gcsfuse"
    )
  path = pathlib.Path(workdir)
  try:
    path.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=path):
      pass
  except OSError as error:
    raise PermissionError(
      f"--workdir={workdir} can't be written to ({error.strerror}); choose a "
      "folder of your own"
    ) from error
  if (path / "checkpoints").exists() and not (path / "config.json").exists():
    raise ValueError(
      f"--workdir={workdir} has checkpoints but no config.json to say what of; "
      "use another --workdir"
    )
  _require_same(path, config, num_images)
  return path


def _require_same(path, config, num_images):
  """Raises ValueError if the folder has another run's config or data."""
  if not (path / "config.json").exists():
    return
  old = json.loads((path / "config.json").read_text())
  changed = differences(
    {"config": immutable(old)},
    {"config": immutable(as_json(config))},
    there="there",
    here="here",
  )
  if changed:
    raise ValueError(
      f"--workdir={path} holds a run of another config: {'; '.join(changed)}. "
      "Use another --workdir, or the same config"
    )
  require_images(path, config, num_images)


def require_images(
  path: pathlib.Path, config: ml_collections.ConfigDict, num_images: int
) -> None:
  """Raises ValueError if a run was trained on another number of images.

  Its batches would be others, and so would its held-out images where the split
  is a slice. A run of before the number was written down passes.
  """
  if not (path / "environment.json").exists():
    return
  begun_with = json.loads((path / "environment.json").read_text())
  if begun_with.get("num_images", num_images) != num_images:
    raise ValueError(
      f"--workdir={path} holds a run of {begun_with['num_images']:,} images, "
      f"and data.split={config.data.split!r} of {config.data.name} has "
      f"{num_images:,} now. Give it the same images (data_dir), or train in "
      "another --workdir"
    )


def claim(
  path: pathlib.Path, config: ml_collections.ConfigDict, num_images: int
) -> None:
  """Writes config.json and environment.json, while the caller has the lock.

  Raises:
    ValueError: if another run came between since `check`.
  """
  _require_same(path, config, num_images)
  write_json(path / "config.json", as_json(config))
  write_json(
    path / "environment.json", {**environment(), "num_images": num_images}
  )


def as_json(config: ml_collections.ConfigDict) -> dict:
  """A config as plain JSON: tuples become lists."""
  return json.loads(config.to_json(sort_keys=True))


def load_config(workdir: str) -> ml_collections.ConfigDict:
  """The config that a run was started with; executes none of its code.

  Raises:
    FileNotFoundError: if the folder holds no run.
  """
  path = pathlib.Path(workdir) / "config.json"
  if not path.exists():
    raise FileNotFoundError(
      f"{path} does not exist: train first, or check --workdir"
    )
  return ml_collections.ConfigDict(json.loads(path.read_text()))


def git_sha() -> str | None:
  """The commit of the code that runs, "-dirty" if it was changed since.

  Results that were appended are not code.
  """
  root = pathlib.Path(__file__).parent.parent

  def git(*args):
    command = ["git", "-C", str(root), *args]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip()

  code = ("--", ".", ":(exclude)experiments/results")
  try:
    sha = git("rev-parse", "--short=12", "HEAD")
    changed = git("status", "--porcelain", "--untracked-files=no", *code)
  except (OSError, subprocess.CalledProcessError):
    return None
  return f"{sha}-dirty" if changed else sha


def _program():
  spec = sys.modules["__main__"].__spec__
  return spec.name if spec else pathlib.Path(sys.argv[0]).name


def environment() -> dict:
  """What a result depends on beside its config."""
  packages = ("jax", "jaxlib", "flax", "optax", "numpy", "grain")
  return {
    "command": ["python", "-m", _program(), *sys.argv[1:]],
    "git_sha": git_sha(),
    "python": platform.python_version(),
    "versions": {name: importlib.metadata.version(name) for name in packages},
    "devices": [device.device_kind for device in jax.devices()],
    "num_processes": jax.process_count(),
    "num_cores": os.cpu_count(),
    "xla_flags": os.environ.get("XLA_FLAGS"),
  }
