# SPDX-License-Identifier: Apache-2.0
"""Images through a feature network, and the mistakes of users."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simple_diffusion import features
from simple_diffusion.features import network as network_lib


def make_network(with_logits=True):
  """Features that are sums over an image, and the shapes that were compiled."""
  shapes = []

  @jax.jit
  def apply(images):
    shapes.append(images.shape)  # Only while tracing.
    sums = jnp.float32(images).sum((1, 2))
    return features.Features(sums, sums[:, :2] if with_logits else None)

  network = features.FeatureNetwork("sums", 3, "0" * 16, "none", apply)
  return network, shapes


def make_images(number):
  rng = np.random.default_rng(0)
  return rng.integers(0, 256, (number, 4, 5, 3), dtype=np.uint8)


def test_all_images_in_order_with_one_compilation():
  images = make_images(11)
  network, shapes = make_network()
  batches = iter(np.split(images, [4, 6, 10]))  # Of 4, 2, 4 and 1.
  pooled, logits = features.extract(network, batches)
  expected = images.sum((1, 2), dtype=np.float32)
  np.testing.assert_array_equal(pooled, expected)
  np.testing.assert_array_equal(logits, expected[:, :2])
  assert shapes == [(4, 4, 5, 3)]
  assert repr(network) == f"FeatureNetwork(sums, weights {'0' * 16})"


def test_large_batches_go_through_in_equal_parts(monkeypatch):
  monkeypatch.setattr(network_lib, "MAX_AT_ONCE", 4)
  images = make_images(15)
  network, shapes = make_network()
  pooled, _ = features.extract(network, np.split(images, [9]))
  np.testing.assert_array_equal(pooled, images.sum((1, 2), dtype=np.float32))
  assert shapes == [(3, 4, 5, 3)]


def test_a_network_without_logits():
  network, _ = make_network(with_logits=False)
  pooled, logits = features.extract(network, [make_images(3)])
  assert pooled.shape == (3, 3) and logits is None


def test_what_are_no_images():
  network, _ = make_network()
  for images, message in (
    (make_images(2) / np.float32(255), "images are float32"),
    (make_images(2)[..., :1], r"\(2, 4, 5, 1\).*grey"),
    (make_images(2)[0], r"\(4, 5, 3\)"),
    (make_images(0), r"B > 0"),
  ):
    with pytest.raises(ValueError, match=message):
      features.extract(network, [images])
  with pytest.raises(ValueError, match="no image"):
    features.extract(network, [])


def test_networks_that_cannot_be_loaded(tmp_path):
  with pytest.raises(ValueError, match=r"'inception'.*'mobilenet_v2'"):
    features.load("inception", tmp_path)
  for name in features.NETWORKS:
    with pytest.raises(FileNotFoundError, match="docs/metrics.md"):
      features.load(name, tmp_path / "absent")
    broken = tmp_path / "broken"
    broken.write_bytes(b"PK\x03\x04 no weights")
    with pytest.raises(ValueError, match="broken has no weights of"):
      features.load(name, broken)


def test_the_hash_is_sha256sums(tmp_path):
  path = tmp_path / "weights"
  path.write_bytes(b"some weights")
  expected = hashlib.sha256(b"some weights").hexdigest()[:16]
  assert features.network.file_hash(path) == expected
