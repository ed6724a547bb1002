# SPDX-License-Identifier: Apache-2.0
"""Linear models of tables: EXACT and TaiLr against their competitors.

  python -m experiments.loss_studies.compare \
    --config=configs/loss_tabular.py:letter --data_dir=data/tabular

The argument is a data set: iris, wine, breast_cancer, digits (of scikit-learn)
or satimage, page_blocks, letter, adult (files in --data_dir); with ",tiny", as
in iris,tiny, the same program with little to do, for tests.

The claim of EXACT (arXiv 2205.09615): better accuracy of linear models than
cross-entropy, hinge and sigmoid. Every method has 24 points.
Hardware: 2 CPU cores, busy with other work as well. Time: letter 6 minutes,
page_blocks 5, digits 4, the others 1 to 3. Expected: the first table on real
data of docs/losses/exact.md, from experiments/results/loss_tabular.jsonl.
"""

import ml_collections

from configs import arguments

DATA = (
  "iris",
  "wine",
  "breast_cancer",
  "digits",
  "satimage",
  "page_blocks",
  "letter",
  "adult",
)
SEEDS = (0, 1, 2, 3, 4)


def methods(*, exact_lr):
  """EXACT and its competitors, each with the numbers of its own.

  Args:
    exact_lr: range for its authors' step, which is as long as the rate.
  """
  exact = dict(margin=(0.5, 5.0), final_sigma=(0.01, 0.3))
  return dict(
    cross_entropy={},
    hinge={},
    sigmoid={},
    smooth_accuracy={},
    tailr=dict(gamma=(0.01, 0.1, 0.5, 0.9)),
    exact=dict(lr=exact_lr, **exact),
    exact_adam=exact,
  )


# Of the tiny variants.
TWO_METHODS = dict(
  cross_entropy={}, exact=dict(margin=(1.0,), final_sigma=(0.1,))
)


def get_config(arg="digits"):
  name, variant = arguments.split("loss_tabular", arg, DATA, variants=("tiny",))
  config = ml_collections.ConfigDict()
  config.study = "loss_tabular"
  config.data = dict(
    kind="tabular",
    name=name,
    max_examples=ml_collections.config_dict.placeholder(int),
  )
  config.network = dict(name="mlp", widths=())
  large = name in DATA[4:]
  config.train = dict(
    num_steps=1_000 if large else 600, batch_size=128 if large else 64
  )
  config.seeds = SEEDS
  config.at_once = True
  config.measures = ("accuracy",)
  config.diagrams = ()
  config.metric = "accuracy"  # of validation: chooses the hyper-parameters
  config.search = dict(
    num_points=24, ranges=dict(lr=(0.003, 0.3), weight_decay=(0.001, 3.0))
  )
  config.methods = methods(exact_lr=(0.01, 1.0))
  if variant:
    config.train.num_steps = 20
    config.seeds = (0, 1)
    config.data.max_examples = 100
    config.search.num_points = 2
    config.methods = TWO_METHODS
  return config
