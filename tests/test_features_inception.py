# SPDX-License-Identifier: Apache-2.0
"""FID's Inception-v3 with random weights against its PyTorch original.

tests/golden/inception.npz has what torch-fidelity and pytorch-fid gave for the
weights and images of random_inception; scripts.check_metrics made it.
"""

import pathlib

from absl.testing import flagsaver
import numpy as np
import pytest
import safetensors.numpy

from scripts import convert_inception
from scripts.metric_checks import random_inception
from simple_diffusion import features
from simple_diffusion.features import inception

GOLDEN = pathlib.Path(__file__).parent / "golden" / "inception.npz"


@pytest.fixture(scope="module")
def golden():
  with np.load(GOLDEN) as file:
    return dict(file)


@pytest.fixture(scope="module")
def arrays(golden):
  return random_inception.weights(int(golden["seed"]))


@pytest.fixture(scope="module")
def path(arrays, tmp_path_factory):
  path = tmp_path_factory.mktemp("weights") / "inception.safetensors"
  more = {"Conv2d_1a_3x3.bn.num_batches_tracked": np.int64(7).reshape(())}
  written = convert_inception.convert(
    arrays | more, path, source="random", source_sha256="0123"
  )
  assert set(safetensors.numpy.load_file(path)) == set(inception.shapes())
  assert written == features.network.file_hash(path)
  with safetensors.safe_open(path, "numpy") as file:
    assert file.metadata().keys() == {"source_sha256", "arrays_sha256"}
    assert file.metadata()["source_sha256"] == "0123"
  return path


def test_the_golden_weights_are_drawn_again(arrays, golden):
  total = sum(np.abs(np.float64(a)).sum() for a in arrays.values())
  np.testing.assert_allclose(total, golden["weights_total"], rtol=1e-12)
  assert len(arrays) == 94 * 5 + 1  # Convolutions with their norms, and logits.
  # Inception-v3 with 1,008 logits, no auxiliary head, no bias of the logits:
  # torchvision's 23,834,568 parameters are with 1,000 logits and a bias.
  trained = {n: a for n, a in arrays.items() if "running" not in n}
  number = sum(a.size for a in trained.values())
  assert number == 23_834_568 - 1000 + 8 * 2048


@pytest.mark.parametrize("name", sorted(inception.PROTOCOLS))
def test_features_are_those_of_pytorch(name, path, golden):
  network = features.load(name, path)
  # Enlarged, and (of another shape) shrunk, which repeats or skips pixels.
  for size in ("small", "large"):
    images = random_inception.images(1, 2, *golden[f"{size}_size"])
    pooled, logits = features.extract(network, [images])
    expected = golden[f"{name}_{size}_pooled"]
    assert expected.std() > 0.5  # Or the tolerance would say nothing.
    np.testing.assert_allclose(pooled, expected, atol=1e-4)
    if name == "inception_fid":
      np.testing.assert_allclose(logits, golden[f"{size}_logits"], atol=1e-4)


def test_folding_is_batch_norm(arrays):
  rng = np.random.default_rng(0)
  name = "Mixed_5b.branch1x1"
  x = rng.normal(size=192)
  gamma, beta, mean, variance = (
    np.float64(arrays[f"{name}.bn.{part}"])
    for part in ("weight", "bias", "running_mean", "running_var")
  )
  y = np.float64(arrays[f"{name}.conv.weight"])[:, :, 0, 0] @ x
  expected = gamma * (y - mean) / np.sqrt(variance + 1e-3) + beta
  folded = inception.fold(arrays)
  weight, bias = folded[f"{name}.weight"], folded[f"{name}.bias"]
  np.testing.assert_allclose(x @ weight[0, 0] + bias, expected, atol=1e-5)


def test_weights_of_something_else(arrays, tmp_path):
  path = tmp_path / "other.safetensors"
  name = "Mixed_7c.branch_pool.bn.bias"
  without = {n: a for n, a in arrays.items() if n != name}
  safetensors.numpy.save_file(without, path)
  with pytest.raises(ValueError, match=f"{name} is missing"):
    features.load("inception_fid", path)
  # ImageNet's own Inception-v3 has 1,000 logits.
  imagenet = arrays | {"fc.weight": arrays["fc.weight"][:1000]}
  with pytest.raises(ValueError, match=r"fc.weight is \(1000, 2048\), not"):
    convert_inception.convert(
      imagenet, path, source="imagenet.pth", source_sha256="0123"
    )


def test_files_other_than_fids_are_not_converted(tmp_path, monkeypatch, capsys):
  source, weights = tmp_path / "cut.pth", tmp_path / "inception.safetensors"
  source.write_bytes(b"abc")
  with flagsaver.as_parsed(pth=str(source), weights=str(weights)):
    with pytest.raises(SystemExit) as exit_:
      convert_inception.main([])
  assert exit_.value.code == 2 and not weights.exists()
  # SHA-256 of "abc" is an example of FIPS 180-2.
  message = capsys.readouterr().err
  assert "cut.pth" in message
  abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
  known = inception.SOURCE_SHA256
  assert f"SHA-256 is {abc}, not {known}; download" in message
  monkeypatch.setattr(inception, "SOURCE_SHA256", abc)
  assert convert_inception.checked_sha256(source) == abc


def test_only_what_was_converted_has_fids_name(arrays, path, tmp_path):
  assert features.load("inception_fid", path).name == (
    "inception_fid_of_other_weights"
  )
  known = tmp_path / "known.safetensors"
  convert_inception.convert(
    arrays, known, source="x", source_sha256=inception.SOURCE_SHA256
  )
  assert features.load("inception_fid", known).name == "inception_fid"
  # Trained further, or halved, with its metadata kept.
  with safetensors.safe_open(known, "numpy") as file:
    metadata = file.metadata()
  changed = arrays | {"fc.weight": np.float32(arrays["fc.weight"] / 2)}
  safetensors.numpy.save_file(changed, known, metadata=metadata)
  assert features.load("inception_fid", known).name == (
    "inception_fid_of_other_weights"
  )
