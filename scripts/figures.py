# SPDX-License-Identifier: Apache-2.0
"""Draws the figures that need no training, into docs/figures.

python -m scripts.figures
"""

import pathlib

from absl import app
import jax.numpy as jnp
from matplotlib import figure
import numpy as np

from simple_diffusion import schedules

FIGURES = pathlib.Path(__file__).parent.parent / "docs" / "figures"


def draw_logsnr(path, *, image_size=512):
  """log-SNR over time of the paper's schedules (arXiv 2301.11093, fig. 5)."""
  lines = {
    "cosine": schedules.cosine(image_size=image_size),
    "shifted, reference 64": schedules.shifted_cosine(
      image_size=image_size, ref=64
    ),
    "shifted, reference 32": schedules.shifted_cosine(
      image_size=image_size, ref=32
    ),
    "interpolated, 32 at noise, 256 at data": schedules.interpolated_cosine(
      image_size=image_size, ref_at_noise=32, ref_at_data=256
    ),
    "interpolated, 256 at noise, 32 at data": schedules.interpolated_cosine(
      image_size=image_size, ref_at_noise=256, ref_at_data=32
    ),
  }
  t = jnp.linspace(0, 1, 401)
  canvas = figure.Figure(figsize=(6.4, 3.6), dpi=110, layout="constrained")
  axes = canvas.add_subplot()
  for name, schedule in lines.items():
    axes.plot(np.asarray(t), np.asarray(schedule.logsnr(t)), label=name)
  axes.set_xlabel("time t (0 is data, 1 is noise)")
  axes.set_ylabel("log-SNR")
  axes.set_title(f"Schedules at {image_size} x {image_size} pixels")
  axes.set_xlim(0, 1)
  axes.grid(alpha=0.3)
  axes.legend(fontsize=8)
  canvas.savefig(path)


def main(_):
  FIGURES.mkdir(parents=True, exist_ok=True)
  draw_logsnr(FIGURES / "logsnr.png")
  print(f"drawn: {FIGURES}/logsnr.png")


if __name__ == "__main__":
  app.run(main)
