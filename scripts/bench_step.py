# SPDX-License-Identifier: Apache-2.0
"""Speed and memory of a config's training step on the devices that there are.

  # 2 M parameters: a CPU
  python -m scripts.bench_step --config=configs/digits.py
  # 0.3 B at 256 px: one GPU, 88 GiB of its memory
  python -m scripts.bench_step --config=configs/images.py:256 \
    --config.model.base_channels=128 --config.model.num_transformer_blocks=20 \
    --config.train.batch_size=128
  # 2.0 B, the paper's U-ViT, at 256 px: one GPU of 141 GB
  export XLA_FLAGS=--xla_gpu_autotune_level=1  # Compiles in less time.
  export XLA_PYTHON_CLIENT_MEM_FRACTION=.92  # Of the GPU's memory; or 0.75.
  python -m scripts.bench_step --config=configs/imagenet.py:256,uvit \
    --config.mesh.fsdp=1 --config.train.batch_size=128

The step is the one that training runs, on the config's mesh over all devices; a
batch of noise stays on them, so data cost nothing (scripts.benchmark has what
they cost). Each --against=model.remat=dots,train.batch_size=8 is a variant of
the config, measured in turns with it; its ratios are then free of what else the
machine does, but all variants must fit into memory together.

Appends one record to experiments/results/bench_step.jsonl:

  FLOPs    2 per multiply-add of the forward pass, times 3 for the backward
           pass; what remat computes again does not count, nor do elementwise
           operations
  MFU      these per second, over the chip's bfloat16 peak (experiments/chips)
  compile  from nothing: the persistent cache is off
  passes   times that the update reads or writes an array of the parameters'
           size; at least 10: parameters, average and two moments in and out,
           the gradient in, and before that once for its norm
"""

import copy
import pathlib
import re

from absl import flags
import jax
from ml_collections import config_flags
import numpy as np

from experiments import cli
from experiments import records
from experiments import workdir
from experiments.planning import report
from scripts import overrides
from scripts import step_measures

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "What to measure: a file of configs/.", lock_config=True
)
_AGAINST = flags.DEFINE_multi_string(
  "against", [], "Overrides KEY=VALUE,... of a variant, in turns with config."
)
_ROUNDS = flags.DEFINE_integer("rounds", 10, "Windows of each variant.", 1)
_STEPS = flags.DEFINE_integer("steps", 5, "Training steps of a window.", 1)
_RESULTS = flags.DEFINE_string(
  "results", "experiments/results/bench_step.jsonl", "File to append to."
)
flags.mark_flags_as_required(["config"])


def override(config, text: str):
  """The config with "key=value,..." set as the command line would."""
  # A comma within a tuple is not followed by a key.
  pairs = re.split(r",(?=[\w.]+=)", text)
  try:
    return overrides.apply(
      # With its placeholders: without, what they hold has no type.
      copy.deepcopy(config),
      [f"--config.{pair}" for pair in pairs],
    )
  except ValueError as error:
    raise ValueError(f"--against={text}: {error}") from None


def summary(record) -> str:
  """What a reader wants to know first."""
  gib, si = report.gib, report.si
  r, device = record, record["environment"]["devices"][0]
  if r["mfu"] is None:
    mfu = f"MFU unknown: experiments/chips.json has no peak of {device!r}"
  else:
    mfu = f"MFU {r['mfu']:.1%} of {si(r['peak_flops_per_device'], 'FLOP/s')}"
  used = r["used_bytes_per_device"]
  lines = [
    f"{r['config']}: {r['parameters']:,} parameters, batch {r['batch_size']}, "
    f"remat {r['remat']}, attention by {r['attention']}, mesh {r['mesh']}, "
    f"{device}",
    f"{r['steps_per_second']:.3f} steps/s, {r['images_per_second']:.1f} "
    f"images/s, {r['images_per_second_per_device']:.1f} a device",
    f"{si(r['flops_per_step'], 'FLOP')} a step, "
    f"{si(r['flops_per_second_per_device'], 'FLOP/s')} a device; {mfu}",
    f"memory a device: program {gib(r['program_bytes_per_device'])}"
    + (f", used {gib(used)}" if used else ""),
    "compiled from nothing: "
    + ", ".join(f"{name} {s:.1f} s" for name, s in r["compile_s"].items()),
    f"update: {r['update']['share_of_step']:.1%} of the step, "
    f"{r['update']['passes']:.1f} passes (least: {step_measures.LEAST_PASSES})",
  ]
  lines += [
    f"against {v['overrides']}: time x {v['time_ratio']:.2f}, memory x "
    f"{v['memory_ratio']:.2f}"
    for v in r["against"]
  ]
  return "\n".join(lines)


def main(_):
  jax.config.update("jax_enable_compilation_cache", False)
  config, rounds, steps = _CONFIG.value, _ROUNDS.value, _STEPS.value
  with cli.user_errors():
    variants = [config, *(override(config, text) for text in _AGAINST.value)]
    traced = [step_measures.trace(variant) for variant in variants]
    sides = [step_measures.compile_step(each) for each in traced]
    seconds, states = step_measures.measure(sides, rounds=rounds, steps=steps)
    used = step_measures.used_memory()
    del states[1:]
    update = step_measures.measure_update(
      sides[0], states.pop(), rounds=rounds, steps=steps
    )
  first = step_measures.describe(sides[0], seconds[0])
  update["share_of_step"] = update["seconds"] / first["seconds_per_step"]
  against = []
  for text, side, taken in zip(
    _AGAINST.value, sides[1:], seconds[1:], strict=True
  ):
    ratio = step_measures.memory_of(side.step) / step_measures.memory_of(
      sides[0].step
    )
    against.append(
      {
        "overrides": text,
        # Of neighbours in time: what slows the machine slows both.
        "time_ratio": float(np.median(taken / seconds[0])),
        "memory_ratio": ratio,
        **step_measures.describe(side, taken),
      }
    )
  record = {
    "config": config_flags.get_config_filename(flags.FLAGS["config"]),
    "rounds": rounds,
    "steps_per_round": steps,
    **first,
    "used_bytes_per_device": used,
    "update": update,
    "against": against,
    "environment": workdir.environment(),
  }
  print(summary(record))
  records.append_result(pathlib.Path(_RESULTS.value), record)


if __name__ == "__main__":
  cli.run(main)
