# SPDX-License-Identifier: Apache-2.0
"""Draws held-out photographs as `evaluate --grid=` draws samples.

  python -m scripts.photograph_grid --config=configs/photographs.py:64,unet \
    --config.data.data_dir=data/clothing \
    --grid=experiments/results/samples/clothing64/photographs.jpg

A column a class, the first ones of each; of the config's size and crop. What
samples are to be like stands beside them then.
"""

from absl import flags
from ml_collections import config_flags
import numpy as np

from experiments import cli
from experiments import grids
from experiments import references
from simple_diffusion import data

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "Whose data, size and crop.", lock_config=True
)
_GRID = flags.DEFINE_string("grid", None, "File to draw, .png or .jpg.")
_NUM_ROWS = flags.DEFINE_integer("num_rows", 1, "Photographs of a class.", 1)


def main(_):
  config = _CONFIG.value
  with cli.user_errors():
    path = grids.checked_path(_GRID.value)
    source = data.make_source(
      name=config.data.name,
      split=config.data.eval_split,
      data_dir=config.data.data_dir,
    )
    pixels, labels = map(
      np.concatenate,
      zip(
        *references.batches(config, source, config.eval.batch_size), strict=True
      ),
    )
    chosen = grids.first_of_each(labels, source.num_classes, _NUM_ROWS.value)
    num_columns = len(chosen) // _NUM_ROWS.value
    grids.save_grid(path, pixels[chosen], num_columns=num_columns)
  print(f"drawn: {path}")


if __name__ == "__main__":
  flags.mark_flags_as_required(["config", "grid"])
  cli.run(main)
