# SPDX-License-Identifier: Apache-2.0
"""log-SNR over time of all schedules (arXiv 2301.11093, section 2)."""

import jax.numpy as jnp
import numpy as np

from scripts.figures import canvas as canvas_lib
from simple_diffusion import schedules

SIZE = 512


def lines(size=SIZE):
  """(name, schedule, colour, dashes) of each curve."""
  shifted = schedules.shifted_cosine
  interpolated = schedules.interpolated_cosine
  yield (
    "cosine",
    schedules.cosine(image_size=size),
    canvas_lib.BLACK,
    "-",
  )
  dashes = {128: "-", 64: "--", 32: ":"}
  for ref, dash in dashes.items():
    schedule = shifted(image_size=size, ref=ref)
    yield f"shifted to {ref}", schedule, canvas_lib.BLUE, dash
  for at_noise, at_data, colour, dash in (
    (32, 256, canvas_lib.VERMILION, "-"),
    (256, 32, canvas_lib.ORANGE, "--"),
  ):
    schedule = interpolated(
      image_size=size, ref_at_noise=at_noise, ref_at_data=at_data
    )
    name = f"interpolated, {at_data} at data, {at_noise} at noise"
    yield name, schedule, colour, dash


def draw():
  t = jnp.linspace(0, 1, 401)
  canvas = canvas_lib.blank(440, 640)
  axes = canvas.add_axes((0.1, 0.12, 0.88, 0.8))
  for name, schedule, colour, dash in lines():
    logsnr = np.asarray(schedule.logsnr(t))
    axes.plot(t, logsnr, dash, color=colour, linewidth=2.5, label=name)
  axes.set_title(f"Noise schedules at {SIZE} x {SIZE} pixels", size=17)
  axes.set_xlabel("time t (0: data, 1: noise)", size=15)
  axes.set_ylabel(r"log-SNR $\log\,(\alpha_t^2 / \sigma_t^2)$", size=15)
  axes.tick_params(labelsize=14)
  axes.set_xlim(0, 1)
  axes.set_ylim(-21, 16)
  axes.grid(alpha=0.3)
  axes.spines[["top", "right"]].set_visible(False)
  axes.legend(fontsize=14, frameon=False, loc="lower left")
  return canvas
