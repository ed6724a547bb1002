# SPDX-License-Identifier: Apache-2.0
"""Noisy photographs after average pooling, over time (paper, figure 3).

Means of s x s pixels keep a photograph and divide the variance of the noise by
s^2, so at 256 pixels the cosine schedule leaves the 64 x 64 picture almost
clean for most of the time. Shifted by 2 log(64/256) it is what the cosine
schedule, tuned at 64, has there. The numbers are measured on these pictures:
the mean square of alpha_t x over that of sigma_t eps, before and after pooling.
Pictures are divided by sqrt(alpha_t^2 + sigma_t^2 / s^2), as if they had been
made at the low resolution.
"""

import jax.numpy as jnp
import numpy as np

from scripts.figures import canvas as canvas_lib
from scripts.figures import photographs
from simple_diffusion import diffusion
from simple_diffusion import objective
from simple_diffusion import schedules

REF = 64
TIMES = (0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9)


def pooled(x, eps, logsnr, factor):
  """D[z_t] and signal-to-noise ratios, of one image [H, W, 3].

  Returns:
    float [H/s, W/s, 3], scaled; the mean square of the signal over that of the
    noise, of the pixels and after pooling.
  """
  alpha_t, sigma_t = diffusion.alpha(logsnr), diffusion.sigma(logsnr)
  parts = (alpha_t * x, sigma_t * eps)
  signal, noise = (objective.average_pool(p[None], factor)[0] for p in parts)
  scale = jnp.hypot(alpha_t, sigma_t / factor)
  ratios = [
    float(jnp.mean(s**2) / jnp.mean(n**2)) for s, n in (parts, (signal, noise))
  ]
  return (signal + noise) / scale, *ratios


def rows(photograph, rng):
  """(name, what `pooled` has for each time) of the figure's rows."""
  size = photograph.shape[0]
  factor = size // REF
  small = np.asarray(objective.average_pool(photograph[None], factor)[0])
  eps, eps_small = (
    rng.standard_normal(x.shape, np.float32) for x in (photograph, small)
  )
  for name, schedule, x, noise, pool in (
    (
      f"{REF} pixels\ncosine",
      schedules.cosine(image_size=REF),
      small,
      eps_small,
      1,
    ),
    (
      f"{size} pixels\ncosine\npooled to {REF}",
      schedules.cosine(image_size=size),
      photograph,
      eps,
      factor,
    ),
    (
      f"{size} pixels\nshifted to {REF}\npooled to {REF}",
      schedules.shifted_cosine(image_size=size, ref=REF),
      photograph,
      eps,
      factor,
    ),
  ):
    yield name, [pooled(x, noise, schedule.logsnr(t), pool) for t in TIMES]


def draw():
  left, top, tile, gap, below = 118, 34, 96, 5, 24
  photograph = photographs.load("hat")
  factor = photograph.shape[0] // REF
  canvas = canvas_lib.blank(top + 3 * (tile + below) + 4)
  for i, t in enumerate(TIMES):
    x = left + i * (tile + gap) + tile / 2
    canvas_lib.write(canvas, x, top / 2, f"t = {t}", 14)
  canvas_lib.write(canvas, left / 2, top / 2, f"$s^2$ = {factor**2}", 14)
  for j, (name, cells) in enumerate(rows(photograph, np.random.default_rng(0))):
    y = top + j * (tile + below)
    canvas_lib.write(canvas, left / 2, y + tile / 2, name, 14)
    for i, (image, _, after) in enumerate(cells):
      x = left + i * (tile + gap)
      enlarge = tile * canvas_lib.SCALE // REF
      canvas_lib.place(canvas, x, y, photographs.shown(image, enlarge))
      text = f"{after:.0f}" if after > 10 else f"{after:.2g}"
      canvas_lib.write(canvas, x + tile / 2, y + tile + 10, text)
    _, before, after = cells[0]
    text = "SNR" if j == 0 else f"SNR (x {after / before:.1f})"
    canvas_lib.write(canvas, left / 2, y + tile + 10, text)
  return canvas
