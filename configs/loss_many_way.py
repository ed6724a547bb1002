# SPDX-License-Identifier: Apache-2.0
"""Many small classifications, most of one class: the n m-way losses.

  python -m experiments.loss_studies.compare \
    --config=configs/loss_many_way.py:wnut17 --data_dir=data/ner_wnut17

The argument is digit_lines (of scikit-learn's digits) or wnut17 (the kinds of
names that tokens belong to; files in --data_dir); with ",tiny" after it the
same program with little to do, for tests. Linear models of an item's features.

The claim, or rather its author's doubt (kexue.fm 9158): loss 1 balances
classes, a class of N items weighs log N, but the generalisation is a failure.
Every method has 24 points. Hardware: 2 CPU cores, busy with other work
as well. Time: digit_lines 5 minutes, wnut17 10. Expected: the table of
docs/losses/zlpr.md, from experiments/results/loss_many_way.jsonl.
"""

import ml_collections

from configs import arguments

DATA = ("digit_lines", "wnut17")
SEEDS = (0, 1, 2, 3, 4)


def get_config(arg="digit_lines"):
  name, variant = arguments.split(
    "loss_many_way", arg, DATA, variants=("tiny",)
  )
  config = ml_collections.ConfigDict()
  config.study = "loss_many_way"
  config.data = dict(
    kind="many_way",
    name=name,
    max_examples=ml_collections.config_dict.placeholder(int),
  )
  config.network = (
    dict(name="hashed", num_buckets=2**13)
    if name == "wnut17"
    else dict(name="mlp", widths=())
  )
  config.train = dict(num_steps=600, batch_size=32)
  config.seeds = SEEDS
  config.at_once = True
  config.measures = ("accuracy", "macro_f1", "rare_f1")
  config.diagrams = ()
  config.metric = "macro_f1"  # of validation: chooses the hyper-parameters
  config.search = dict(
    num_points=24, ranges=dict(lr=(0.001, 0.1), weight_decay=(0.001, 3.0))
  )
  config.methods = dict(
    cross_entropy={},
    weighted=dict(power=(0.25, 0.5, 1.0)),
    adjusted=dict(tau=(0.25, 0.5, 1.0)),
    many_way_loss1={},
    many_way_loss3={},
  )
  if variant:
    config.train.num_steps = 10
    config.seeds = (0, 1)
    config.data.max_examples = 50
    config.search.num_points = 2
    config.methods = dict(cross_entropy={}, many_way_loss1={})
  return config
