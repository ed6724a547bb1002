# SPDX-License-Identifier: Apache-2.0
"""Wrong labels: TaiLr against cross-entropy and what is meant for noise.

  python -m experiments.loss_studies.compare \
    --config=configs/loss_label_noise.py:mnist,40 --data_dir=data/mnist

The argument is <digits|mnist|cifar10>,<0|20|40>: a data set (digits comes with
scikit-learn) and how many percent of the training and validation labels are
replaced by another class; test labels are right. With ",tiny" after it the same
program with little to do, for tests. Of mnist and cifar10 1,000 examples
to train and validate, so that wrong labels can be learned by heart.

The question: does TaiLr, which lets go of what it finds unlikely (kexue.fm
9526), forget wrong labels, and at what price in calibration? Every method has
24 points, 12 of mnist and cifar10, chosen by the accuracy on noisy validation
labels, as in practice.
Hardware: 2 CPU cores, busy with other work as well. Time: digits a minute,
mnist 6, cifar10 10 to 15. Expected: the tables of docs/losses/tailr.md, from
experiments/results/loss_label_noise.jsonl.
"""

import ml_collections

from configs import arguments

placeholder = ml_collections.config_dict.placeholder

DATA = ("digits", "mnist", "cifar10")
NOISE = (0, 20, 40)
SEEDS = (0, 1, 2, 3, 4)


def get_config(arg="digits,20"):
  name, noise, variant = arguments.split(
    "loss_label_noise", arg, DATA, NOISE, variants=("tiny",)
  )
  config = ml_collections.ConfigDict()
  config.study = "loss_label_noise"
  is_digits = name == "digits"
  config.data = dict(kind="images", name=name, max_examples=placeholder(int))
  if not is_digits:
    config.data.max_examples = 1_000
  config.network = (
    dict(name="mlp", widths=(128,))
    if is_digits
    else dict(name="cnn", channels=(8, 16))
  )
  config.train = dict(
    num_steps=1_000 if is_digits else 500,
    batch_size=64,
    label_noise=int(noise) / 100,
  )
  config.seeds = SEEDS
  config.at_once = is_digits  # so that little is lost where trials take long
  config.measures = ("accuracy", "ece", "overconfidence")
  config.diagrams = ("reliability",)  # of test examples, summed over seeds
  config.metric = "accuracy"  # of validation: chooses the hyper-parameters
  config.search = dict(
    num_points=24 if is_digits else 12,
    ranges=dict(lr=(0.0003, 0.03), weight_decay=(0.001, 3.0)),
  )
  config.methods = dict(
    cross_entropy={},
    label_smoothing=dict(smoothing=(0.05, 0.1, 0.2, 0.4)),
    focal=dict(gamma=(0.5, 1.0, 2.0, 4.0)),
    generalized_cross_entropy=dict(q=(0.3, 0.5, 0.7, 0.9)),
    tailr=dict(gamma=(0.01, 0.1, 0.5, 0.9)),
  )
  if variant:
    config.train.num_steps = 10
    config.seeds = (0, 1)
    config.data.max_examples = 100
    config.search.num_points = 2
    config.methods = dict(cross_entropy={}, tailr=dict(gamma=(0.1,)))
  return config
