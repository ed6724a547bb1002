# SPDX-License-Identifier: Apache-2.0
"""Measures a checkpoint and appends the numbers, with their protocol.

  python -m experiments.evaluate --workdir=runs/digits

On any data: the held-out loss by bin of log-SNR, with the averaged parameters.
On digits also the quality of samples, see `digits_quality`. One line is
appended to --results, from which scripts.tables makes the README's table.
"""

import itertools
import pathlib

from absl import flags
import jax
import numpy as np

from experiments import checks
from experiments import cli
from experiments import generate
from experiments import records
from experiments import workdir as workdir_lib
from simple_diffusion import build
from simple_diffusion import data
from simple_diffusion import objective
from simple_diffusion import sharding

_RESULTS = flags.DEFINE_string(
  "results",
  None,
  "File to append to; default: experiments/results/<data set>.jsonl.",
)

_SPLIT = flags.DEFINE_string(
  "split", None, "Held-out split; default: data.eval_split of the config."
)
_DATA_DIR = flags.DEFINE_string(
  "data_dir", None, "Where the data lies now; default: as in the config."
)

# Edges of the bins of log-SNR. A bin that reaches over an end of the run's
# schedule is cut there, and one that lies beyond it is left out.
LOGSNR_EDGES = tuple(range(-24, 25, 3))


def logsnr_bins(schedule):
  """[(low, high), ...], the bins within the ends of the schedule."""
  # Rounded, so that float32 leaves no sliver of a bin.
  first, last = (round(float(schedule.logsnr(t)), 2) for t in (1.0, 0.0))
  cut = [min(max(edge, first), last) for edge in LOGSNR_EDGES]
  return [(lo, hi) for lo, hi in itertools.pairwise(cut) if lo < hi]


def make_loss_fn(config, programs):
  """loss_fn(params, batch, logsnr, rng) -> {"eps_mse": [B], "v_mse": [B]}."""
  schedule = build.make_schedule(config)

  def loss_fn(params, batch, logsnr, rng):
    x = batch["image"]
    _, metrics = objective.diffusion_loss(
      x,
      jax.random.normal(rng, x.shape),
      schedule.time(logsnr),
      batch["label"],
      predict_fn=lambda z, logsnr, labels: programs.network.apply(
        {"params": params}, z, logsnr, labels
      ),
      schedule=schedule,
      **config.objective,
    )
    return metrics

  by_example = sharding.by_example(programs.mesh)
  return jax.jit(
    sharding.traced_on(programs.mesh, loss_fn),
    in_shardings=(None, by_example, by_example, None),
  )


def held_out_loss(config, programs, params, source, *, seed=0):
  """Mean eps- and v-MSE of a source, each image once in each bin of log-SNR.

  Within a bin the log-SNRs are uniform. The noise depends on the seed, the bin
  and the batch size.
  """
  loss_fn = make_loss_fn(config, programs)
  batch_size = min(config.eval.batch_size, len(source))
  stream = data.make_eval_stream(
    source,
    batch_size=checks.whole_rows(programs.mesh, batch_size),
    image_size=config.data.image_size,
    num_channels=config.data.num_channels,
    crop="squash" if config.data.crop == "squash" else "center",
  )
  edges = logsnr_bins(build.make_schedule(config))
  bins = []
  for index, (low, high) in enumerate(edges):
    totals, count = {"eps_mse": 0.0, "v_mse": 0.0}, 0
    for i, batch in enumerate(data.iterate(stream)):
      mask = batch.pop("mask")
      rng = jax.random.fold_in(jax.random.key(seed), i)
      rng_logsnr, rng_noise = jax.random.split(jax.random.fold_in(rng, index))
      logsnr = jax.random.uniform(
        rng_logsnr, mask.shape, minval=low, maxval=high
      )
      losses = jax.device_get(loss_fn(params, batch, logsnr, rng_noise))
      for name, values in losses.items():
        totals[name] += float(values[mask].sum(dtype=np.float64))
      count += int(mask.sum())
    means = {name: total / count for name, total in totals.items()}
    bins.append({"logsnr": [low, high], **means})
  return bins


def images_and_labels(config, source):
  """All of a small source: float32 [N, H, W, C] in [-1, 1] and labels [N]."""
  stream = data.make_eval_stream(
    source,
    batch_size=len(source),
    image_size=config.data.image_size,
    num_channels=config.data.num_channels,
  )
  return stream[0]["image"], stream[0]["label"]


def digits_record(config, programs, params, sources, seed):
  """Quality of samples of digits, with its protocol."""
  from experiments import digits_quality  # Only digits need scikit-learn.

  num_classes = config.model.num_classes
  labels = generate.labels_in_turn(config.eval.num_samples, num_classes)
  batches = generate.batches_of_images(
    programs,
    params,
    labels=labels,
    seed=seed,
    batch_size=config.eval.batch_size,
  )
  quality = digits_quality.measure(
    np.concatenate(list(batches)),
    labels,
    images_and_labels(config, sources["train"]),
    images_and_labels(config, sources["held_out"]),
  )
  if not num_classes:
    del quality["class_agreement"]  # No class was asked for.
  heun = config.sample.method == "heun"
  return {
    "num_samples": len(labels),
    "seed": seed,
    "num_network_evaluations": config.sample.num_steps * (1 + heun) - heun,
    **config.sample.to_dict(),
    **quality,
  }


def main(_):
  seed = flags.FLAGS.seed
  with cli.user_errors():
    config, programs, params, step = generate.load()
    splits = {
      "train": config.data.split,
      "held_out": _SPLIT.value or config.data.eval_split,
    }
    sources = {
      role: data.make_source(
        name=config.data.name,
        split=split,
        data_dir=_DATA_DIR.value or config.data.data_dir,
      )
      for role, split in splits.items()
    }
    results = pathlib.Path(
      _RESULTS.value or f"experiments/results/{config.data.name}.jsonl"
    )
    # Now, so that a folder that can't be made is an error before the work.
    results.parent.mkdir(parents=True, exist_ok=True)

  bins = held_out_loss(config, programs, params, sources["held_out"], seed=seed)
  for row in bins:
    print(
      "log-SNR {:6.2f} to {:6.2f}: eps-MSE {:.4f}, v-MSE {:.4f}".format(
        *row["logsnr"], row["eps_mse"], row["v_mse"]
      )
    )
  record = {
    "config": workdir_lib.as_json(config),
    "checkpoint_step": step,
    "ema_decay": config.train.ema_decay,
    "held_out_split": splits["held_out"],
    "held_out_loss": bins,
  }
  if config.data.name == "digits":
    record["samples"] = digits_record(config, programs, params, sources, seed)
    for name, value in record["samples"].items():
      print(f"{name}: {value}")
  record["environment"] = workdir_lib.environment()
  records.append_result(results, record)
  print(f"appended to {results}")


if __name__ == "__main__":
  flags.mark_flags_as_required(["workdir"])
  cli.run(main)
