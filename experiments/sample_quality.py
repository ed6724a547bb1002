# SPDX-License-Identifier: Apache-2.0
"""How good samples are, by their features against those of real images."""

import numpy as np

from experiments import references
from simple_diffusion import features
from simple_diffusion import metrics


def distances(fake: np.ndarray, real: np.ndarray) -> dict[str, float]:
  """All distances between two sets of features, [M, D] and [N, D].

  The Frechet distance is named FID by whoever used FID's network on enough
  images, not here.
  """
  kernel = metrics.kernel_distance(fake, real)
  manifold = metrics.precision_recall(real, fake)
  density = metrics.density_coverage(real, fake)
  return {
    "kernel": kernel.value,
    "kernel_standard_error": kernel.standard_error,
    "frechet": metrics.frechet_distance(
      metrics.moments_of(fake), metrics.moments_of(real)
    ),
    "precision": manifold.precision,
    "recall": manifold.recall,
    "density": density.density,
    "coverage": density.coverage,
  }


def measure(
  network: features.FeatureNetwork,
  batches,
  train: references.Reference,
  held_out: references.Reference,
) -> dict:
  """Quality of samples, with its protocol.

  Args:
    network: whose features count.
    batches: of samples, uint8 [B, H, W, 3].
    train: features of the images that the model was trained on.
    held_out: of those that it was not.

  Returns:
    {"features": {...}, "inception_score": (mean, deviation) or None,
     "train": distances to train, "held_out": to held-out images,
     "real": of held-out images to train: what perfection would score}, each
    with the reference's hash and number of images.
  """
  fake, logits = features.extract(network, batches)
  score = None
  if logits is not None and network.name.startswith("inception"):
    score = list(metrics.inception_score(logits))

  def against(reference, pooled):
    return {
      "num_images": len(reference.pooled),
      "reference_hash": reference.hash,
      **distances(pooled, reference.pooled),
    }

  return {
    "features": {
      "name": network.name,
      "weights_hash": network.weights_hash,
      "resize": network.resize,
    },
    "inception_score": score,
    "train": against(train, fake),
    "held_out": against(held_out, fake),
    "real": {
      "num_samples": len(held_out.pooled),
      **against(train, held_out.pooled),
    },
  }
