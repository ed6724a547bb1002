# SPDX-License-Identifier: Apache-2.0
"""Distances between photographs, to judge those of samples by.

  python -m scripts.photograph_yardsticks \
    --config=configs/photographs.py:64,unet \
    --config.data.data_dir=data/clothing --other_data_dir=data/flowers \
    --feature_network=mobilenet_v2 --feature_weights=mobilenet_v2.npz

Held-out photographs, as they are and with noise, photographs of something else,
and white noise, each as if it were samples: against the training photographs,
of the config's size and crop, by the features that `experiments.evaluate` has.
One line is appended to --results.
"""

import pathlib

from absl import flags
from ml_collections import config_flags
import numpy as np

from experiments import cli
from experiments import records
from experiments import references
from experiments import workdir
from scripts import yardsticks
from simple_diffusion import data
from simple_diffusion import features

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "Whose data, size and crop.", lock_config=True
)
_OTHER = flags.DEFINE_string(
  "other_data_dir", None, "Photographs of something else, if there are any."
)
_NETWORK = flags.DEFINE_enum(
  "feature_network", None, sorted(features.NETWORKS), "Features to compare."
)
_WEIGHTS = flags.DEFINE_string("feature_weights", None, "File of its weights.")
_RESULTS = flags.DEFINE_string(
  "results",
  "experiments/results/photograph_yardsticks.jsonl",
  "File to append to.",
)


def held_out(config, folder: str) -> np.ndarray:
  """uint8 [N, H, W, C] of a prepared folder, of the config's size and crop."""
  source = data.make_source(
    name=config.data.name, split=config.data.eval_split, data_dir=folder
  )
  batches = references.batches(config, source, config.eval.batch_size)
  return np.concatenate([pixels for pixels, _ in batches])


def main(_):
  config = _CONFIG.value
  batch_size = config.eval.batch_size
  with cli.user_errors():
    network = features.load(_NETWORK.value, _WEIGHTS.value)
    train = data.make_source(
      name=config.data.name,
      split=config.data.split,
      data_dir=config.data.data_dir,
    )
    sets = yardsticks.with_noise(held_out(config, config.data.data_dir))
    if _OTHER.value:
      other = pathlib.PurePath(_OTHER.value).name
      sets[f"{other}, held out"] = held_out(config, _OTHER.value)
  real = references.load(network, config, train, batch_size=batch_size)
  record = {
    "config": workdir.as_json(config),
    "held_out_split": config.data.eval_split,
    "seed": yardsticks.SEED,
    "features": {
      "name": network.name,
      "weights_hash": network.weights_hash,
      "resize": network.resize,
    },
    "rows": yardsticks.measure(network, sets, real, batch_size=batch_size),
    "environment": workdir.environment(),
  }
  records.append_result(pathlib.Path(_RESULTS.value), record)


if __name__ == "__main__":
  flags.mark_flags_as_required(["config", "feature_network", "feature_weights"])
  cli.run(main)
