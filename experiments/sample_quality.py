# SPDX-License-Identifier: Apache-2.0
"""How good samples are, by their features against those of real images."""

import numpy as np

from experiments import references
from simple_diffusion import features
from simple_diffusion import metrics
from simple_diffusion.features import inception

# Fewer images than this have no neighbours or no splits to compare by.
MIN_IMAGES = 10


def distances(fake: np.ndarray, real: references.Reference) -> dict:
  """All distances of features [M, D] to a reference, and its protocol.

  The Frechet distance is over all images of the reference, the others over
  those that it keeps. Whether it may be called FID, docs/metrics.md says.
  """
  kernel = metrics.kernel_distance(fake, real.kept)
  manifold = metrics.precision_recall(real.kept, fake)
  density = metrics.density_coverage(real.kept, fake)
  return {
    "num_images": real.moments.count,
    "num_kept": len(real.kept),
    "reference_hash": real.hash,
    "kernel": kernel.value,
    "kernel_standard_error": kernel.standard_error,
    "frechet": metrics.frechet_distance(metrics.moments_of(fake), real.moments),
    "precision": manifold.precision,
    "recall": manifold.recall,
    "density": density.density,
    "coverage": density.coverage,
  }


def measure(
  network: features.FeatureNetwork,
  samples: features.Features,
  train: references.Reference,
  held_out: references.Reference,
) -> dict:
  """Quality of samples, with its protocol.

  Args:
    network: whose features count.
    samples: the features of all samples.
    train: images that the model was trained on.
    held_out: images that it was not.

  Returns:
    {"features": which network, "inception_score": (mean, deviation) or None,
     "train": distances to train, "held_out": to held-out images, "real": of the
     num_samples held-out images to train}. What samples can reach is "real"
     only in the kernel distance, or if there are as many of them.
  """
  fake, logits = samples
  score = None
  if logits is not None and network.name in inception.PROTOCOLS:
    score = list(metrics.inception_score(logits))
  return {
    "features": {
      "name": network.name,
      "weights_hash": network.weights_hash,
      "resize": network.resize,
    },
    "inception_score": score,
    "train": distances(fake, train),
    "held_out": distances(fake, held_out),
    "real": {
      "num_samples": len(held_out.kept),
      **distances(held_out.kept, train),
    },
  }
