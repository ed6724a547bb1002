# SPDX-License-Identifier: Apache-2.0
"""Toys of the losses: small problems of which the answer is known.

  python -m experiments.loss_studies.toys \
    --config=configs/loss_toys.py:exact_3_points

The argument is the name of a toy; with ",tiny" after it, as in
exact_3_points,tiny, the same program with little to do, for tests.
Hardware: one CPU core. Time: seconds to two minutes, zlpr_imbalance four.
Expected: the tables of docs/losses, generated from
experiments/results/loss_toys.jsonl.
"""

import ml_collections

from configs import arguments

SEEDS = (0, 1, 2, 3, 4)


def exact_3_points(tiny):
  """Section "toy" of EXACT, arXiv 2205.09615, and kexue.fm 10145."""
  return dict(
    scales=dict(
      cross_entropy=(1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 100.0),
      hinge=(1.0, 2.0, 4.0, 8.0),
      exact=(1.0, 0.5, 0.3, 0.2, 0.15, 0.1, 0.05),
      smooth_accuracy=(2.0, 4.0, 8.0, 10.0, 20.0),
    ),
    learned=dict(lr=0.01, num_steps=100 if tiny else 5_000, every=100),
  )


def exact_5_points(tiny):
  """The second toy of EXACT (ivan-chai/exact); the model is not known."""
  return dict(
    lr=0.01,
    sigma=100.0,  # at step 0
    decay=0.99,  # of sigma at each step
    num_steps=100 if tiny else 1_500,
    num_starts=3 if tiny else 21,  # the first of them is 0
    # Of the starts: about as wide as the points, and as is usual.
    start_std=dict(threshold=3.0, linear=1.0, standardized=1.0),
    seed=0,
  )


def tailr_mixture(tiny):
  """The figure of TaiLr's README, arXiv 2302.13344."""
  return dict(
    width=0.05,  # of the tokens, which are intervals
    gammas=(0.0, 1e-3)
    if tiny
    else (0.0, 1e-7, 1e-5, 1e-4, 1e-3, 3e-3, 1e-2, 0.1, 1.0),
  )


def emo_synonyms(tiny):
  """Ours: what kexue.fm 9797 says of EMO, where the answer is known."""
  lrs = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)
  any_gamma = tuple((lr, 0.0) for lr in lrs)  # only TaiLr has one
  some = tuple((lr, gamma) for lr in (0.01, 0.03) for gamma in (0.01, 0.1, 0.5))
  return dict(
    num_groups=4 if tiny else 16,
    num_synonyms=4,
    num_contexts=5 if tiny else 100,
    width=8 if tiny else 16,  # of the embedding
    spread=0.3,  # of a group's embeddings around their centre of length 1
    elsewhere=0.2,  # probability that any token comes
    num_seen=4,  # tokens of each context to train on, and to validate with
    head_scale=5.0,
    models=("table",) if tiny else ("table", "head"),
    # (lr, gamma): as many for each.
    points=dict(tailr=some[:2], emo_mode1=any_gamma[:2])
    if tiny
    else dict(
      mle=any_gamma, tailr=some, emo_mode1=any_gamma, emo_mode2=any_gamma
    ),
    num_steps=8 if tiny else 500,
    every=2,
    seeds=(0, 1) if tiny else SEEDS,
  )


def zlpr_imbalance(tiny):
  """3 labels of C = 1,000: the case for ZLPR, arXiv 2208.02955."""
  # 18 points for each loss: of those with a number of their own three values
  # and a third of the rates. The second bias is log(3 / 1,000), how often a
  # class is true.
  lrs = (0.003, 0.006, 0.0125, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8)
  alone = dict(lr=lrs[4:7] if tiny else lrs, bias=(0.0, -5.8))
  some = dict(lr=lrs[4:5] if tiny else lrs[2:7:2], bias=(0.0, -5.8))
  methods = dict(
    zlpr=alone,
    binary=alone,
    weighted_binary=dict(some, power=(0.125, 0.25, 0.5)),
    focal=dict(some, gamma=(1.0, 2.0, 4.0)),
    asymmetric=dict(some, gamma=(1.0, 2.0, 4.0)),
  )
  return dict(
    num_classes=20 if tiny else 1_000,
    num_labels=3,
    width=32,
    popularity=0.5,  # standard deviation of the classes' biases
    noise=0.1,
    num_train=100 if tiny else 4_000,
    num_valid=20 if tiny else 1_000,
    num_test=20 if tiny else 1_000,
    batch_size=32,
    num_steps=5 if tiny else 600,
    # {method: {name: values}}: the points are all combinations.
    methods={name: methods[name] for name in ("zlpr", "weighted_binary")}
    if tiny
    else methods,
    thresholds=tuple(0.5 * n for n in range(-12, 13)),
    seeds=(0, 1) if tiny else SEEDS,
  )


def task_directions(tiny):
  """Ours: two gradients in a plane, and random ones in more dimensions."""
  return dict(
    angles=(120.0,) if tiny else (30.0, 60.0, 90.0, 120.0, 150.0, 170.0),
    length=2.0,  # of the second gradient; the first has 1
    rules=("equal", "primary_secondary")
    if tiny
    else (
      "equal",
      "normalized",
      "min_norm",
      "primary_secondary",
      "pcgrad",
      "upgrad",
    ),
    num_tasks=(3,) if tiny else (2, 3, 5),
    dimensions=10,
    num_draws=20 if tiny else 2_000,
    seeds=(0, 1) if tiny else SEEDS,
  )


TOYS = (
  exact_3_points,
  exact_5_points,
  tailr_mixture,
  emo_synonyms,
  zlpr_imbalance,
  task_directions,
)


def get_config(arg=""):
  toys = {toy.__name__: toy for toy in TOYS}
  name, variant = arguments.split("loss_toys", arg, toys, variants=("tiny",))
  tiny = bool(variant)
  return ml_collections.ConfigDict(dict(toy=name, tiny=tiny) | toys[name](tiny))
