# SPDX-License-Identifier: Apache-2.0
"""Adaptation of a small language model: EMO against likelihood and TaiLr.

  python -m experiments.loss_studies.compare_language \
    --config=configs/loss_adaptation.py:tinyshakespeare --data_dir=data/text

The argument is <tinyshakespeare|scikit_learn>, the text to adapt to; the model
was pretrained on novels (classicbooks) or on the documentation of Python's
language, which, as scikit_learn, needs no file. With ",cost" after it time and
memory of a training step are measured instead; with ",tiny" the same program
has little to do, for tests.

The claim: where a trained head knows which tokens are alike, EMO adapts better
than maximum likelihood, in mode 1 above all (arXiv 2310.04691, DRSY/EMO). A
lower temperature of the latter is a method here, as it needs no training. Every
method has 4 points of learning rate, weight decay and its own, chosen by
validation likelihood. Hardware: 2 CPU cores. Time: a quarter of an hour.
Expected: the tables of docs/losses/emo.md, generated from
experiments/results/loss_adaptation.jsonl and loss_adaptation_cost.jsonl.
"""

import ml_collections

from configs import arguments

# The text to adapt to -> what was pretrained on.
DATA = {"tinyshakespeare": "classicbooks", "scikit_learn": "python"}
SEEDS = (0, 1, 2)


def get_config(arg="scikit_learn"):
  name, variant = arguments.split(
    "loss_adaptation", arg, DATA, variants=("tiny", "cost")
  )
  config = ml_collections.ConfigDict()
  config.study = "loss_adaptation"
  config.data = dict(
    kind="adaptation",
    name=name,
    pretrained_on=DATA[name],
    vocab_size=2_000,
    context=64,  # tokens of a sequence
    pretraining=dict(num_steps=2_000, batch_size=32, lr=2e-3),
    num_windows=500,  # sequences of context tokens: validation, test, samples
  )
  config.network = dict(width=96, num_layers=2, num_heads=3)
  config.train = dict(num_steps=50, batch_size=32)
  config.seeds = SEEDS
  config.metric = "log_likelihood"  # of validation: chooses hyper-parameters
  config.search = dict(
    num_points=4, ranges=dict(lr=(0.0003, 0.01), weight_decay=(0.001, 0.1))
  )
  config.methods = dict(
    likelihood={},
    temperature=dict(temperature=(0.9, 0.8, 0.7)),
    tailr=dict(gamma=(0.001, 0.01, 0.1), min_weight=(0.0, 0.2)),
    emo_mode1_fixed={},
    emo_mode1_adaptive={},
    emo_mode2_fixed={},
    emo_mode2_adaptive={},
  )
  if variant == "cost":
    config.study = "loss_adaptation_cost"
    config.data.kind = "adaptation_cost"
    config.rounds = 15
  elif variant:
    config.data.update(vocab_size=150, context=8, num_windows=20)
    config.data.pretraining.update(num_steps=5, batch_size=4)
    config.network = dict(width=16, num_layers=1, num_heads=2)
    config.train = dict(num_steps=3, batch_size=4)
    config.seeds = (0, 1)
    config.search.num_points = 1
    # One, as each takes seconds to compile.
    config.methods = dict(emo_mode1_fixed={})
  return config
