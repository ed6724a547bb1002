# SPDX-License-Identifier: Apache-2.0
"""The start-up script of TPU workers, with git and bash as they are.

The cloud around it is stood in for by commands found first: the metadata
server, gcsfuse, gcloud and uv. The training is one that ends as it is told to.
"""

import json
import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parent.parent
SCRIPT = ROOT / "scripts" / "sweep" / "startup.sh"

COMMANDS = {
  # The metadata server: files below $META. It is the last argument's path.
  "curl": """path="${@: -1}"
cat "$META/${path##*/instance/}" 2> /dev/null || exit 22
""",
  "mountpoint": '[ -e "$LOG/mounted" ]\n',
  "gcsfuse": """echo "$@" >> "$LOG/gcsfuse"
[ ! -e "$LOG/no-bucket" ] && touch "$LOG/mounted"
""",
  "gcloud": 'echo "$@" >> "$LOG/gcloud"\n',
  "python3": """echo "$PWD $@" >> "$LOG/python3"
if [ "$3" = venv ]; then
  mkdir -p "$SWEEP_HOME/venv/bin"
  cp "$LOG/training" "$SWEEP_HOME/venv/bin/python"
fi
""",
}

# Ends as the next word of the plan says; "wait" is until SIGTERM, then 75.
TRAINING = """#!/bin/bash
printf '%s\\n' "$PWD" "$@" > "$LOG/command"
echo x >> "$LOG/starts"
word=$(sed -n "$(wc -l < "$LOG/starts")p" "$LOG/plan")
echo "training: $word"
if [ "$word" = wait ]; then
  trap 'rm "$META/preempted"; exit 75' TERM
  echo TRUE > "$META/preempted"
  while true; do sleep 0.05; done
fi
exit "$word"
"""


class Machine:
  """A TPU worker in a folder."""

  def __init__(self, folder, *, worker=0):
    self.folder = folder
    self.bin, self.meta, self.log, self.mount, self.home = (
      folder / name for name in ("bin", "meta", "log", "mount", "home")
    )
    for path in (self.bin, self.meta / "attributes", self.log):
      path.mkdir(parents=True)
    for name, body in COMMANDS.items():
      (self.bin / name).write_text(f"#!/bin/bash\n{body}")
      (self.bin / name).chmod(0o755)
    (self.log / "training").write_text(TRAINING)
    (self.log / "training").chmod(0o755)
    commit = self._repository()
    self.set("agent-worker-number", str(worker))
    for name, value in {
      "bucket": "buck",
      "workdir": "sweeps/digits/lr=0.1,seed=1",
      "repository": str(folder / "repository"),
      "commit": commit,
      "install": ".[tpu]",
      "command": "-m experiments.train '--config.a=(1, 2)' --distributed",
      "total-steps": "4",
      "resource": "digits-1",
      "zone": "z",
      "project": "p",
    }.items():
      self.set(f"sweep-{name}", value)

  def _repository(self):
    where = self.folder / "repository"
    where.mkdir()
    git = ["git", "-C", str(where), "-c", "user.name=a", "-c", "user.email=b"]
    for number in (1, 2):  # The point's commit is not the newest.
      (where / "number").write_text(str(number))
      if number == 1:
        subprocess.run([*git, "init", "-q"], check=True)
        config = ["config", "uploadpack.allowAnySHA1InWant", "true"]
        subprocess.run([*git, *config], check=True)
      subprocess.run([*git, "add", "number"], check=True)
      subprocess.run([*git, "commit", "-q", "-m", str(number)], check=True)
    done = subprocess.run(
      [*git, "rev-parse", "HEAD~"], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()

  def set(self, name, value):
    (self.meta / "attributes" / name).write_text(value)

  def boot(self, *plan):
    """Runs the script to its end; returns its exit code."""
    starts = self.log / "starts"
    before = starts.read_text().count("\n") if starts.exists() else 0
    (self.log / "plan").write_text(
      "\n".join(["-"] * before + list(plan)) + "\n"
    )
    environ = {
      "PATH": f"{self.bin}:{os.environ['PATH']}",
      "HOME": str(self.folder),
      "META": str(self.meta),
      "LOG": str(self.log),
      "SWEEP_HOME": str(self.home),
      "SWEEP_MOUNT": str(self.mount),
      "SWEEP_PAUSE_S": "0",
      "SWEEP_POLL_S": "0.1",
    }
    with open(self.folder / "console", "w") as console:
      return subprocess.run(
        ["bash", str(SCRIPT)],
        env=environ,
        stdout=console,
        stderr=console,
        check=False,
        timeout=60,
      ).returncode

  @property
  def point(self):
    return self.mount / "sweeps/digits/lr=0.1,seed=1"

  def marker(self):
    return json.loads((self.point / "sweep.json").read_text())

  def said(self, command):
    path = self.log / command
    return path.read_text().splitlines() if path.exists() else []


def test_installs_restarts_and_gives_back(tmp_path):
  machine = Machine(tmp_path)
  assert machine.boot("75", "75", "0") == 0
  assert len(machine.said("starts")) == 3
  # The commit that was asked for, not the newest.
  assert (machine.home / "code" / "number").read_text() == "1"
  assert machine.said("command") == [
    str(machine.home / "code"),
    "-m",
    "experiments.train",
    "--config.a=(1, 2)",
    "--distributed",
  ]
  (mounted,) = machine.said("gcsfuse")
  assert mounted.endswith(f"buck {machine.mount}")
  assert f"{machine.home}/code -m uv pip install" in machine.said("python3")[-1]
  assert machine.said("python3")[-1].endswith("-e .[tpu]")
  marker = machine.marker()
  assert marker["state"] == "done" and marker["exit_code"] == 0
  assert marker["total_steps"] == 4
  log = (machine.point / "logs" / "worker-0.txt").read_text()
  assert log.count("training: 75") == 2 and "training: 0" in log
  (deleted,) = machine.said("gcloud")
  assert deleted.startswith(
    "compute tpus queued-resources delete digits-1 --zone=z --project=p --force"
  )


def test_boots_again_without_installing_again(tmp_path):
  machine = Machine(tmp_path)
  assert machine.boot("0") == 0
  commands = len(machine.said("python3"))
  assert machine.boot("0") == 0
  assert len(machine.said("python3")) == commands
  assert len(machine.said("gcsfuse")) == 1 and len(machine.said("starts")) == 2


def test_preemption_reaches_the_training(tmp_path):
  machine = Machine(tmp_path)
  assert machine.boot("wait", "0") == 0
  log = (machine.point / "logs" / "worker-0.txt").read_text()
  assert "worker 0: exit code 75" in log
  assert machine.marker()["state"] == "done"


@pytest.mark.parametrize(
  "plan,code",
  [(["2"], 2), (["1"] * 2, 1), (["134"] * 5, 134), (["69"] * 5, 69)],
)
def test_failures_end_it(tmp_path, plan, code):
  machine = Machine(tmp_path)
  # One more than the plan has would start a training without a word.
  assert machine.boot(*plan) == 1
  assert len(machine.said("starts")) == len(plan)
  assert machine.marker()["state"] == "failed"
  assert machine.marker()["exit_code"] == code
  assert len(machine.said("gcloud")) == 1


def test_commit_that_is_not_there(tmp_path):
  machine = Machine(tmp_path)
  machine.set("sweep-commit", "0" * 40)
  assert machine.boot("0") == 1
  assert machine.marker()["state"] == "failed" and not machine.said("starts")
  log = (machine.point / "logs" / "worker-0.txt").read_text()
  assert "try 5 failed: check_out" in log
  assert len(machine.said("gcloud")) == 1


def test_bucket_that_is_not_there(tmp_path):
  machine = Machine(tmp_path)
  (machine.log / "no-bucket").touch()
  assert machine.boot("0") == 1
  assert len(machine.said("gcsfuse")) == 5
  assert len(machine.said("gcloud")) == 1 and not machine.said("starts")


def test_metadata_that_is_not_there(tmp_path):
  machine = Machine(tmp_path)
  for value in (None, ""):  # not set, and empty
    if value is None:
      (machine.meta / "attributes" / "sweep-command").unlink()
    else:
      machine.set("sweep-command", value)
    assert machine.boot("0") == 1
    console = (tmp_path / "console").read_text()
    assert "no attributes/sweep-command in the metadata" in console
  (deleted, _) = machine.said("gcloud")
  assert "delete digits-1 --zone=z --project=p" in deleted
  assert not machine.said("gcsfuse") and not machine.said("starts")


def test_size_of_the_log_is_told(tmp_path):
  machine = Machine(tmp_path)
  assert machine.boot("0") == 0
  size = int((machine.point / "logs" / "bytes.txt").read_text())
  log = (machine.point / "logs" / "worker-0.txt").read_bytes()
  assert abs(size - len(log)) < 100 < size  # It is being written.


def test_other_workers_train_and_fail(tmp_path):
  machine = Machine(tmp_path, worker=3)
  assert machine.boot("75", "0") == 0
  assert len(machine.said("starts")) == 2
  names = {path.name for path in machine.point.iterdir()}
  assert names == {"logs"}
  assert not machine.said("gcloud")
  log = (machine.point / "logs" / "worker-3.txt").read_text()
  assert "training: 0" in log
  # What one of them cannot do, nobody waits for.
  machine.set("sweep-commit", "0" * 40)
  assert machine.boot("0") == 1
  marker = json.loads((machine.point / "failed.json").read_text())
  assert marker["state"] == "failed" and marker["worker"] == 3
  assert not (machine.point / "sweep.json").exists()
  assert len(machine.said("gcloud")) == 1


def test_first_worker_forgets_the_failure_of_another_launch(tmp_path):
  machine = Machine(tmp_path)
  machine.point.mkdir(parents=True)
  (machine.point / "failed.json").write_text('{"state": "failed"}')
  assert machine.boot("0") == 0
  assert not (machine.point / "failed.json").exists()
