# SPDX-License-Identifier: Apache-2.0
"""Names in sentences: GlobalPointer, with RoPE and R-Drop, against BIO tags.

  python -m experiments.loss_studies.compare \
    --config=configs/loss_spans.py:wnut17 --data_dir=data/ner_wnut17

The argument is planted (made up) or wnut17 (files in --data_dir), or
wnut17_longer, four times the steps for tags and GlobalPointer alone; with
",tiny" after it the same program with little to do, for tests. The encoder has
0.3 M parameters and starts from nothing, and a search has 4 points (2 of the
longer): what differs between losses can be seen, but no F1 that stands beside
published ones.

The claims: GlobalPointer is as good as tags and not without RoPE (kexue.fm
8373), the efficient one is no worse (8877), and R-Drop helps with the
multi-label KL but less with a softmax over all spans (9039). Hardware: 2 CPU
cores. Time: see docs/losses/global_pointer.md. Expected: its table,
generated from experiments/results/loss_spans.jsonl.
"""

import ml_collections

from configs import arguments

DATA = ("planted", "wnut17", "wnut17_longer")
SEEDS = (0, 1, 2, 3, 4)


def get_config(arg="planted"):
  name, variant = arguments.split("loss_spans", arg, DATA, variants=("tiny",))
  config = ml_collections.ConfigDict()
  config.study = "loss_spans"
  config.data = dict(
    kind="spans",
    name=name.removesuffix("_longer"),
    max_examples=ml_collections.config_dict.placeholder(int),
  )
  config.network = dict(
    name="words", num_buckets=2**12, width=64, num_layers=2, dropout=0.3
  )
  num_steps = {"planted": 300, "wnut17": 800, "wnut17_longer": 3_200}
  config.train = dict(num_steps=num_steps[name], batch_size=16)
  config.seeds = SEEDS
  config.at_once = False  # Embeddings are faster one by one.
  config.measures = ("f1", "precision", "recall")
  config.diagrams = ()
  config.metric = "f1"  # of validation: chooses the hyper-parameters
  config.search = dict(
    num_points=4, ranges=dict(lr=(0.005, 0.05), weight_decay=(0.001, 0.1))
  )
  config.methods = dict(
    token_ce={},
    gp={},
    gp_no_rope={},
    egp={},
    egp_no_rope={},
    gp_two_passes={},
    # Around what validation of `planted` liked best; a mean over all spans is
    # less than one softmax over them.
    gp_r_drop=dict(alpha=(1.0, 10.0, 100.0)),
    gp_r_drop_softmax=dict(alpha=(0.1, 1.0, 10.0)),
  )
  if name == "wnut17_longer":
    config.search.num_points = 2
    config.methods = dict(token_ce={}, gp={})
  if variant:
    config.network.update(width=8, num_layers=1)
    config.train.num_steps = 10
    config.seeds = (0, 1)
    config.data.max_examples = 60
    config.search.num_points = 2
    # One, as each takes seconds to compile.
    config.methods = dict(gp_r_drop=dict(alpha=(100.0,)))
  return config
