# SPDX-License-Identifier: Apache-2.0
"""Few labels: VAT against noise of the same norm and labels alone.

  python -m experiments.loss_studies.compare \
    --config=configs/loss_few_labels.py:mnist --data_dir=data/mnist

The argument is digits (of scikit-learn, 50 labels) or mnist (100 labels, of
5,000 images to train and validate; mnist.npz in --data_dir); with ",tiny"
after it the same program with little to do, for tests.

The claim of VAT (arXiv 1704.03976): the step that changes a prediction most
teaches more from examples without labels than a random one of the same norm.
A random one may be larger, so there are larger ones too.
Every method has 12 points. They are chosen on validation labels, which are more
than the training labels, so this is the best case for all. Hardware: 2 CPU
cores. Time: see docs/losses/consistency.md. Expected: its table, generated
from experiments/results/loss_few_labels.jsonl.
"""

import ml_collections

from configs import arguments

placeholder = ml_collections.config_dict.placeholder

DATA = ("digits", "mnist")
SEEDS = (0, 1, 2, 3, 4)


def get_config(arg="digits"):
  name, variant = arguments.split(
    "loss_few_labels", arg, DATA, variants=("tiny",)
  )
  config = ml_collections.ConfigDict()
  config.study = "loss_few_labels"
  config.data = dict(
    kind="few_labels", name=name, max_examples=placeholder(int)
  )
  if name == "mnist":
    config.data.max_examples = 5_000
  config.network = dict(name="mlp", widths=(128, 128))
  config.train = dict(
    num_steps=500,
    batch_size=128,
    labelled_batch_size=32,
    labels_each=10 if name == "mnist" else 5,
  )
  config.seeds = SEEDS
  config.at_once = True
  config.measures = ("accuracy",)
  config.diagrams = ()
  config.metric = "accuracy"  # of validation: chooses the hyper-parameters
  config.search = dict(
    num_points=12, ranges=dict(lr=(0.0005, 0.01), weight_decay=(0.001, 1.0))
  )
  epsilon = (0.25, 0.5, 1.0, 2.0, 4.0)
  config.methods = dict(
    supervised={},
    noise=dict(epsilon=epsilon),
    # On mnist the best norm of a random step was the largest of those above.
    noise_large=dict(epsilon=(2.0, 4.0, 8.0, 16.0, 32.0)),
    vat=dict(epsilon=epsilon),
  )
  if variant:
    config.train.num_steps = 10
    config.train.labels_each = 2
    config.seeds = (0, 1)
    config.data.max_examples = 200
    config.search.num_points = 2
    config.methods = dict(supervised={}, vat=dict(epsilon=(1.0,)))
  return config
