# SPDX-License-Identifier: Apache-2.0
"""Language models of an oracle's texts: TaiLr against likelihood and smoothing.

  python -m experiments.loss_studies.compare_language \
    --config=configs/loss_oracle.py:classicbooks --data_dir=data/text

The argument is <classicbooks|python>: what the oracle was trained on; python is
the documentation of Python's language, which needs no file. With ",tiny" after
it the same program with little to do, for tests.

The claim: a likelihood makes a model cover all that it saw, and its samples are
worse for it; TaiLr lets go of what it cannot fit (arXiv 2302.13344). A lower
temperature does that without any training, and is a method here. Every method
has 12 points of learning rate, weight decay and its own, chosen by validation
likelihood or by validation BLEU-4. Hardware: 2 CPU cores. Time: a quarter of an
hour, and 3 minutes for the oracle. Expected: the tables of
docs/losses/tailr.md, generated from experiments/results/loss_oracle.jsonl.
"""

import ml_collections

from configs import arguments

DATA = ("classicbooks", "python")
SEEDS = (0, 1, 2)


def get_config(arg="python"):
  name, variant = arguments.split("loss_oracle", arg, DATA, variants=("tiny",))
  config = ml_collections.ConfigDict()
  config.study = "loss_oracle"
  config.data = dict(
    kind="oracle",
    name=name,
    vocab_size=500,
    context=24,  # tokens of a sequence
    oracle=dict(
      width=96,
      num_layers=2,
      num_heads=3,
      train=dict(num_steps=2_000, batch_size=64, lr=3e-3),
    ),
    # Sequences; each student sees its own.
    num_train=3_000,
    num_validation=500,
    num_test=600,
    num_samples=600,  # of each student
  )
  # Smaller than the oracle, which it can't equal.
  config.network = dict(width=64, num_layers=1, num_heads=2)
  config.train = dict(num_steps=400, batch_size=64)
  config.seeds = SEEDS
  config.metric = "log_likelihood"  # of validation: chooses hyper-parameters
  config.search = dict(
    num_points=12, ranges=dict(lr=(0.001, 0.016), weight_decay=(0.01, 1.0))
  )
  config.methods = dict(
    likelihood={},
    temperature=dict(temperature=(0.9, 0.8, 0.7)),
    label_smoothing=dict(smoothing=(0.02, 0.05, 0.1, 0.2)),
    # The last with a floor is what the authors use on such a task.
    tailr=dict(gamma=(0.01, 0.001, 0.1, 1e-7), min_weight=(0.0, 0.2)),
  )
  if variant:
    config.data.update(
      vocab_size=150,
      context=8,
      # All alike, so that fewer programs are compiled.
      num_train=40,
      num_validation=40,
      num_test=40,
      num_samples=40,
    )
    config.data.oracle.update(width=16, num_layers=1, num_heads=2)
    config.data.oracle.train.update(num_steps=5, batch_size=4)
    config.network = dict(width=16, num_layers=1, num_heads=2)
    config.train = dict(num_steps=3, batch_size=4)
    config.seeds = (0, 1)
    config.search.num_points = 1
    # One, as each takes seconds to compile.
    config.methods = dict(temperature=dict(temperature=(0.8,)))
  return config
