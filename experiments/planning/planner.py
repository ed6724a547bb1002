# SPDX-License-Identifier: Apache-2.0
"""Plans a config for a topology: what `experiments.plan` prints, as JSON."""

from concurrent import futures
import json
import os
import pathlib
import subprocess
import sys
import tempfile

from experiments import chips
from experiments import workdir
from experiments.planning import fit
from experiments.planning import roofline

ROOT = pathlib.Path(__file__).parent.parent.parent
FAST_EFFORT = -1.0  # of the compiler; memory differs from that at 0 by 2 %


def compile_program(
  config: dict, *, topology: str, program: str, effort: float
) -> dict:
  """Compiles in a process of its own; see `child`.

  Args:
    config: as JSON, with model.num_classes.
    topology: such as "v5e:16x16".
    program: "train_step" or "sample".
    effort: of the compiler.

  Raises:
    ValueError: if the config does not fit itself or the topology.
    RuntimeError: if the compiler fails.
  """
  request = dict(
    config=config, topology=topology, program=program, effort=effort
  )
  with tempfile.TemporaryDirectory() as folder:
    asked = pathlib.Path(folder) / "request.json"
    told = pathlib.Path(folder) / "answer.json"
    asked.write_text(json.dumps(request))
    done = subprocess.run(
      [sys.executable, "-m", "experiments.planning.child", asked, told],
      cwd=ROOT,
      env=os.environ,
      capture_output=True,
      text=True,
      check=False,
    )
    if done.returncode or not told.exists():
      lines = "\n".join(done.stderr.strip().splitlines()[-15:])
      raise RuntimeError(
        f"compiling {program} for {topology} ended with code "
        f"{done.returncode}:\n{lines}"
      )
    answer = json.loads(told.read_text())
  if answer.get("error") == "user":
    raise ValueError(answer["message"])
  return answer


def prepared(config) -> dict:
  """The config as JSON; classes that the data would tell count as one."""
  config = workdir.as_json(config)
  if config["model"]["num_classes"] is None:
    config["model"]["num_classes"] = 1
  return config


def plan(
  config,
  topology: str,
  *,
  effort: float = FAST_EFFORT,
  price_per_chip_hour: float | None = None,
  num_steps: int | None = None,
  jobs: int = 2,
  search: bool = True,
) -> dict:
  """Everything that the report says, as JSON.

  Args:
    config: an ml_collections.ConfigDict of configs/.
    topology: such as "v5e:16x16".
    effort: of the compiler; -1.0 is fastest.
    price_per_chip_hour: USD; None: the list price.
    num_steps: None: config.train.total_steps.
    jobs: compilations at once.
    search: whether to find what would make the step fit.

  Returns:
    {"topology", "num_chips", "chip", "effort", "overrides": the settings that
    are planned, "train_step" and "sample": answers of
    `child` with "spare", "speed" (see `roofline`), "fits"; "fsdp",
    "cost", "remedies": see `fit.search`}.

  Raises:
    ValueError: if config or topology are wrong.
    RuntimeError: if the compiler fails.
  """
  where = chips.parse_topology(topology)
  config = prepared(config)
  usable = where.chip.usable_bytes

  def compile_for(config, program):
    return compile_program(
      config, topology=topology, program=program, effort=effort
    )

  with futures.ThreadPoolExecutor(jobs) as pool:
    programs = ("train_step", "sample")
    started = [pool.submit(compile_for, config, name) for name in programs]
    answers = dict(zip(programs, [f.result() for f in started], strict=True))
  for answer in answers.values():
    answer["fits"] = "memory" in answer
    if answer["fits"]:
      answer["spare"] = roofline.spare(answer, where)
      answer["speed"] = roofline.speed(answer, where)
      answer["fits"] = answer["spare"] >= roofline.SPARE
  step = answers["train_step"]
  result = {
    "topology": topology,
    "num_chips": where.num_chips,
    "chip": {
      "name": where.chip.name,
      "peak_flops": where.chip.peak_flops,
      "usable_bytes": usable,
      "devices": where.chip.devices_per_chip,
    },
    "effort": effort,
    "overrides": {
      "mesh.data": step["mesh"]["data"],
      "mesh.fsdp": step["mesh"]["fsdp"],
      "model.remat": config["model"]["remat"],
      "train.batch_size": config["train"]["batch_size"],
      "train.accum_steps": config["train"]["accum_steps"],
    },
    **answers,
    "fsdp": None,
    "cost": None,
    "remedies": [],
  }
  if "speed" in step:
    result["fsdp"] = roofline.fsdp_traffic(
      step,
      dtype_bytes=2 if config["model"]["dtype"] == "bfloat16" else 4,
      accum_steps=config["train"]["accum_steps"],
    )
    if price_per_chip_hour is None:
      price_per_chip_hour = where.chip.usd_per_hour
    result["cost"] = roofline.cost(
      step_seconds=step["speed"]["step_seconds"],
      num_steps=num_steps or config["train"]["total_steps"],
      num_chips=where.num_chips,
      usd_per_hour=price_per_chip_hour,
    )
  if search and not step["fits"]:
    result["remedies"] = fit.search(
      config,
      step,
      num_devices=where.num_devices,
      usable=usable,
      least_spare=roofline.SPARE,
      compile_step=lambda config: compile_for(config, "train_step"),
    )
  return result
