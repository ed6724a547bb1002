# SPDX-License-Identifier: Apache-2.0
"""Exports points as SkyPilot tasks, for the clouds that Cloud TPU is not.

The fields are those of https://docs.skypilot.co/en/latest/reference/yaml-spec
and of the schema in sky/utils/schemas.py there; SkyPilot itself is not needed.
"""

import pathlib
import re
import shlex

import yaml

from experiments import cli
from scripts.sweep import names
from scripts.sweep import points as points_lib

MOUNT = "/sweep"
# Hosts install at different speeds.
JOIN_TIMEOUT_S = 1800
# What a managed job restarts by itself; a crash may be chance.
MAX_RESTARTS_ON_ERRORS = 3


def task(
  point: points_lib.Point,
  *,
  sweep: str,
  root: str,
  repository: str,
  commit: str,
  accelerators: str,
  infra: str,
  use_spot: bool,
  install: str,
) -> dict:
  """One managed job, which resumes from the bucket wherever it is moved.

  Args:
    point: what to train.
    sweep: name of the sweep.
    root: bucket and folder of the points' folders, such as s3://bucket/folder.
    repository: that is checked out.
    commit: of it.
    accelerators: such as H100:8 or tpu-v5litepod-16.
    infra: cloud[/region[/zone]]; "" for the cheapest.
    use_spot: whether machines may be taken away.
    install: what pip installs in the checkout, such as ".[cuda]".

  Raises:
    ValueError: if the root is not in a bucket.
  """
  scheme = re.fullmatch(r"([a-z0-9]+://[^/]+)/?(.*)", root)
  if not scheme:
    raise ValueError(
      f"--root={root} must be BUCKET/FOLDER of a store, such as "
      "s3://bucket/sweeps/digits: machines come and go"
    )
  bucket, folder = scheme[1], scheme[2].strip("/")
  workdir = "/".join(part for part in (MOUNT, folder, point.name) if part)
  command = ["-m", "experiments.train", *point.flags, f"--workdir={workdir}"]
  # With MOUNT a store takes neither appended records nor renamed checkpoints;
  # with MOUNT_CACHED a disk does (memory). But hosts must see one another's.
  mode = "MOUNT_CACHED"
  if accelerators.startswith("tpu-"):  # One job runs on all hosts of a slice.
    mode = "MOUNT"
    command += ["--distributed", f"--join_timeout_s={JOIN_TIMEOUT_S}"]
  resources = {
    "accelerators": accelerators,
    "use_spot": use_spot,
    "job_recovery": {
      "strategy": "FAILOVER",
      "max_restarts_on_errors": MAX_RESTARTS_ON_ERRORS,
      # Training that was told to stop, and has saved.
      "recover_on_exit_codes": [cli.EXIT_PREEMPTED],
    },
  }
  if infra:
    resources["infra"] = infra
  return {
    "name": names.resource_id(sweep, root, point.name),
    "workdir": {"url": repository, "ref": commit},
    "resources": resources,
    "file_mounts": {MOUNT: {"source": bucket, "mode": mode}},
    "setup": (
      "pip install -q uv\n"
      "uv venv -q --clear --python 3.11 .venv\n"
      f"uv pip install -q --python .venv/bin/python -e {shlex.quote(install)}\n"
    ),
    "run": f".venv/bin/python {shlex.join(command)}\n",
  }


def num_devices(accelerators: str) -> int:
  """Devices of such as H100:8, A100 or tpu-v5litepod-16.

  Raises:
    ValueError: if the text is of another form.
  """
  if match := re.fullmatch(r"tpu-(\w+)-(\d+)", accelerators):
    # Types of v4 and v5p count cores, of which two are one device.
    return int(match[2]) // (2 if match[1] in ("v4", "v5p") else 1)
  match = re.fullmatch(r"[A-Za-z][\w.-]*(?::([1-9]\d*))?", accelerators)
  if not match:
    raise ValueError(
      f"--accelerators={accelerators} must be NAME:NUMBER, such as H100:8, or "
      "tpu-v5litepod-16"
    )
  return int(match[1] or 1)


class _Dumper(yaml.SafeDumper):
  """Writes scripts as blocks of lines."""


def _text(dumper, text):
  style = "|" if "\n" in text else None
  return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def export(points, out: pathlib.Path, **options) -> list[pathlib.Path]:
  """Writes one file for each point; see `task` for the options."""
  tasks = {point.name: task(point, **options) for point in points}
  out.mkdir(parents=True, exist_ok=True)
  written = []
  for name, content in tasks.items():
    written.append(out / f"{name}.yaml")
    written[-1].write_text(
      yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=1_000)
    )
  return written
