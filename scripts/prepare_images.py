# SPDX-License-Identifier: Apache-2.0
"""Prepares a folder of images for training, once.

  python -m scripts.prepare_images --images=/photos --out=/prepared

`simple_diffusion.folder_layout` describes the folders accepted. Prints what
was found, converted and skipped (also kept in /prepared/report.txt) and the
command that trains on it.
"""

import shlex

from absl import flags

from experiments import cli
from simple_diffusion import folder

_IMAGES = flags.DEFINE_string("images", None, "Folder of images.")
_OUT = flags.DEFINE_string("out", None, "Folder to create.")
_ON_BROKEN = flags.DEFINE_enum(
  "on_broken",
  "error",
  folder.ON_BROKEN,
  "Stop at the first image that is broken or too small, or leave it out.",
)
_MIN_SIZE = flags.DEFINE_integer(
  "min_size",
  None,
  "Least height and width in pixels; None accepts any size.",
  lower_bound=1,
)


def main(_):
  with cli.user_errors():
    report = folder.prepare(
      _IMAGES.value,
      _OUT.value,
      on_broken=_ON_BROKEN.value,
      min_size=_MIN_SIZE.value,
    )
  print(folder.format_report(report))
  out = shlex.quote(_OUT.value)
  print(
    f"prepared {out}; now train on it with\n"
    "  python -m experiments.train --config=configs/images.py:64"
    f" --config.data.data_dir={out} --workdir=runs/photos"
  )


if __name__ == "__main__":
  flags.mark_flags_as_required(["images", "out"])
  cli.run(main)
