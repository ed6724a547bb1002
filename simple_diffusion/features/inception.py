# SPDX-License-Identifier: Apache-2.0
"""Inception-v3 as FID, KID and the Inception score were published with it.

It is the TensorFlow graph of 2015-12-05 (arXiv 1512.00567, with 1,008 logits),
whose weights the community keeps as `pt_inception-2015-12-05-6726825d.pth`. It
differs from other Inceptions, and so do its features:

  * average pools in branches divide by the pixels that exist, not by 9;
  * the last block pools by the maximum;
  * there is no auxiliary head, and an epsilon of 1e-3 in batch norms;
  * for the Inception score, the logits have no bias.

Two protocols share the weights:

  inception_fid          TF1's bilinear resize to 299, (x - 128) / 128: of the
                         original code and of torch-fidelity
  inception_pytorch_fid  bilinear between centres, x / 127.5 - 1: of pytorch-fid

`scripts.convert_inception` makes the .safetensors that is loaded. Names in it
are those of the .pth, weights [out, in, height, width]; its metadata say which
.pth it was, and what the arrays were. Of any other .pth, or of arrays that were
changed since, the network's name ends in "_of_other_weights", so that its
numbers are not taken for FID.
"""

import functools
import hashlib
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy

from simple_diffusion.features import inception_blocks
from simple_diffusion.features import network as network_lib
from simple_diffusion.features import resize

NUM_FEATURES = 2048
NUM_LOGITS = 1008
SIZE = 299
BATCH_NORM_EPSILON = 1e-3

# SHA-256 of the .pth that FID is defined by.
SOURCE_SHA256 = (
  "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
)

# The name of each protocol: its resize, its pixels, and both in words. The
# first is that of the original implementation.
PROTOCOLS = {
  "inception_fid": (
    resize.tf1_matrix,
    lambda x: (x - 128) / 128,
    "to 299 x 299 by TensorFlow 1's bilinear, as torch-fidelity",
  ),
  "inception_pytorch_fid": (
    resize.centers_matrix,
    lambda x: x / 127.5 - 1,
    "to 299 x 299 by bilinear between pixel centres, as pytorch-fid",
  ),
}


def load(path: pathlib.Path, *, name: str) -> network_lib.FeatureNetwork:
  """The network, with the weights of a .safetensors file.

  Args:
    path: of the file.
    name: a key of PROTOCOLS.

  Raises:
    ValueError: if an array is missing, or of another shape, or the file is of
      before arrays had a hash.
  """
  arrays = read(path)
  with safetensors.safe_open(path, "numpy") as file:
    found = file.metadata() or {}
  if found == {"source_sha256": SOURCE_SHA256}:
    raise ValueError(
      f"{path} does not say what its arrays were when it was made; make it "
      "again with scripts.convert_inception"
    )
  known = found == metadata(arrays, SOURCE_SHA256)
  params = jax.device_put(fold(arrays))
  return network_lib.FeatureNetwork(
    name=name if known else f"{name}_of_other_weights",
    num_features=NUM_FEATURES,
    weights_hash=network_lib.file_hash(path),
    resize=PROTOCOLS[name][2],
    apply=functools.partial(_apply, name, params),
  )


def metadata(arrays: dict[str, np.ndarray], source_sha256: str) -> dict:
  """What a file says of itself: its .pth, and its arrays when it was made."""
  digest = hashlib.sha256()
  for name in sorted(arrays):
    digest.update(f"{name} {arrays[name].shape}\n".encode())
    digest.update(np.ascontiguousarray(arrays[name], "<f4").data)
  return {"source_sha256": source_sha256, "arrays_sha256": digest.hexdigest()}


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
  """The arrays of a file, checked.

  Raises:
    ValueError: if it is no .safetensors, or not of this network.
  """
  try:
    arrays = safetensors.numpy.load_file(path)
  except safetensors.SafetensorError as error:
    raise ValueError(
      f"{path} has no weights of Inception-v3: {error}; make the .safetensors "
      "with scripts.convert_inception"
    ) from error
  return check(arrays, path)


def check(arrays: dict[str, np.ndarray], path) -> dict[str, np.ndarray]:
  """The network's own arrays among those of a file.

  Raises:
    ValueError: if one is missing, or of another shape.
  """
  expected = shapes()
  for name, shape in expected.items():
    found = arrays[name].shape if name in arrays else "missing"
    if found != shape:
      raise ValueError(
        f"{path} has no weights of FID's Inception-v3: {name} is {found}, not "
        f"{shape}; it is made from pt_inception-2015-12-05-6726825d.pth, other "
        "weights do not give FID"
      )
  return {name: np.asarray(arrays[name], np.float32) for name in expected}


def shapes() -> dict[str, tuple[int, ...]]:
  """{name: shape} of all arrays of a file."""
  found = {}

  def conv(name, x, channels, kernel, **options):
    found[f"{name}.conv.weight"] = (channels, x.shape[-1], *kernel)
    for part in ("weight", "bias", "running_mean", "running_var"):
      found[f"{name}.bn.{part}"] = (channels,)
    weight = jnp.zeros((*kernel, x.shape[-1], channels))
    return _convolve(x, weight, **options)

  image = jax.ShapeDtypeStruct((1, SIZE, SIZE, 3), jnp.float32)
  jax.eval_shape(functools.partial(inception_blocks.pooled, conv), image)
  found["fc.weight"] = (NUM_LOGITS, NUM_FEATURES)
  return found


def fold(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Convolutions with their batch norms folded in, in float64, to float32.

    gamma (w * x - m) / sqrt(v + epsilon) + beta

  Returns:
    {name.weight: [height, width, in, out], name.bias: [out]} of every
    convolution, and fc.weight [features, logits].
  """
  params = {"fc.weight": arrays["fc.weight"].T}
  for key in arrays:
    name, is_conv, _ = key.partition(".conv.weight")
    if not is_conv:
      continue
    gamma, beta, mean, variance = (
      np.float64(arrays[f"{name}.bn.{part}"])
      for part in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gamma / np.sqrt(variance + BATCH_NORM_EPSILON)
    weight = np.float64(arrays[key]) * scale.reshape(-1, 1, 1, 1)
    params[f"{name}.weight"] = np.float32(weight.transpose(2, 3, 1, 0))
    params[f"{name}.bias"] = np.float32(beta - mean * scale)
  return params


@functools.partial(jax.jit, static_argnums=0)
def _apply(name, params, images):
  make_matrix, scale_pixels, _ = PROTOCOLS[name]

  def conv(name, x, channels, kernel, **options):
    del channels, kernel  # The weights have them.
    y = _convolve(x, params[f"{name}.weight"], **options)
    return jax.nn.relu(y + params[f"{name}.bias"].reshape(1, 1, 1, -1))

  x = scale_pixels(resize.resize(images, SIZE, make_matrix))
  pooled = inception_blocks.pooled(conv, x)
  logits = jnp.matmul(
    pooled, params["fc.weight"], precision=jax.lax.Precision.HIGHEST
  )
  return network_lib.Features(pooled, logits)


def _convolve(x, weight, *, stride, padding):
  return jax.lax.conv_general_dilated(
    x,
    weight,
    window_strides=(stride, stride),
    padding=padding,
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
    precision=jax.lax.Precision.HIGHEST,  # Or accelerators round the factors.
  )
