# SPDX-License-Identifier: Apache-2.0
"""Two losses, one direction: primary / secondary against its rivals.

  python -m experiments.loss_studies.compare \
    --config=configs/loss_multitask.py:mnist,parity --data_dir=data/mnist

The argument is <digits|mnist>,<parity|digit|clean|decay>: a data set (digits
comes with scikit-learn) and the two tasks, the primary one first:

  parity  is a digit odd; which one it is
  digit   which digit it is; is it odd
  clean   40 % wrong labels; 64 right ones
  decay   40 % wrong labels; weight decay

With ",tiny" after it the same program with little to do, for tests. Of mnist
1,000 examples to train and validate, so that one task can help the other; one
hidden layer.

The claims (kexue.fm 8907): the primary loss does as well as alone or better,
the secondary never gets worse, and nothing is to be weighed. Every method has
12 points. Hardware: 2 CPU cores. Time: see docs/losses/multitask.md. Expected:
its tables, generated from experiments/results/loss_multitask.jsonl.
"""

import ml_collections

from configs import arguments

DATA = ("digits", "mnist")
TASKS = ("parity", "digit", "clean", "decay")
SEEDS = (0, 1, 2, 3, 4)


def get_config(arg="digits,parity"):
  name, tasks, variant = arguments.split(
    "loss_multitask", arg, DATA, TASKS, variants=("tiny",)
  )
  config = ml_collections.ConfigDict()
  config.study = "loss_multitask"
  has_heads = tasks in ("parity", "digit")
  kind = "heads" if has_heads else tasks
  config.data = dict(
    kind=f"multitask_{kind}",
    name=name,
    max_examples=ml_collections.config_dict.placeholder(int),
  )
  if name == "mnist":
    config.data.max_examples = 1_000
  config.network = dict(name="mlp", widths=(32,))
  config.train = dict(num_steps=300, batch_size=64)
  config.seeds = SEEDS
  config.at_once = True
  config.measures = ("accuracy", "log_likelihood")
  config.diagrams = ()
  config.metric = "log_likelihood"  # of validation: chooses hyper-parameters
  config.search = dict(
    num_points=12, ranges=dict(lr=(0.001, 0.1), weight_decay=(0.001, 3.0))
  )
  config.methods = dict(
    primary_alone={},
    weighted=dict(weight=(0.03, 0.1, 0.3, 1.0)),
    equal={},
    initial_loss={},
    real_time={},
    normalized={},
    min_norm={},
    upgrad={},
    primary_secondary={},
  )
  if has_heads:
    config.train.primary = tasks
    config.measures += ("secondary_accuracy", "secondary_log_likelihood")
  elif tasks == "clean":
    config.train.num_clean = 64
    config.search.ranges.lr = (0.0002, 0.02)  # wrong labels want few steps
    config.methods.secondary_alone = {}
    config.methods.weighted.weight = (0.1, 0.3, 1.0, 3.0)
  else:
    # The decay is the secondary task; steps are directions, not Adam's.
    config.search.ranges = dict(lr=(0.003, 3.0))
    config.methods.weighted.weight = (0.003, 0.01, 0.03, 0.1)
  if not has_heads:
    config.train.label_noise = 0.4
    # A likelihood of wrong labels is not what is wanted.
    config.metric = "accuracy"
  if variant:
    config.train.num_steps = 20
    config.train.batch_size = 8
    if tasks == "clean":
      config.train.num_clean = 8
    config.network.widths = (8,)
    config.seeds = (0, 1)
    config.at_once = False  # compiles faster
    config.data.max_examples = 100
    config.search.num_points = 2
    config.methods = dict(primary_alone={}, primary_secondary={})
  return config
