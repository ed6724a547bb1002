# SPDX-License-Identifier: Apache-2.0
"""A small convolutional network: EXACT and TaiLr against their competitors.

  python -m experiments.loss_studies.compare \
    --config=configs/loss_images.py:cifar10 --data_dir=data/cifar10

The argument is digits (of scikit-learn), mnist or cifar10 (mnist.npz and
cifar10.npz in --data_dir); with ",tiny", as in digits,tiny, the same program
with little to do, for tests. Of mnist and cifar10 10,000 examples to train and
validate.

The claim of EXACT (arXiv 2205.09615), of larger networks: better accuracy than
cross-entropy. Every method has 12 points. Hardware: 2 CPU cores. Time: see
docs/losses/exact.md. Expected: its table, generated from
experiments/results/loss_images.jsonl.
"""

import ml_collections

from configs import arguments
from configs import loss_tabular

placeholder = ml_collections.config_dict.placeholder

DATA = ("digits", "mnist", "cifar10")
SEEDS = (0, 1, 2, 3, 4)


def get_config(arg="digits"):
  name, variant = arguments.split("loss_images", arg, DATA, variants=("tiny",))
  config = ml_collections.ConfigDict()
  config.study = "loss_images"
  config.data = dict(kind="images", name=name, max_examples=placeholder(int))
  if name != "digits":
    config.data.max_examples = 10_000
  config.network = dict(name="cnn", channels=(8, 16))
  config.train = dict(num_steps=1_000, batch_size=64)
  config.seeds = SEEDS
  config.at_once = False  # so that little is lost: trials take seconds
  config.measures = ("accuracy",)
  config.diagrams = ()
  config.metric = "accuracy"  # of validation: chooses the hyper-parameters
  config.search = dict(
    num_points=12, ranges=dict(lr=(0.001, 0.03), weight_decay=(0.001, 1.0))
  )
  config.methods = loss_tabular.methods(exact_lr=(0.003, 0.3))
  if variant:
    config.network.channels = (4,)
    config.train.num_steps = 10
    config.seeds = (0, 1)
    config.data.max_examples = 100
    config.search.num_points = 2
    config.methods = loss_tabular.TWO_METHODS
  return config
