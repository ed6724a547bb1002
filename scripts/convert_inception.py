# SPDX-License-Identifier: Apache-2.0
"""Makes the .safetensors of FID's Inception-v3 from the .pth that is known.

  python -m scripts.convert_inception --weights=inception.safetensors \
    --pth=pt_inception-2015-12-05-6726825d.pth

The .pth is https://github.com/mseitzer/pytorch-fid/releases/download/
fid_weights/pt_inception-2015-12-05-6726825d.pth, and on the release page v0.2.0
of toshas/torch-fidelity (as weights-inception-2015-12-05-6726825d.pth). Only
this program needs PyTorch.

Other weights do not give FID: a file whose SHA-256 is another is not read, and
nothing is written. The .safetensors has the whole SHA-256 in its metadata, as
`source_sha256`, and that of its arrays, as `arrays_sha256`.
"""

import hashlib
import pathlib

from absl import flags
import numpy as np
import safetensors.numpy

from experiments import cli
from simple_diffusion.features import inception
from simple_diffusion.features import network

_PTH = flags.DEFINE_string("pth", None, "File to read, of PyTorch.")
_WEIGHTS = flags.DEFINE_string("weights", None, "File to write, .safetensors.")


def checked_sha256(path: pathlib.Path) -> str:
  """SHA-256 of a file that must be the .pth with the weights of FID.

  Raises:
    ValueError: if it is another file.
  """
  with open(path, "rb") as file:
    found = hashlib.file_digest(file, "sha256").hexdigest()
  if found != inception.SOURCE_SHA256:
    raise ValueError(
      f"{path} does not have the weights that FID is defined by: its SHA-256 "
      f"is {found}, not {inception.SOURCE_SHA256}; download "
      "pt_inception-2015-12-05-6726825d.pth again"
    )
  return found


def convert(
  arrays: dict[str, np.ndarray],
  weights: pathlib.Path,
  *,
  source,
  source_sha256: str,
) -> str:
  """Writes what the network needs of arrays; returns the file's hash.

  Raises:
    ValueError: if an array is missing, or of another shape.
  """
  arrays = inception.check(arrays, source)
  safetensors.numpy.save_file(
    arrays, weights, metadata=inception.metadata(arrays, source_sha256)
  )
  return network.file_hash(weights)


def read_pth(path: pathlib.Path) -> dict[str, np.ndarray]:
  """The arrays of PyTorch's file, whose SHA-256 is known."""
  try:
    import torch  # Heavy, and needed nowhere else.
  except ImportError as error:
    raise ImportError("a .pth is read by PyTorch; pip install torch") from error
  state = torch.load(path, map_location="cpu", weights_only=True)
  return {name: array.numpy() for name, array in state.items()}


def main(_):
  source = pathlib.Path(_PTH.value)
  with cli.user_errors():
    sha256 = checked_sha256(source)
    weights = pathlib.Path(_WEIGHTS.value)
    # An error before the work, if it can't be made.
    weights.parent.mkdir(parents=True, exist_ok=True)
    found = convert(
      read_pth(source),
      weights,
      source=source,
      source_sha256=sha256,
    )
  print(f"{_WEIGHTS.value}: weights {found}, of {source} with SHA-256 {sha256}")


if __name__ == "__main__":
  flags.mark_flags_as_required(["pth", "weights"])
  cli.run(main)
