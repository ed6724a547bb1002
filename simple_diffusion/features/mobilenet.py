# SPDX-License-Identifier: Apache-2.0
"""MobileNetV2 (arXiv 1801.04381) as a feature network, from 8-bit weights.

Small enough to watch a training run with on a CPU. Its distances are not FID
or KID, and never stand beside published ones.

The weights are a file of 3.4 MB: 53 convolutions `NN/w_int8` (HWIO) with a
scale per output channel `NN/w_scale` and `NN/b`, batch norms folded in, and
`arch_json`, the operations in order. Images of any size are resized to 160 x
160, between the 96 and 224 pixels that MobileNetV2s are trained at (memory);
pixels are x / 127.5 - 1.
"""

import functools
import json
import pathlib
import zipfile

import jax
import jax.numpy as jnp
import numpy as np

from simple_diffusion.features import network as network_lib

NAME = "mobilenet_v2"
SIZE = 160
NUM_FEATURES = 1280
NUM_LOGITS = 1000  # Of ImageNet; the file's first of 1,001 is "background".


def load(path: pathlib.Path) -> network_lib.FeatureNetwork:
  """The network, with the weights of a file.

  Raises:
    ValueError: if the file is of something else.
  """
  operations, params = read(path)
  params = jax.device_put(params)
  return network_lib.FeatureNetwork(
    name=NAME,
    num_features=NUM_FEATURES,
    weights_hash=network_lib.file_hash(path),
    resize=f"bicubic, antialiased, to {SIZE}x{SIZE}",
    apply=functools.partial(_apply, operations, params),
  )


def read(path: pathlib.Path) -> tuple[str, dict[str, dict[str, np.ndarray]]]:
  """The operations as JSON, and {name: {w, b}} in float32.

  Raises:
    ValueError: if an array is missing, or of another shape than MobileNetV2's.
  """
  try:
    with (
      open(path, "rb") as opened,
      np.load(opened, allow_pickle=False) as file,
    ):
      operations = bytes(file["arch_json"]).decode()
      params = {
        op["name"]: {
          "w": np.float32(file[f"{op['name']}/w_int8"])
          * file[f"{op['name']}/w_scale"],
          "b": file[f"{op['name']}/b"],
        }
        for op in json.loads(operations)
        if op["op"] in ("conv", "dwconv")
      }
  except (KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
    raise ValueError(
      f"{path} has no weights of {NAME}: {error}; give the .npz with arch_json"
    ) from error
  _check_shapes(path, operations, params)
  return operations, params


def _check_shapes(path, operations, params):
  """Runs the network on shapes only: parts that do not fit are an error."""
  image = jax.ShapeDtypeStruct((1, SIZE, SIZE, 3), jnp.uint8)
  expected = ((1, NUM_FEATURES), (1, NUM_LOGITS))
  try:
    features = jax.eval_shape(
      functools.partial(_apply, operations), params, image
    )
    shapes = tuple(output.shape for output in features)
  except (KeyError, TypeError, ValueError) as error:
    raise ValueError(
      f"{path} has no weights of {NAME}: its arrays do not fit together "
      f"({error}); fetch the file again"
    ) from error
  if shapes != expected:
    raise ValueError(
      f"{path} is another network than {NAME}: features and logits of one "
      f"image are {shapes}, not {expected}"
    )


@functools.partial(jax.jit, static_argnums=0)
def _apply(operations, params, images):
  # Not rounded or clipped to [0, 255] again, where bicubic overshoots.
  x = jax.image.resize(
    jnp.float32(images),
    (len(images), SIZE, SIZE, 3),
    "bicubic",
    antialias=True,
    precision=jax.lax.Precision.HIGHEST,
  )
  values = {"input": x / 127.5 - 1}
  for op in json.loads(operations):
    values[op["name"]] = _operation(op, params, values)
  pooled = values["gap"]  # [B, 1, 1, D]
  last = values[op["name"]]  # [B, 1, 1, 1 + K]
  return network_lib.Features(pooled[:, 0, 0], last[:, 0, 0, 1:])


def _operation(op, params, values):
  if op["op"] == "add":
    a, b = op["inp"]
    return values[a] + values[b]
  x = values[op["inp"]]
  if op["op"] == "gap":
    return x.mean((1, 2), keepdims=True)
  w, b = params[op["name"]]["w"], params[op["name"]]["b"]
  conv = _depthwise if op["op"] == "dwconv" else _conv
  y = conv(x, w, op["stride"]) + b.reshape(1, 1, 1, -1)
  return jnp.clip(y, 0, 6) if op["relu6"] else y


def _conv(x, w, stride):
  return jax.lax.conv_general_dilated(
    x,
    w,
    window_strides=(stride, stride),
    padding="SAME",
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    precision=jax.lax.Precision.HIGHEST,  # Or accelerators round the factors.
  )


def _depthwise(x, w, stride):
  """One 3 x 3 filter a channel; x [B, H, W, C], w [3, 3, 1, C].

  A sum of nine shifted products: on a CPU a third of the time that XLA's
  grouped convolution takes.
  """
  starts = [-(-size // stride) for size in x.shape[1:3]]  # Of outputs, ceil.
  total = [
    max((number - 1) * stride + 3 - size, 0)
    for number, size in zip(starts, x.shape[1:3], strict=True)
  ]
  # SAME: the odd one of the padding is behind.
  x = jnp.pad(x, [(0, 0), *((t // 2, t - t // 2) for t in total), (0, 0)])
  rows, columns = starts
  y = jnp.zeros((len(x), rows, columns, x.shape[-1]), x.dtype)
  for i in range(3):
    for j in range(3):
      shifted = x[
        :,
        i : i + (rows - 1) * stride + 1 : stride,
        j : j + (columns - 1) * stride + 1 : stride,
      ]
      y += shifted * w[i, j].reshape(1, 1, 1, -1)
  return y
