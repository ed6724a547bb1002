# SPDX-License-Identifier: Apache-2.0
"""Compiles one program of a config for TPUs that are not here, and reads it.

  python -m experiments.planning.child request.json answer.json

`experiments.plan` starts this as a process of its own: the compiler is
configured by environment variables that must be set before JAX is imported,
takes gigabytes, and two programs can then be compiled at once.

The request: {"config", "topology", "program": "train_step" or "sample",
"effort"}. The answer holds what was found, or "error": "user", what the user
must change, or "memory", that the program is too large for the chip.
"""

import importlib.util
import json
import os
import pathlib
import re
import resource
import sys
import time

# Without a TPU, libtpu would look for one on the network and log.
ENVIRONMENT = {
  "JAX_PLATFORMS": "cpu",
  "JAX_ENABLE_COMPILATION_CACHE": "false",  # it would hide the time it takes
  "TPU_SKIP_MDS_QUERY": "1",
  "TPU_WORKER_HOSTNAMES": "localhost",
  "TPU_ACCELERATOR_TYPE": "v5litepod-8",  # any; the topology says which
  "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
  "TPU_LOG_DIR": "disabled",
}
if __name__ == "__main__":
  os.environ.update(ENVIRONMENT)

import jax  # noqa: E402
from jax.experimental import topologies  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import ml_collections  # noqa: E402
import numpy as np  # noqa: E402

from experiments import checks  # noqa: E402
from experiments import chips  # noqa: E402
from experiments.planning import collectives  # noqa: E402
from experiments.planning import costs  # noqa: E402
from experiments.planning import hlo  # noqa: E402
from simple_diffusion import build  # noqa: E402
from simple_diffusion import programs as programs_lib  # noqa: E402
from simple_diffusion import sharding  # noqa: E402
from simple_diffusion import sizes  # noqa: E402

_UNITS = {"B": 0, "K": 10, "M": 20, "G": 30, "T": 40}


def devices_of(topology: chips.Topology):
  """The devices of a slice, to compile for.

  Raises:
    ValueError: if the TPU compiler is not installed.
  """
  if importlib.util.find_spec("libtpu") is None:
    raise ValueError(
      "compiling for TPUs needs libtpu, on a CPU, too; pip install -e '.[plan]'"
    )
  options = {}
  if topology.chip.name in ("v4", "v5p"):  # two cores that act as one device
    options["chip_config_name"] = "megacore"
  if topology.num_chips == 1:
    options["chips_per_host_bounds"] = (1, 1, 1)
  description = topologies.get_topology_desc(
    topology.text, platform="tpu", **options
  )
  return description.devices


def _device_bytes(tree) -> int:
  """Bytes that one device holds of a tree of sharded shapes."""
  return sum(
    int(np.prod(leaf.sharding.shard_shape(leaf.shape))) * leaf.dtype.itemsize
    for leaf in jax.tree.leaves(tree)
  )


def _inputs(config, programs, program):
  """(function, its arguments, examples in one run)."""
  if program == "train_step":
    arguments = (programs.state, programs.batch)
    return programs.train_step, arguments, config.train.batch_size
  rows = checks.whole_rows(programs.mesh, config.eval.batch_size)
  keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), rows))
  labels = jax.ShapeDtypeStruct((rows,), jnp.int32)
  return programs.sample, (programs.state.ema_params, keys, labels), rows


def _model_flops(config, programs, program) -> int:
  """FLOPs per image that the mathematics needs.

  Of a step those of `sizes.train_flops`; of sampling the forward passes that
  the sampler makes.
  """
  if program == "sample":
    fn, arguments, rows = _inputs(config, programs, program)
    return 2 * sum(sizes.macs_by_scope(fn, *arguments).values()) // rows
  return sizes.train_flops(programs.network, build.image_shape(config))


def _links_share(group, mesh, chip) -> float:
  """Share of a chip's links that a group's ring can use: its torus axes'."""
  if chip.ici_axes is None:
    return 1.0
  devices = mesh.devices.ravel()
  coordinates = np.array([devices[i].coords for i in group])
  axes = int((coordinates != coordinates[0]).any(axis=0).sum())
  return max(1, axes) / chip.ici_axes


def summarise_collectives(found, programs, chip, results) -> dict:
  """Totals by kind and axes, and what is of neither parameters nor results.

  Args:
    found: of `collectives.read`.
    programs: whose parameters they may move.
    chip: whose links they use.
    results: shapes that the program is meant to gather, such as images.
  """
  shapes = {leaf.shape for leaf in jax.tree.leaves(programs.state.params)}
  shapes |= set(results)
  mesh, totals, others = programs.mesh, {}, []
  for c in found:
    axes = collectives.axes_of(c.group, dict(mesh.shape))
    row = totals.setdefault(
      (c.kind, axes),
      dict(
        kind=c.kind,
        axes=axes,
        group_size=len(c.group),
        count=0,
        bytes=0,
        sent_bytes=0,
        seconds=0.0,
      ),
    )
    row["count"] += c.times
    row["bytes"] += c.num_bytes
    row["sent_bytes"] += round(c.sent_bytes)
    bandwidth = chip.ici_bandwidth / chip.devices_per_chip
    bandwidth *= _links_share(c.group, mesh, chip)
    row["seconds"] += c.sent_bytes / bandwidth
    others += [
      dict(
        kind=c.kind,
        axes=axes,
        array=f"{array.dtype}{list(array.dims)}",
        bytes=c.times * array.size_bytes,
        source=c.source,
      )
      for array in c.arrays
      if not collectives.is_of_parameters(
        array,
        shapes,
        {len(c.group), mesh.shape["fsdp"]},
        pieces=c.kind == "collective-permute",
      )
    ]
  others.sort(key=lambda row: -row["bytes"])
  return {
    "by_kind": sorted(totals.values(), key=lambda row: -row["bytes"]),
    "bytes": sum(row["bytes"] for row in totals.values()),
    "of_batch_bytes": sum(row["bytes"] for row in others),
    "of_batch": others[:5],
  }


def _memory(compiled) -> dict:
  m = compiled.memory_analysis()
  return {
    "peak": m.peak_memory_in_bytes,
    "arguments": m.argument_size_in_bytes,
    "outputs": m.output_size_in_bytes,
    "aliased": m.alias_size_in_bytes,
    "temporaries": m.temp_size_in_bytes,
  }


def _too_large(message: str) -> dict:
  """The numbers of the compiler's message: how much is needed."""
  match = re.search(
    r"\(([\d.]+)([BKMGT])\) exceeds available HBM"
    r"|Used ([\d.]+)([BKMGT]) of [\d.]+[BKMGT] hbm",
    message,
  )
  needed = None
  if match:
    size, unit = (group for group in match.groups() if group)
    needed = round(float(size) * 2 ** _UNITS[unit])
  return {
    "error": "memory",
    "needed": needed,
    "message": " ".join(message.split())[:400],
  }


def answer(request: dict) -> dict:
  """Compiles what a request asks for, and reads it.

  Raises:
    ValueError: if the config does not fit itself or the topology.
  """
  topology = chips.parse_topology(request["topology"])
  config = ml_collections.ConfigDict(request["config"])
  devices = devices_of(topology)
  mesh = sharding.make_mesh(**config.mesh, devices=devices)
  checks.check_train(config, mesh.size)
  programs = programs_lib.make_programs(config, mesh)
  program = request["program"]
  fn, arguments, num_images = _inputs(config, programs, program)
  state = programs.state
  result = {
    "program": program,
    "mesh": dict(mesh.shape),
    "num_images": num_images,
    "num_parameters": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
    "sharded_parameters": sum(
      leaf.size
      for leaf in jax.tree.leaves(state.params)
      if not leaf.sharding.is_fully_replicated
    ),
    "device_bytes": {
      "parameters": _device_bytes(state.params),
      "ema": _device_bytes(state.ema_params),
      "optimizer": _device_bytes(state.opt_state),
      "batch": _device_bytes(programs.batch),
    },
    "model_flops_per_image": _model_flops(config, programs, program),
  }
  began_s = time.perf_counter()
  lowered = fn.lower(*arguments)
  result["lower_seconds"] = time.perf_counter() - began_s
  began_s, cpu_began_s = time.perf_counter(), time.process_time()
  try:
    compiled = lowered.compile(
      compiler_options={"exec_time_optimization_effort": request["effort"]}
    )
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    result |= _too_large(str(error))
  else:
    result["memory"] = _memory(compiled)
    parsed = hlo.parse(compiled.as_text())
    found = collectives.read(parsed, mesh.size)
    images = (num_images, *build.image_shape(config))
    result |= {
      "flops": costs.flops(parsed),
      "hbm_bytes": costs.hbm_bytes(parsed),
      "collectives": summarise_collectives(
        found, programs, topology.chip, {images} if program == "sample" else ()
      ),
      "unknown_loops": costs.unknown_loops(parsed),
    }
  result["compile_seconds"] = time.perf_counter() - began_s
  # What other work on the machine does not stretch.
  result["compile_cpu_seconds"] = time.process_time() - cpu_began_s
  peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  result["host_bytes"] = peak_kib * 1024
  return result


def main(argv):
  """Reads the request's file, writes the answer's."""
  request = json.loads(pathlib.Path(argv[1]).read_text())
  try:
    result = answer(request)
  except ValueError as error:
    result = {"error": "user", "message": str(error)}
  pathlib.Path(argv[2]).write_text(json.dumps(result))


if __name__ == "__main__":
  main(sys.argv)
