# SPDX-License-Identifier: Apache-2.0
"""A file of MobileNetV2 with random weights, for tests."""

import json

import numpy as np

# Table 2 of arXiv 1801.04381: expansion, channels, repeats, first stride.
BLOCKS = (
  (1, 16, 1, 1),
  (6, 24, 2, 2),
  (6, 32, 3, 2),
  (6, 64, 4, 2),
  (6, 96, 3, 1),
  (6, 160, 3, 2),
  (6, 320, 1, 1),
)


def make_file():
  """{name: array} of a file with random weights."""
  rng = np.random.default_rng(0)
  operations, arrays, last = [], {}, "input"

  def add_conv(op, size, dim_in, dim_out, stride, relu6):
    nonlocal last
    name = f"{sum('relu6' in o for o in operations):02d}"
    shape = (size, size, 1 if op == "dwconv" else dim_in, dim_out)
    weights = rng.integers(-127, 128, shape, dtype=np.int8)
    fan_in = np.prod(shape[:3])
    arrays[f"{name}/w_int8"] = weights
    arrays[f"{name}/w_scale"] = np.float32(
      rng.uniform(0.5, 1.5, dim_out) * np.sqrt(2 / fan_in) / 73
    )
    arrays[f"{name}/b"] = np.float32(rng.normal(size=dim_out) * 0.2)
    operations.append(
      {"op": op, "name": name, "stride": stride, "relu6": relu6, "inp": last}
    )
    last = name

  add_conv("conv", 3, 3, 32, 2, True)
  dim = 32
  for expansion, channels, repeats, first_stride in BLOCKS:
    for i in range(repeats):
      before = last
      if expansion > 1:
        add_conv("conv", 1, dim, dim * expansion, 1, True)
      stride = 1 if i else first_stride
      add_conv("dwconv", 3, None, dim * expansion, stride, True)
      add_conv("conv", 1, dim * expansion, channels, 1, False)
      if i:
        name = f"add{len(operations)}"
        operations.append({"op": "add", "name": name, "inp": [before, last]})
        last = name
      dim = channels
  add_conv("conv", 1, dim, 1280, 1, True)
  operations.append({"op": "gap", "name": "gap", "inp": last})
  last = "gap"
  add_conv("conv", 1, 1280, 1001, 1, False)
  text = json.dumps(operations).encode()
  return {"arch_json": np.frombuffer(text, np.uint8), **arrays}
