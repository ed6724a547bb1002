# SPDX-License-Identifier: Apache-2.0
"""Random weights of Inception-v3 and images, the same everywhere.

With them two implementations can be compared where FID's weights are not at
hand. Filters sum to 0, or behind a few ReLUs all images would look alike; their
gain keeps features of size 1.
"""

import numpy as np

from simple_diffusion.features import inception

# 2 would keep the variance behind ReLUs, were there no pools and no biases.
GAIN = 2.2


def weights(seed: int) -> dict[str, np.ndarray]:
  """{name: float32 array} of all that a file of weights has."""
  # Uniform and from a counter: these numbers are the same in every NumPy.
  rng = np.random.Generator(np.random.Philox(seed))
  arrays = {}
  for name, shape in inception.shapes().items():
    u = 2 * rng.random(shape) - 1
    if name.endswith("conv.weight"):
      u *= np.sqrt(3 * GAIN / np.prod(shape[1:]))
      u -= u.mean((1, 2, 3), keepdims=True)
    elif name.endswith(("running_var", "bn.weight")):
      u = 1 + u / 2
    elif name == "fc.weight":
      u *= np.sqrt(3 / shape[1])
    else:
      u *= 0.3
    arrays[name] = np.float32(u)
  return arrays


def images(seed: int, number: int, height: int, width: int) -> np.ndarray:
  """uint8 [number, height, width, 3]: noise over a colour and a slope."""
  rng = np.random.Generator(np.random.Philox(seed))
  colour = rng.random((number, 1, 1, 3))
  slope = rng.random((number, 1, 1, 3)) * np.linspace(0, 1, width)[:, None]
  noise = rng.random((number, height, width, 3))
  return np.uint8(255 * (colour + slope + noise) / 3)
