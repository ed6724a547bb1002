# SPDX-License-Identifier: Apache-2.0
"""The loss on images that were not trained on, by bin of log-SNR."""

import itertools

import jax
import numpy as np

from experiments import checks
from simple_diffusion import build
from simple_diffusion import data
from simple_diffusion import objective
from simple_diffusion import sharding

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


def measure(config, programs, params, source, *, seed=0):
  """Mean eps- and v-MSE of a source, each image once in each bin of log-SNR.

  Within a bin the log-SNRs are uniform. The noise depends on the seed, the bin
  and the batch size.
  """
  loss_fn = make_loss_fn(config, programs)
  batch_size = min(config.eval.batch_size, len(source))
  stream = build.make_eval_stream(
    config, source, checks.whole_rows(programs.mesh, batch_size)
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
