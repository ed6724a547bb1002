# SPDX-License-Identifier: Apache-2.0
"""How much a photograph's SNR gains by pooling: s^2, or less?

  python -m scripts.paper_pooling

The shifted schedule of arXiv 2301.11093 rests on this: means of s x s pixels
keep the signal and divide the variance of white noise by s^2, so log-SNR gains
2 log s. Measured on the photographs of docs/figures/source, as powers (mean
squares) over all pixels and channels:

  noise    ms(eps) / ms(T eps)        s^2 for pooling
  signal   ms(T x) / ms(x)            1 if x had no fine detail
  SNR      noise x signal; alpha_t and sigma_t cancel, so it holds at every t

and once more for the contrast, x less its mean colour, which is what there is
to see. T is average pooling, or the low band of the 5/3 wavelet: its low-pass
is sharper, keeps more detail and more noise.

Appends one record to experiments/results/paper_pooling.jsonl.
"""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from experiments import cli
from experiments import records
from experiments import workdir
from scripts.figures import photographs
from simple_diffusion import objective
from simple_diffusion import patching

NUM_NOISES = 64

RESULTS = pathlib.Path("experiments/results/paper_pooling.jsonl")


def pool(factor):
  return lambda x: objective.average_pool(x, factor)


def low_band(levels):
  """LL of so many levels of the 5/3 wavelet."""

  def transform(x):
    for _ in range(levels):
      x, _ = patching.dwt_bands(x)
    return x

  return transform


# (name, s, transform of [B, H, W, C])
TRANSFORMS = (
  ("means of 2 x 2", 2, pool(2)),
  ("means of 4 x 4", 4, pool(4)),
  ("means of 8 x 8", 8, pool(8)),
  ("5/3 wavelet, LL1", 2, low_band(1)),
  ("5/3 wavelet, LL2", 4, low_band(2)),
)


def _power(x) -> float:
  return float(jnp.mean(jnp.square(x)))


def gains(x, eps, transform) -> dict:
  """Ratios of powers; x [H, W, C] is one image, eps [B, H, W, C] is noise."""
  transform = jax.jit(transform)
  contrast = x - x.mean(axis=(0, 1), keepdims=True)
  noise = _power(eps) / _power(transform(eps))
  signal, of_contrast = (
    _power(transform(part[None])) / _power(part) for part in (x, contrast)
  )
  return {
    "noise": noise,
    "signal": signal,
    "snr": noise * signal,
    "contrast_snr": noise * of_contrast,
  }


def main(_):
  rng = np.random.Generator(np.random.Philox(0))
  rows = []
  for name in photographs.NAMES:
    x = photographs.load(name)
    eps = rng.standard_normal((NUM_NOISES, *x.shape), np.float32)
    for how, factor, transform in TRANSFORMS:
      row = {
        "photograph": name,
        "size": x.shape[0],
        "transform": how,
        "factor": factor,
        **gains(x, eps, transform),
      }
      print(f"{name}, {how}: SNR x {row['snr']:.2f} (s^2 = {factor**2})")
      rows.append(row)
  record = {
    "num_noises": NUM_NOISES,
    "seed": 0,
    "rows": rows,
    "environment": workdir.environment(),
  }
  records.append_result(RESULTS, record)


if __name__ == "__main__":
  cli.run(main)
