# SPDX-License-Identifier: Apache-2.0
"""Images with noise, and how far sets of images are from real ones."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments import references
from experiments import sample_quality
from simple_diffusion import diffusion
from simple_diffusion import features
from simple_diffusion import images

SEED = 0  # Of the noise.
LOGSNRS = (9.0, 6.0, 3.0, 0.0)


def noisy(x: np.ndarray, logsnr: float) -> np.ndarray:
  """Images with noise, in the units of images, and cut off as samples are.

  Args:
    x: uint8 [N, H, W, C].
    logsnr: of diffused images; these are divided by alpha.
  """
  x = images.to_float(x)
  eps = jax.random.normal(jax.random.key(SEED), x.shape)
  z = diffusion.diffuse(jnp.asarray(x), eps, logsnr)
  return images.to_uint8(np.asarray(z / diffusion.alpha(logsnr)))


def white_noise(shape) -> np.ndarray:
  """uint8 [N, H, W, C]: a standard normal distribution, cut off at -1 and 1."""
  eps = jax.random.normal(jax.random.key(SEED), shape)
  return images.to_uint8(np.asarray(eps))


def with_noise(x: np.ndarray) -> dict[str, np.ndarray]:
  """Images [N, H, W, C] as they are, with more and more noise, and only it."""
  return {
    "held out": x,
    **{
      f"held out, at log-SNR {logsnr:g}": noisy(x, logsnr) for logsnr in LOGSNRS
    },
    "white noise": white_noise(x.shape),
  }


def measure(network, sets, real, *, batch_size) -> list[dict]:
  """A row for each set: its distances to a reference of real images.

  Args:
    network: whose features count.
    sets: names and images, uint8 [N, H, W, 3].
    real: what they are compared with.
    batch_size: images at a time.
  """
  rows = []
  for what, pixels in sets.items():
    parts = np.split(pixels, range(batch_size, len(pixels), batch_size))
    fake, _ = features.extract(network, parts)
    row = {
      "what": what,
      "num_samples": len(pixels),
      # As the reference's, if these images were one.
      "samples_hash": references.content_hash(network, [pixels]),
    }
    rows.append(row | sample_quality.distances(fake, real))
    print(rows[-1], flush=True)
  return rows
