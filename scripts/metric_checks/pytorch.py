# SPDX-License-Identifier: Apache-2.0
"""Other people's features and metrics, in PyTorch and scikit-learn.

They are for `scripts.check_metrics` alone, in an environment of its own:

  pip install torch torchvision torch-fidelity pytorch-fid prdc
"""

import importlib.metadata
import pathlib
import tempfile

import numpy as np
import prdc
from pytorch_fid import fid_score as pytorch_fid_score
from pytorch_fid import inception as pytorch_fid_inception
import torch
from torch_fidelity import feature_extractor_inceptionv3
from torch_fidelity import metric_fid
from torch_fidelity import metric_isc
from torch_fidelity import metric_kid
from torch_fidelity import metric_prc

BATCH = 25


def versions() -> dict[str, str]:
  """Of what is imported here."""
  names = ("torch", "torchvision", "torch-fidelity", "pytorch-fid", "prdc")
  return {name: importlib.metadata.version(name) for name in names}


def _state(arrays):
  state = {name: torch.from_numpy(array) for name, array in arrays.items()}
  return state | {"fc.bias": torch.zeros(len(arrays["fc.weight"]))}


def _batches(images):
  for start in range(0, len(images), BATCH):
    part = images[start : start + BATCH].transpose(0, 3, 1, 2)
    yield torch.from_numpy(np.ascontiguousarray(part))


def torch_fidelity_features(arrays, images):
  """Pooled [N, 2048] and logits without bias [N, 1008] of uint8 images."""
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "weights.pth"
    torch.save(_state(arrays), path)
    network = feature_extractor_inceptionv3.FeatureExtractorInceptionV3(
      "inception",
      ["2048", "logits_unbiased"],
      feature_extractor_weights_path=path,
    )
  with torch.no_grad():
    found = [network(batch) for batch in _batches(images)]
  return tuple(torch.cat(part).numpy() for part in zip(*found, strict=True))


def pytorch_fid_features(arrays, images):
  """Pooled [N, 2048] of uint8 images."""
  # In place of a download.
  pytorch_fid_inception.load_state_dict_from_url = lambda *_, **__: _state(
    arrays
  )
  network = pytorch_fid_inception.InceptionV3().eval()
  with torch.no_grad():
    found = [network(batch / 255)[0] for batch in _batches(images)]
  return torch.cat(found)[:, :, 0, 0].numpy()


def pytorch_fid_distance(features_a, features_b) -> float:
  """FID of pytorch-fid: the square root of the product of covariances."""
  (mean_a, sigma_a), (mean_b, sigma_b) = (
    (f.mean(axis=0), np.cov(f, rowvar=False)) for f in (features_a, features_b)
  )
  return pytorch_fid_score.calculate_frechet_distance(
    mean_a, sigma_a, mean_b, sigma_b
  )


def frechet_distance(features_a, features_b) -> float:
  """FID of torch-fidelity: eigenvalues of the product of covariances."""
  statistics = [
    metric_fid.fid_features_to_statistics(torch.from_numpy(np.float64(f)))
    for f in (features_a, features_b)
  ]
  found = metric_fid.fid_statistics_to_metric(*statistics, verbose=False)
  return found[metric_fid.KEY_METRIC_FID]


def kernel_distance(features_a, features_b) -> float:
  """The MMD that torch-fidelity takes of each subset, of all features."""
  return float(
    metric_kid.kernel_mmd(
      np.float64(features_a),
      np.float64(features_b),
      kid_kernel="poly",
      kid_kernel_poly_degree=3,
      kid_kernel_poly_gamma=None,
      kid_kernel_poly_coef0=1,
    )
  )


def inception_score(logits, num_splits) -> tuple[float, float]:
  """Of torch-fidelity: its mean and standard deviation."""
  found = metric_isc.isc_features_to_metric(
    torch.from_numpy(logits), splits=num_splits
  )
  return (
    found[metric_isc.KEY_METRIC_ISC_MEAN],
    found[metric_isc.KEY_METRIC_ISC_STD],
  )


def precision_recall(real, fake, k) -> tuple[float, float]:
  """Of torch-fidelity."""
  return metric_prc.calculate_precision_recall_full(
    torch.from_numpy(np.float64(fake)), torch.from_numpy(np.float64(real)), k
  )


def density_coverage(real, fake, k) -> tuple[float, float]:
  """Of prdc, by the metric's authors."""
  found = prdc.compute_prdc(np.float64(real), np.float64(fake), k)
  return found["density"], found["coverage"]
