# SPDX-License-Identifier: Apache-2.0
"""Distances of samples to real images, and references kept on disk."""

import os
import pathlib

import jax
import numpy as np
import pytest
import real_runs

from configs import digits
from experiments import labels
from experiments import references
from experiments import sample_quality
from simple_diffusion import data
from simple_diffusion import features
from simple_diffusion import metrics


@jax.jit
def quadrants(pixels):
  """[B, H, W, 3] -> means of each quadrant's channels."""
  b, h, w, c = pixels.shape
  means = (pixels / 255).reshape(b, 2, h // 2, 2, w // 2, c).mean((2, 4))
  return features.Features(means.reshape(b, -1), None)


NETWORK = features.FeatureNetwork("quadrants", 12, "0" * 16, "none", quadrants)


def pixels(seed, num, scale=255):
  rng = np.random.default_rng(seed)
  return np.uint8(rng.uniform(0, scale, (num, 8, 8, 3)))


def reference(images, name):
  moments, kept = references.describe(
    NETWORK, [images], len(images), batch_size=len(images)
  )
  labels = np.zeros(len(images), np.int32)
  return references.Reference(name, moments, kept, labels)


def rgb_digits():
  config = digits.get_config()
  config.data.num_channels = 3
  return config, data.make_source(name="digits", split="test[:40]")


def test_distances_say_what_is_nearer():
  real, alike = pixels(0, 100), pixels(1, 100)
  darker = pixels(2, 100, scale=180)
  to = {
    name: sample_quality.distances(quadrants(a)[0], reference(real, "real"))
    for name, a in (("alike", alike), ("darker", darker))
  }
  for name in ("kernel", "frechet"):
    assert to["alike"][name] < to["darker"][name]
  for name in ("precision", "recall", "coverage"):
    assert to["alike"][name] > to["darker"][name]
  # Of one distribution: nothing but chance.
  kernel, error = (
    to["alike"][key] for key in ("kernel", "kernel_standard_error")
  )
  assert abs(kernel) < 4 * error


def test_protocol_is_part_of_the_record():
  train = reference(pixels(0, 60), "a")
  held_out = reference(pixels(1, 30), "b")
  fake = pixels(2, 40)
  samples = features.Features(
    *features.extract(NETWORK, [fake[:32], fake[32:]])
  )
  record = sample_quality.measure(NETWORK, samples, train, held_out)
  assert record["features"]["name"] == "quadrants"
  assert record["train"]["num_images"] == 60
  assert record["held_out"]["reference_hash"] == "b"
  assert record["real"]["num_samples"] == 30
  expected = metrics.kernel_distance(quadrants(fake)[0], held_out.kept)
  np.testing.assert_allclose(
    record["held_out"]["kernel"], expected.value, rtol=1e-4
  )
  assert record["inception_score"] is None  # Not FID's network.


def test_references_are_kept_by_content(tmp_path):
  config, source = rgb_digits()
  calls = []

  def apply(batch):
    calls.append(len(batch))
    return quadrants(batch)

  network = NETWORK._replace(apply=apply)

  def load():
    return references.load(
      network, config, source, batch_size=16, cache=tmp_path
    )

  first = load()
  assert sorted(first.labels) == sorted(source[i]["label"] for i in range(40))
  assert first.kept.shape == (40, 12) and calls == [16, 16, 16]
  again = load()
  assert calls == [16, 16, 16]  # From the disk.
  for one, other in zip(
    jax.tree.leaves(again), jax.tree.leaves(first), strict=True
  ):
    np.testing.assert_array_equal(one, other)

  # Anything else of the images or of the network is another reference.
  network = network._replace(weights_hash="1" * 16)
  assert load().hash != first.hash
  assert len(list(tmp_path.glob("*"))) == 2


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b""])
def test_damaged_references_are_an_error_that_names_them(
  damage, tmp_path, capsys
):
  config, source = rgb_digits()

  def load():
    return references.load(
      NETWORK, config, source, batch_size=16, cache=tmp_path
    )

  first = load()
  (path,) = tmp_path.iterdir()
  path.write_bytes(damage(path.read_bytes()))
  with pytest.raises(SystemExit) as exit_:
    load()
  error = capsys.readouterr().err
  assert exit_.value.code == 2 and "Traceback" not in error
  assert f"{path} has no features of real images" in error
  path.unlink()
  np.testing.assert_array_equal(load().kept, first.kept)


PROCESS = """
import sys
import pathlib
import jax
import numpy as np

index, address, tmp = int(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(address, 2, index)

import test_sample_quality
from experiments import references

config, source = test_sample_quality.rgb_digits()
calls = []

def apply(batch):
  calls.append(len(batch))
  return test_sample_quality.quadrants(batch)

network = test_sample_quality.NETWORK._replace(apply=apply)

# Only process 0 has the first, both share the second, the third holds no work.
for cache in (f"only_{index}", "shared", "shared"):
  found = references.load(
    network, config, source, batch_size=16, cache=tmp / cache
  )
  print(calls)
  np.savez(tmp / f"{index}.npz", kept=found.kept, **found.moments._asdict())
jax.distributed.shutdown()
"""


def test_processes_share_the_work_and_agree_on_the_cache(tmp_path):
  config, source = rgb_digits()
  alone = references.load(
    NETWORK, config, source, batch_size=16, cache=tmp_path / "only_0"
  )
  address = f"127.0.0.1:{real_runs.free_port()}"
  here = pathlib.Path(__file__).parent
  printed = real_runs.finish(
    [
      real_runs.start_python(
        ["-c", PROCESS, str(index), address, str(tmp_path)],
        environ={"PYTHONPATH": f"{here}{os.pathsep}{here.parent}"},
      )
      for index in (0, 1)
    ]
  )
  # 16 + 16 + 8 images, of which the second 16 are of process 1.
  calls = [text.splitlines()[-3:] for text in printed]
  assert calls[0] == ["[16, 16]", *["[16, 16, 16, 16]"] * 2]
  assert calls[1] == ["[16]", *["[16, 16]"] * 2]
  for name in ("only_0", "only_1", "shared"):
    assert [p.stem for p in (tmp_path / name).iterdir()] == [alone.hash]
  for index in (0, 1):
    with np.load(tmp_path / f"{index}.npz") as found:
      np.testing.assert_allclose(found["kept"], alone.kept, rtol=1e-6)
      for name, value in alone.moments._asdict().items():
        np.testing.assert_allclose(
          found[name], value, rtol=1e-6, atol=1e-12, err_msg=name
        )


def test_processes_must_have_the_same_images():
  references.require_one_hash(["a", "a"], "test")
  with pytest.raises(ValueError, match="'test' have hashes a, a, b in proc"):
    references.require_one_hash(["a", "a", "b"], "test")


def test_the_hash_is_of_pixels_not_of_batches():
  a = pixels(0, 12)
  hashes = {
    references.content_hash(NETWORK, np.split(a, parts)) for parts in (1, 3)
  }
  assert len(hashes) == 1
  a[3, 2, 1, 0] ^= 1
  assert references.content_hash(NETWORK, [a]) not in hashes


def test_of_many_images_some_are_kept():
  a = pixels(0, 100)
  moments, kept = references.describe(
    NETWORK, np.split(a, 20), len(a), batch_size=5, max_kept=34
  )
  pooled = np.asarray(quadrants(a)[0])
  np.testing.assert_allclose(kept, pooled[::3], rtol=1e-6)  # across chunks
  expected = metrics.moments_of(pooled)
  assert moments.count == 100
  np.testing.assert_allclose(moments.mean, expected.mean, rtol=1e-6)
  np.testing.assert_allclose(
    moments.scatter, expected.scatter, atol=1e-6 * expected.scatter.max()
  )


def test_labels_in_the_proportions_of_real_ones():
  real = np.repeat([0, 1, 2, -1], [20, 5, 15, 3])
  found = labels.in_proportion(9, np.random.default_rng(0).permutation(real))
  # 4.5, 1.125 and 3.375 of 9: the rest of the first is the largest.
  assert list(found) == [0, 1, 2, 0, 2, 0, 2, 0, 0]
  assert list(labels.in_turn(5, 3)) == [0, 1, 2, 0, 1]
  assert list(labels.in_turn(3, 0)) == [0, 0, 0]


def test_features_that_are_not_finite_are_no_features():
  broken = NETWORK._replace(
    apply=lambda a: features.Features(quadrants(a).pooled / 0, None)
  )
  with pytest.raises(ValueError, match="features of quadrants are not finite"):
    features.extract(broken, [pixels(0, 4)])
