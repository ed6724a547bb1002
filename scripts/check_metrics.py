# SPDX-License-Identifier: Apache-2.0
"""Checks features and metrics on real images, and appends what it finds.

  python -m scripts.check_metrics --part=distances --images=/flowers128 \
    --other_images=/clothing256 --mobilenet=mobilenet_v2_1.0_224_int8.npz
  python -m scripts.check_metrics --part=copies --images=/flowers128 \
    --mobilenet=mobilenet_v2_1.0_224_int8.npz
  python -m scripts.check_metrics --part=pytorch --images=/flowers128 \
    --num_images=500

* distances: MobileNetV2's, against those that another program found;
* copies: what saving images as JPEG does to them;
* pytorch: Inception-v3 with random weights against torch-fidelity and
  pytorch-fid, and every metric against another implementation of it; needs
  what `metric_checks.pytorch` says. --golden=tests/golden/inception.npz writes
  the features that tests compare with, instead.

A difference beyond what is allowed is an error, after it was recorded.
"""

import pathlib
import sys

from absl import flags

from experiments import cli
from experiments import records
from experiments import workdir
from scripts.metric_checks import real_images
from scripts.metric_checks import rows
from simple_diffusion import features

_PART = flags.DEFINE_enum(
  "part", None, ["distances", "copies", "pytorch"], "What to check."
)
_IMAGES = flags.DEFINE_string("images", None, "Folder of JPEGs, at any depth.")
_OTHER = flags.DEFINE_string("other_images", None, "Folder of other JPEGs.")
_MOBILENET = flags.DEFINE_string("mobilenet", None, "Weights of MobileNetV2.")
_NUMBER = flags.DEFINE_integer(
  "num_images", 1500, "Images a side; known distances are of 1,500."
)
_GOLDEN = flags.DEFINE_string("golden", None, "File of features to write.")
_RESULTS = flags.DEFINE_string(
  "results", "experiments/results/metrics.jsonl", "File to append to."
)


# Flags that a part cannot do without.
NEEDS = {
  "distances": (_IMAGES, _OTHER, _MOBILENET),
  "copies": (_IMAGES, _MOBILENET),
  "pytorch": (_IMAGES,),
}


def read_inputs(part):
  """What a part needs: Pillow images, others or None, a network or None."""
  missing = [flag.name for flag in NEEDS[part] if flag.value is None]
  if missing:
    raise ValueError(f"--part={part} needs --{' and --'.join(missing)}")
  images = read_images(_IMAGES.value, 2)
  if part == "pytorch":
    return images, None, None
  network = features.load("mobilenet_v2", _MOBILENET.value)
  other = read_images(_OTHER.value, 1) if part == "distances" else None
  return images, other, network


def read_images(folder, num_sides):
  """Pillow images of a folder, enough for so many sides."""
  images, number = rows.read_images(folder), _NUMBER.value
  if len(images) < num_sides * number:
    raise ValueError(
      f"{number} images a side need {num_sides * number}, but {folder} has "
      f"{len(images)}; use --num_images={len(images) // num_sides} or fewer"
    )
  return images


def main(_):
  part, number = _PART.value, _NUMBER.value
  if part == "pytorch":
    from scripts.metric_checks import same_as_pytorch  # Only it needs PyTorch.
  with cli.user_errors():
    if _GOLDEN.value and part != "pytorch":
      raise ValueError(f"--golden is of --part=pytorch, not of {part}")
    if not _GOLDEN.value:
      images, other, network = read_inputs(part)
  if _GOLDEN.value:
    same_as_pytorch.write_golden(_GOLDEN.value)
    return

  name = pathlib.Path(_IMAGES.value).resolve().name
  record = {"part": part, "images": name, "num_images": number}
  if part == "distances":
    found = real_images.distances(network, images, other, number=number)
  elif part == "copies":
    found = real_images.copies(network, images, number=number)
  else:
    found = same_as_pytorch.compare(*real_images.halves(images, number))
    record["references"] = same_as_pytorch.pytorch.versions()
  record["rows"] = []
  for row in found:
    print(row, flush=True)
    record["rows"].append(row)
  if network:
    record["weights"] = network.weights_hash
  record["environment"] = workdir.environment()
  records.append_result(pathlib.Path(_RESULTS.value), record)
  beyond = rows.beyond_what_is_allowed(record["rows"])
  if beyond:
    sys.exit(f"error: more than is allowed differs: {'; '.join(beyond)}")


if __name__ == "__main__":
  flags.mark_flags_as_required(["part"])
  cli.run(main)
