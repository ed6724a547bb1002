# SPDX-License-Identifier: Apache-2.0
"""simple diffusion: end-to-end diffusion in pixel space (arXiv 2301.11093).

Read in this order: `schedules` (how noisy), `diffusion` (the algebra of z_t),
`objective` (what is minimised), `uvit` (what predicts), `sampler` (how images
are made).

  from simple_diffusion import schedules

  schedule = schedules.shifted_cosine(image_size=128, ref=64)
  schedule.logsnr(0.5)
"""

__version__ = "0.1.0"
