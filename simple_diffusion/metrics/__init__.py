# SPDX-License-Identifier: Apache-2.0
"""How far two sets of images are apart, given their features, in NumPy.

  network = features.load("inception_fid", "weights.safetensors")
  real, _ = features.extract(network, real_batches)         # [N, D]
  fake, logits = features.extract(network, sample_batches)  # [M, D], [M, K]

  frechet_distance(moments_of(real), moments_of(fake))  # FID
  kernel_distance(real, fake)      # KID, with its standard error
  inception_score(logits)          # mean, and deviation over splits
  precision_recall(real, fake)     # fidelity and diversity
  density_coverage(real, fake)     # the same, without outliers' balls
  nearest_distances(fake, real)    # copies of training images are near 0

Names such as FID belong to numbers from the features of `inception_fid`; from
any other network they are Frechet and kernel distances, and their size means
nothing beside published ones. Always say the number of images: all but
`kernel_distance` change with it.

Nothing here needs JAX but what gathers from processes. Statistics are float64.
Sets of moments merge: by batch, by process.
"""

from simple_diffusion.metrics.frechet import frechet_distance
from simple_diffusion.metrics.inception_score import inception_score
from simple_diffusion.metrics.kernel import KernelDistance
from simple_diffusion.metrics.kernel import kernel_distance
from simple_diffusion.metrics.manifold import DensityCoverage
from simple_diffusion.metrics.manifold import PrecisionRecall
from simple_diffusion.metrics.manifold import density_coverage
from simple_diffusion.metrics.manifold import precision_recall
from simple_diffusion.metrics.moments import Moments
from simple_diffusion.metrics.moments import covariance
from simple_diffusion.metrics.moments import merge
from simple_diffusion.metrics.moments import merge_processes
from simple_diffusion.metrics.moments import moments_of
from simple_diffusion.metrics.moments import moments_of_batches
from simple_diffusion.metrics.nearest import nearest_distances

__all__ = [
  "DensityCoverage",
  "KernelDistance",
  "Moments",
  "PrecisionRecall",
  "covariance",
  "density_coverage",
  "frechet_distance",
  "inception_score",
  "kernel_distance",
  "merge",
  "merge_processes",
  "moments_of",
  "moments_of_batches",
  "nearest_distances",
  "precision_recall",
]
