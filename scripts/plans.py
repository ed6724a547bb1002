# SPDX-License-Identifier: Apache-2.0
"""Plans the paper's configs for the paper's TPUs and for newer ones.

The rows are those of `plan_rows`.

  python -m scripts.plans --jobs=2

Appends a line per row to experiments/results/plans.jsonl, from which
`scripts.tables` writes docs/plans.md. What the file has of the same code
and compiler is not compiled again, so a run that was stopped goes on. Two
compilations at once need up to 13 GiB of memory; all take two or three hours.
"""

from concurrent import futures
import importlib.metadata
import json
import pathlib
import subprocess
import time

from absl import flags
from absl import logging
import jax

from experiments import cli
from experiments import records
from experiments import workdir
from experiments.planning import planner
from scripts import plan_rows
from scripts import results
from scripts.sweep import points

ROOT = pathlib.Path(__file__).parent.parent

# What decides the compiled program and how it is read.
CODE = (
  "configs",
  "simple_diffusion",
  "experiments/chips.json",
  "experiments/checks.py",
  "experiments/planning",
)

_JOBS = flags.DEFINE_integer("jobs", 2, "Compilations at once.", 1)
_ONLY = flags.DEFINE_string(
  "only",
  "",
  "Rows whose 'config topology', or 'config topology guided', has these parts, "
  "such as 'uvit v4'.",
)


def code_commit() -> str | None:
  """The last commit of `CODE`; None if it was changed since, or without git."""

  def git(*args):
    command = ["git", "-C", str(ROOT), *args, "--", *CODE]
    return subprocess.run(
      command, capture_output=True, text=True, check=True
    ).stdout.strip()

  try:
    if git("status", "--porcelain"):
      return None
    return git("log", "-1", "--format=%h") or None
  except (OSError, subprocess.CalledProcessError):
    return None


def is_done(path: pathlib.Path, row: dict) -> bool:
  """Whether the file has this row, by this very code and compiler."""
  if row["code"] is None or not path.exists():
    return False
  lines = (json.loads(line) for line in path.read_text().splitlines())
  # Lines from before samplers were guided have no guidance_scale.
  return any(all(p.get(k) == v for k, v in row.items()) for p in lines)


def plan_row(path: pathlib.Path, row: plan_rows.Row, code: dict) -> str:
  """Plans one row and appends it; returns a line that says how it went."""
  began_s = time.perf_counter()
  guided = row.guidance_scale is not None
  config = points.parse_config(
    row.config, {"sample.guidance_scale": row.guidance_scale} if guided else {}
  )
  result = planner.plan(config, row.topology, jobs=1)
  records.append_result(
    path,
    {**row._asdict(), **code, **result, "environment": workdir.environment()},
  )
  spare = result["train_step"].get("spare")
  found = "too large" if spare is None else f"{spare:.0%} to spare"
  if result["remedies"] and result["remedies"][-1]["fits"]:
    found += f"; {result['remedies'][-1]['flags']} fits"
  return f"{row}: {found} ({time.perf_counter() - began_s:.0f} s)"


def main(_):
  # Where libtpu is installed, JAX would look for TPUs for minutes.
  jax.config.update("jax_platforms", "cpu")
  path = results.FOLDER / "plans.jsonl"
  commit = code_commit()
  if commit is None:
    logging.warning("The code is not committed: everything is compiled again.")
  code = {"code": commit, "libtpu": importlib.metadata.version("libtpu")}
  todo = []
  for row in plan_rows.rows():
    if all(part in str(row) for part in _ONLY.value.split()):
      if is_done(path, row._asdict() | code):
        print(f"there already: {row}")
      else:
        todo.append(row)
  failed = 0
  with futures.ThreadPoolExecutor(_JOBS.value) as pool:
    started = {pool.submit(plan_row, path, row, code): row for row in todo}
    for done in futures.as_completed(started):
      try:
        print(done.result(), flush=True)
      except (RuntimeError, ValueError) as error:
        failed += 1
        print(f"failed: {started[done]}: {error}", flush=True)
  if failed:
    raise SystemExit(1)


if __name__ == "__main__":
  cli.run(main)
