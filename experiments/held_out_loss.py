# SPDX-License-Identifier: Apache-2.0
"""The loss on images that were not trained on, by bin of log-SNR."""

import itertools

import jax
import numpy as np

from experiments import checks
from experiments import image_hash
from experiments import shares
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
  and the batch size. Several processes share the batches out.

  Returns:
    A dictionary for each bin, and the hash of the images.
  """
  loss_fn = make_loss_fn(config, programs)
  by_example = sharding.by_example(programs.mesh)
  batch_size = checks.whole_rows(
    programs.mesh, min(config.eval.batch_size, len(source))
  )
  stream = build.make_eval_stream(config, source, batch_size)
  numbers, own_stream = range(len(stream))[shares.mine()], stream[shares.mine()]
  edges = logsnr_bins(build.make_schedule(config))
  names = ("eps_mse", "v_mse")
  totals, counts = np.zeros((len(edges), len(names))), np.zeros(len(edges))
  digests = [np.zeros((0, 8), np.uint32)]  # A process may have no batch.
  batches = data.iterate(own_stream, num_threads=config.data.num_threads)
  for i, batch in zip(numbers, batches, strict=True):
    mask = batch.pop("mask")
    digests.append(image_hash.digests(batch["image"][mask]))
    rng = jax.random.fold_in(jax.random.key(seed), i)
    # jit splits no NumPy arrays where there are several processes.
    batch = sharding.to_devices(batch, by_example)
    for index, (low, high) in enumerate(edges):
      rng_logsnr, rng_noise = jax.random.split(jax.random.fold_in(rng, index))
      logsnr = jax.random.uniform(
        rng_logsnr, mask.shape, minval=low, maxval=high
      )
      losses = jax.device_get(loss_fn(params, batch, logsnr, rng_noise))
      totals[index] += [
        losses[name][mask].sum(dtype=np.float64) for name in names
      ]
      counts[index] += mask.sum()
  means = shares.total(totals) / shares.total(counts)[:, None]
  bins = [
    {"logsnr": list(edge), **dict(zip(names, row, strict=True))}
    for edge, row in zip(edges, means.tolist(), strict=True)
  ]
  own = shares.indices(len(source), batch_size)
  of_images = shares.gather(own, np.concatenate(digests))
  return bins, image_hash.combined(of_images)
