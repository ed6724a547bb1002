# SPDX-License-Identifier: Apache-2.0
"""Inception-v3 and every metric against other people's code."""

import pathlib
import tempfile

import numpy as np
import safetensors.numpy

from scripts.metric_checks import pytorch
from scripts.metric_checks import random_inception
from scripts.metric_checks import rows
from simple_diffusion import features
from simple_diffusion import metrics

SEED = 0
FEATURES_ALLOWED = 1e-4  # Of features whose size is 1.
METRICS_ALLOWED = 1e-3
SMALL, LARGE = (40, 56), (331, 420)  # Enlarged and shrunk.


def compare(images_a, images_b):
  """Rows for two sets of Pillow images, equally many, all of one size."""
  images = images_a + images_b
  arrays = random_inception.weights(SEED)
  fidelity, fid = "torch-fidelity", "pytorch-fid"
  pixels = np.stack([np.asarray(image) for image in images])

  name = "inception_pytorch_fid"
  ours, _ = rows.extract(_load(name, arrays), images)
  theirs = pytorch.pytorch_fid_features(arrays, pixels)
  yield _largest(f"features of {name}", ours, theirs, fid)
  yield _frechet(name, ours, pytorch.pytorch_fid_distance, theirs, fid)

  name = "inception_fid"
  ours, our_logits = rows.extract(_load(name, arrays), images)
  theirs, their_logits = pytorch.torch_fidelity_features(arrays, pixels)
  yield _largest(f"features of {name}", ours, theirs, fidelity)
  yield _largest(f"logits of {name}", our_logits, their_logits, fidelity)
  yield _frechet(name, ours, pytorch.frechet_distance, theirs, fidelity)
  yield from _metrics(*np.split(np.float64(ours), 2), our_logits)


def _frechet(name, ours, other_distance, theirs, against):
  """From each side's own features of both sets."""
  moments = [metrics.moments_of(half) for half in np.split(ours, 2)]
  return rows.row(
    f"Frechet distance of {name}",
    metrics.frechet_distance(*moments),
    other_distance(*np.split(theirs, 2)),
    against=against,
    allowed=METRICS_ALLOWED,
  )


def _metrics(a, b, logits):
  """Of the same features and logits, ours."""
  kernel = metrics.kernel_distance(a, b)
  found = {
    "kernel distance": (kernel.value, pytorch.kernel_distance(a, b)),
  }
  ours = metrics.inception_score(logits)
  theirs = pytorch.inception_score(logits, num_splits=10)
  found["Inception score, mean"], found["Inception score, deviation"] = zip(
    ours, theirs, strict=True
  )
  ours = metrics.precision_recall(a, b)
  theirs = pytorch.precision_recall(a, b, k=3)
  found["precision"], found["recall"] = zip(ours, theirs, strict=True)
  for name, pair in found.items():
    yield rows.row(
      name, *pair, against="torch-fidelity", allowed=METRICS_ALLOWED
    )
  ours = metrics.density_coverage(a, b)
  theirs = pytorch.density_coverage(a, b, k=5)
  for i, name in enumerate(("density", "coverage")):
    yield rows.row(
      name, ours[i], float(theirs[i]), against="prdc", allowed=METRICS_ALLOWED
    )


def write_golden(path):
  """Features of PyTorch's for tests/test_features_inception.py, an npz."""
  arrays = random_inception.weights(SEED)
  golden = {
    "seed": SEED,
    "weights_total": sum(np.abs(np.float64(a)).sum() for a in arrays.values()),
  }
  for size, shape in (("small", SMALL), ("large", LARGE)):
    images = random_inception.images(1, 2, *shape)
    pooled, logits = pytorch.torch_fidelity_features(arrays, images)
    golden |= {
      f"{size}_size": shape,
      f"{size}_logits": logits,
      f"inception_fid_{size}_pooled": pooled,
      f"inception_pytorch_fid_{size}_pooled": pytorch.pytorch_fid_features(
        arrays, images
      ),
    }
  np.savez_compressed(path, **golden)


def _largest(name, ours, theirs, against):
  difference = np.abs(np.float64(ours) - theirs).max()
  return rows.row(
    f"{name}, largest difference",
    float(np.std(ours)),
    float(np.std(theirs)),
    against=against,
    difference=difference,
    allowed=FEATURES_ALLOWED,
  )


def _load(name, arrays):
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "random.safetensors"
    safetensors.numpy.save_file(arrays, path)
    return features.load(name, path)
