# SPDX-License-Identifier: Apache-2.0
"""Several labels an example: ZLPR against binary losses.

  python -m experiments.loss_studies.compare \
    --config=configs/loss_multilabel.py:yeast --data_dir=data/multilabel

The argument is a data set: digit_sets (of scikit-learn's digits) or emotions,
scene, yeast, medical, enron, corel5k, bibtex, delicious (files in --data_dir);
with ",tiny", as in digit_sets,tiny, the same program with little to do, for
tests. A network with one hidden layer where features are few and dense, a
linear one where they are words.

The claim of ZLPR (kexue.fm 7359): without class weights as good as binary
cross-entropy with tuned ones, with the threshold 0; and (9064) it takes soft
labels. Every method has 24 points, 12 of the two largest sets; of delicious
2,000 examples train and validate and 2,000 test. Hardware: 2 CPU cores, busy
with other work as well. Time: 1 to 3 minutes where features are dense, of words
5 to 28. Expected: the tables of docs/losses/zlpr.md, from
experiments/results/loss_multilabel.jsonl.
"""

import ml_collections

from configs import arguments

placeholder = ml_collections.config_dict.placeholder

DENSE = ("digit_sets", "emotions", "scene", "yeast")
WORDS = ("medical", "enron", "corel5k", "bibtex", "delicious")
LARGEST = ("bibtex", "delicious")
DATA = DENSE + WORDS
SEEDS = (0, 1, 2, 3, 4)


def get_config(arg="digit_sets"):
  name, variant = arguments.split(
    "loss_multilabel", arg, DATA, variants=("tiny",)
  )
  config = ml_collections.ConfigDict()
  config.study = "loss_multilabel"
  config.data = dict(
    kind="multilabel", name=name, max_examples=placeholder(int)
  )
  if name == "delicious":  # 983 labels each
    config.data.max_examples = 2_000
  config.network = dict(name="mlp", widths=(64,) if name in DENSE else ())
  config.train = dict(
    num_steps=400 if name == "delicious" else 600, batch_size=64
  )
  config.seeds = SEEDS
  config.at_once = name in DENSE  # The others are large enough one by one.
  config.measures = (
    "micro_f1",
    "macro_f1",
    "average_precision",
    "micro_f1_at_best_threshold",
  )
  config.diagrams = ()
  config.metric = "micro_f1"  # of validation: chooses the hyper-parameters
  config.search = dict(
    num_points=12 if name in LARGEST else 24,
    ranges=dict(lr=(0.001, 0.1), weight_decay=(0.001, 3.0)),
  )
  config.methods = dict(
    binary={},
    binary_smooth=dict(smoothing=(0.01, 0.03, 0.1)),
    weighted_binary=dict(power=(0.25, 0.5, 1.0)),
    focal=dict(gamma=(1.0, 2.0, 4.0)),
    asymmetric=dict(gamma=(1.0, 2.0, 4.0)),
    zlpr={},
    zlpr_smooth=dict(smoothing=(0.01, 0.03, 0.1)),
    zlpr_mixup=dict(mixup=(0.1, 0.3, 1.0)),
  )
  if variant:
    config.network.widths = (8,) if name in DENSE else ()
    config.train.num_steps = 20
    config.seeds = (0, 1)
    config.at_once = False  # compiles faster
    config.data.max_examples = 100
    config.search.num_points = 2
    config.methods = dict(binary={}, zlpr_mixup=dict(mixup=(0.1,)))
  return config
