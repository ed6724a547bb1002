# SPDX-License-Identifier: Apache-2.0
"""MobileNetV2 with random weights against the same network in float64 NumPy."""

import io
import json

import jax.numpy as jnp
import mobilenet_file
import numpy as np
import PIL.Image
import pytest

from simple_diffusion import features
from simple_diffusion import metrics
from simple_diffusion.features import mobilenet


def plain_conv(x, w, stride):
  """SAME convolution of float64 [B, H, W, C] by a sum over the kernel."""
  size, depthwise = len(w), w.shape[2] == 1 and x.shape[-1] > 1
  outputs = [-(-n // stride) for n in x.shape[1:3]]
  pads = [
    max((o - 1) * stride + size - n, 0)
    for o, n in zip(outputs, x.shape[1:3], strict=True)
  ]
  x = np.pad(x, [(0, 0), *((p // 2, p - p // 2) for p in pads), (0, 0)])
  y = 0
  for i, j in np.ndindex(size, size):
    part = x[:, i:, j:][:, ::stride, ::stride][:, : outputs[0], : outputs[1]]
    y = y + (part * w[i, j, 0] if depthwise else part @ w[i, j])
  return y


def plain_mobilenet(file, images):
  values = {"input": images / 127.5 - 1}
  for op in json.loads(file["arch_json"].tobytes()):
    if op["op"] == "add":
      values[op["name"]] = sum(values[name] for name in op["inp"])
      continue
    x = values[op["inp"]]
    if op["op"] == "gap":
      values["gap"] = x.mean((1, 2), keepdims=True)
      continue
    w, s = (file[f"{op['name']}/{key}"] for key in ("w_int8", "w_scale"))
    y = plain_conv(x, np.float64(w) * s, op["stride"]) + file[f"{op['name']}/b"]
    values[op["name"]] = np.clip(y, 0, 6) if op["relu6"] else y
  return values["gap"][:, 0, 0], values[op["name"]][:, 0, 0, 1:]


@pytest.fixture(scope="module")
def file():
  return mobilenet_file.make_file()


@pytest.fixture(scope="module")
def path(file, tmp_path_factory):
  path = tmp_path_factory.mktemp("weights") / "mobilenet.npz"
  np.savez(path, **file)
  return path


def plain_resize(images):
  """To 160 x 160, by Pillow in floating point: it averages, and overshoots."""

  def channel(pixels):
    image = PIL.Image.fromarray(np.float32(pixels), mode="F")
    return np.asarray(image.resize((160, 160), PIL.Image.Resampling.BICUBIC))

  images = images.transpose(0, 3, 1, 2)
  return np.stack(
    [np.stack([channel(c) for c in image], -1) for image in images]
  )


# Larger in both, smaller in both, one of each, and none.
@pytest.mark.parametrize("size", [(64, 33), (200, 256), (161, 64), (160, 160)])
def test_it_is_the_network_of_its_file(file, path, size):
  rng = np.random.default_rng(1)
  images = rng.integers(0, 256, (2, *size, 3), dtype=np.uint8)
  network = features.load("mobilenet_v2", path)
  pooled, logits = features.extract(network, [images])
  resized = plain_resize(images)
  assert (resized.min() < -10 and resized.max() > 265) == (size[1] < 160)
  expected_pooled, expected_logits = plain_mobilenet(file, resized)
  assert 0.1 < expected_pooled.std() and 0.1 < expected_logits.std()
  # Float32 places of pixels are off by some 1e-5, pixels by 2e-3 of 255.
  atol = 1e-4 if size == (160, 160) else 3e-3
  np.testing.assert_allclose(pooled, expected_pooled, atol=atol)
  np.testing.assert_allclose(logits, expected_logits, atol=atol)
  assert pooled.dtype == logits.dtype == np.float32


def saved(images, kind, **options):
  """The images, each through a file."""

  def through_a_file(image):
    file = io.BytesIO()
    PIL.Image.fromarray(image).save(file, kind, **options)
    return np.asarray(PIL.Image.open(file))

  return np.stack([through_a_file(image) for image in images])


def test_a_jpeg_copy_is_told_from_a_png_copy(path):
  rng = np.random.default_rng(3)
  images = rng.integers(0, 256, (48, 4, 4, 3)).repeat(8, 1).repeat(8, 2)
  images = np.uint8(np.clip(images + rng.normal(size=images.shape) * 4, 0, 255))
  network = features.load("mobilenet_v2", path)

  def extract(images):
    return features.extract(network, np.split(images, 3))[0][:, :100]

  original = extract(images)
  png = extract(saved(images, "PNG"))
  jpeg = extract(saved(images, "JPEG", quality=75))
  np.testing.assert_array_equal(png, original)
  frechet_png, frechet_jpeg = (
    metrics.frechet_distance(
      metrics.moments_of(original), metrics.moments_of(copy)
    )
    for copy in (png, jpeg)
  )
  assert abs(frechet_png) < 1e-9 < 1e-3 < frechet_jpeg
  # An unbiased distance of a set from itself is below 0.
  kernel_png, kernel_jpeg = (
    metrics.kernel_distance(original, copy) for copy in (png, jpeg)
  )
  assert kernel_png.value < 0 and kernel_png.value < kernel_jpeg.value


def test_depthwise_is_a_grouped_convolution():
  rng = np.random.default_rng(2)
  for stride in (1, 2):
    for size in ((6, 7), (5, 2)):
      x, w = rng.normal(size=(2, *size, 4)), rng.normal(size=(3, 3, 1, 4))
      np.testing.assert_allclose(
        mobilenet._depthwise(jnp.float32(x), jnp.float32(w), stride),
        plain_conv(x, w, stride),
        atol=1e-5,
      )


def test_weights_of_something_else(file, tmp_path):
  path = tmp_path / "other.npz"
  without = {name: a for name, a in file.items() if name != "07/b"}
  np.savez(path, **without)
  with pytest.raises(ValueError, match="07/b"):
    features.load("mobilenet_v2", path)
  np.savez(path, **{**file, "07/w_int8": file["07/w_int8"][..., :-1]})
  with pytest.raises(ValueError, match="do not fit|broadcast"):
    features.load("mobilenet_v2", path)
  narrower = {name: file[f"52/{name}"][..., :-1] for name in ("w_int8", "b")}
  narrower["w_scale"] = file["52/w_scale"][:-1]
  np.savez(path, **file | {f"52/{name}": a for name, a in narrower.items()})
  with pytest.raises(ValueError, match=r"\(1, 999\).*not .*\(1, 1000\)"):
    features.load("mobilenet_v2", path)
