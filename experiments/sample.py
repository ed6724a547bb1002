# SPDX-License-Identifier: Apache-2.0
"""Makes images from a checkpoint: a PNG grid and an npz of all of them.

  python -m experiments.sample --workdir=runs/digits --num_samples=100

Writes <out>.png, the first 400 in rows of ten, and <out>.npz with images uint8
[N, H, W, C] and labels int32 [N] (-1 without classes). Image i of a seed is the
same whatever the batch. It is one process, on all its devices.
"""

import pathlib

from absl import flags
import numpy as np

from experiments import cli
from experiments import generate
from experiments import grids
from experiments import labels as labels_lib
from simple_diffusion import images

_OUT = flags.DEFINE_string(
  "out", None, "Files to write, .png and .npz; default: in the workdir."
)
_NUM_SAMPLES = flags.DEFINE_integer("num_samples", 100, "How many.", 1)
_CLASS = flags.DEFINE_integer(
  "class", None, "Label of all images; default: the classes in turn."
)
flags.adopt_module_key_flags(generate)  # for --help


def labels_for(num_samples, num_classes, label):
  """[N] labels: all `label`, or the classes in turn if it is None."""
  if label is None:
    return labels_lib.in_turn(num_samples, num_classes)
  if not 0 <= label < num_classes:
    raise ValueError(
      f"--class={label}, but the network has {num_classes} classes"
      + (f": 0 to {num_classes - 1}" if num_classes else "")
    )
  return np.full(num_samples, label, np.int32)


def main(_):
  seed = flags.FLAGS.seed
  with cli.user_errors():
    config, programs, params, step = generate.load()
    num_classes = config.model.num_classes
    labels = labels_for(_NUM_SAMPLES.value, num_classes, _CLASS.value)
    name = f"step_{step:08d}_seed_{seed}"
    if _CLASS.value is not None:
      name += f"_class_{_CLASS.value}"
    default = pathlib.Path(flags.FLAGS.workdir) / "samples" / name
    out = pathlib.Path(_OUT.value or default)
    if out.suffix in (".png", ".npz"):
      out = out.with_suffix("")
    out.parent.mkdir(parents=True, exist_ok=True)
  print(f"sampler: {config.sample.to_dict()}")
  pixels = [
    images.to_uint8(batch)
    for batch in generate.batches_of_images(
      programs,
      params,
      labels=labels,
      seed=seed,
      batch_size=config.eval.batch_size,
    )
  ]
  pixels = np.concatenate(pixels)
  grid, archive = (out.with_name(out.name + end) for end in (".png", ".npz"))
  grids.save_grid(grid, pixels[:400], num_columns=10)
  if not num_classes:
    labels = np.full_like(labels, -1)
  np.savez(archive, images=pixels, labels=labels)
  print(f"{len(pixels)} images of step {step}: {grid}, {archive}")


if __name__ == "__main__":
  flags.mark_flags_as_required(["workdir"])
  cli.run(main)
