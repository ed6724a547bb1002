# SPDX-License-Identifier: Apache-2.0
"""What a sweep leaves to be read: results, and tasks for SkyPilot."""

import json
import os
import re
import shlex
import sys

import ml_collections
import numpy as np
import PIL.Image
import pytest
import yaml

from scripts.sweep import points as points_lib
from scripts.sweep import results
from scripts.sweep import skypilot


def point_of(name, **overrides):
  config = ml_collections.ConfigDict({"train": {"total_steps": 4}})
  return points_lib.Point(name, overrides, (f"--config=c,{name}",), config)


@pytest.fixture
def root(tmp_path):
  """Three points: one done, one under way, one not begun."""
  values = {"a": (4.0, 3.0, 2.5), "b": (4.0, 1.5)}
  for name, losses in values.items():
    (tmp_path / name).mkdir()
    lines = [
      json.dumps({"step": 2 * i, "loss": loss, "v_mse": loss / 2})
      for i, loss in enumerate(losses)
    ]
    # The last line is being written.
    text = "\n".join(lines) + '\n{"step": 9, "lo'
    (tmp_path / name / "metrics.jsonl").write_text(text)
  (tmp_path / "a" / "checkpoints" / "4").mkdir(parents=True)
  (tmp_path / "b" / "config.json").touch()
  return tmp_path


POINTS = [
  point_of("a", **{"optim.lr": 1e-4, "schedule.n": 32.0, "schedule.d": 32.0}),
  point_of("b", **{"optim.lr": 1e-3, "schedule.n": 64.0, "schedule.d": 64.0}),
  point_of("c", **{"optim.lr": 1e-2, "schedule.n": 32.0, "schedule.d": 32.0}),
]


def test_results(root):
  text = results.write(str(root), POINTS, metric="v_mse", out=root / "out")
  lines = (root / "out" / "sweep.jsonl").read_text().splitlines()
  made = [json.loads(line) for line in lines]
  assert made[0] == {
    "point": "a",
    "state": "done",
    "overrides": POINTS[0].overrides,
    "step": 4,
    "total_steps": 4,
    "loss": 2.5,
    "v_mse": 1.25,
  }
  assert [row["state"] for row in made[1:]] == ["preempted", "not started"]
  assert [row["v_mse"] for row in made[1:]] == [0.75, None]
  # The lowest first, those without a number last.
  names = [line.split()[0] for line in text.splitlines()]
  assert names[:4] == ["point", "b", "a", "c"]
  highest = results.table(made, "v_mse", maximise=True).splitlines()
  assert [line.split()[0] for line in highest] == ["point", "a", "b", "c"]
  assert re.search(r"^c +not started +0 +- +-$", text, re.MULTILINE)
  with pytest.raises(ValueError, match="--metric=fid .* step, loss, v_mse"):
    results.write(str(root), POINTS, metric="fid", out=root)


def test_plot(root):
  results.write(str(root), POINTS, metric="loss", out=root)
  made = [
    json.loads(line) for line in (root / "sweep.jsonl").read_text().splitlines()
  ]
  # lr and one of the two that go together.
  assert results.swept_numbers(made) == {
    "optim.lr": [1e-4, 1e-3, 1e-2],
    "schedule.n": [32.0, 64.0, 32.0],
  }
  with PIL.Image.open(root / "sweep.png") as image:
    pixels = np.asarray(image.convert("RGB")).astype(int)
  # Point "a" is drawn in the first colour in all three panels, "b" in the
  # second: a curve, and a dot for each swept number.
  thirds = np.array_split(pixels, 3, axis=1)
  for colour in results.COLOURS[:2]:
    wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    for panel in thirds:
      assert (np.abs(panel - wanted).max(axis=-1) < 8).sum() > 10
  third = [int(results.COLOURS[2][i : i + 2], 16) for i in (1, 3, 5)]
  for panel in thirds[1:]:  # "c" has no result to be drawn as a dot.
    assert not (np.abs(panel - third).max(axis=-1) < 8).any()


def test_without_matplotlib(root, monkeypatch):
  monkeypatch.setitem(sys.modules, "matplotlib", None)  # as if not installed
  text = results.write(str(root), POINTS, metric="loss", out=root)
  assert text.endswith("sweep.jsonl; for a plot pip install matplotlib")
  assert not (root / "sweep.png").exists()


def test_seeds_and_words_have_no_panel():
  made = [
    {"overrides": {"train.seed": i, "model.name": "ab"[i], "a.b": bool(i)}}
    for i in range(2)
  ]
  assert results.swept_numbers(made) == {}


OPTIONS = dict(
  sweep="digits",
  root="s3://bucket/sweeps/digits",
  repository="https://host/code",
  commit="0" * 40,
  accelerators="H100:8",
  infra="aws",
  use_spot=True,
  install=".[cuda]",
)

# Of the task and its resources, as sky/utils/schemas.py of SkyPilot has them.
TASK_FIELDS = {
  "name": str,
  "workdir": dict,
  "resources": dict,
  "file_mounts": dict,
  "setup": str,
  "run": str,
}
RESOURCE_FIELDS = {
  "accelerators": str,
  "infra": str,
  "use_spot": bool,
  "job_recovery": dict,
}


def test_skypilot_tasks(tmp_path):
  written = skypilot.export(POINTS, tmp_path / "tasks", **OPTIONS)
  assert [path.name for path in written] == ["a.yaml", "b.yaml", "c.yaml"]
  task = yaml.safe_load(written[1].read_text())
  assert {key: type(value) for key, value in task.items()} == TASK_FIELDS
  resources = task["resources"]
  assert {k: type(v) for k, v in resources.items()} == RESOURCE_FIELDS
  assert resources["job_recovery"] == {
    "strategy": "FAILOVER",
    "max_restarts_on_errors": 3,
    "recover_on_exit_codes": [os.EX_TEMPFAIL],
  }
  assert task["workdir"] == {"url": "https://host/code", "ref": "0" * 40}
  # The bucket that is mounted is where the folder is.
  assert task["file_mounts"] == {
    "/sweep": {"source": "s3://bucket", "mode": "MOUNT_CACHED"}
  }
  command = shlex.split(task["run"])
  assert command[:4] == [
    ".venv/bin/python",
    "-m",
    "experiments.train",
    "--config=c,b",
  ]
  assert command[4:] == ["--workdir=/sweep/sweeps/digits/b"]


def test_skypilot_on_tpu():
  options = OPTIONS | {"accelerators": "tpu-v5litepod-16", "infra": ""}
  task = skypilot.task(POINTS[0], **options)
  assert shlex.split(task["run"])[-2:] == [
    "--distributed",
    "--join_timeout_s=1800",
  ]
  assert task["file_mounts"]["/sweep"]["mode"] == "MOUNT"
  assert "infra" not in task["resources"]


@pytest.mark.parametrize(
  "text,number",
  [
    ("H100:8", 8),
    ("A100-80GB", 1),
    ("tpu-v5litepod-16", 16),
    ("tpu-v4-16", 8),
  ],
)
def test_devices_of_accelerators(text, number):
  assert skypilot.num_devices(text) == number


@pytest.mark.parametrize("text", ["{H100:8, A100:8}", "H100:0", "8"])
def test_accelerators_of_another_form(text):
  with pytest.raises(ValueError, match="must be NAME:NUMBER"):
    skypilot.num_devices(text)


def test_skypilot_needs_a_bucket(tmp_path):
  with pytest.raises(ValueError, match="--root=runs/digits must be BUCKET"):
    skypilot.export(POINTS, tmp_path, **(OPTIONS | {"root": "runs/digits"}))
  assert not list(tmp_path.iterdir())
