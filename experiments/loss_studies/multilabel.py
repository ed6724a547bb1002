# SPDX-License-Identifier: Apache-2.0
"""Examples with any number of labels.

digit_sets is made of scikit-learn's digits: three side by side, and the labels
are which of the ten digits are there. All others are read from <name>.npz with
x_train, y_train, x_test, y_test, labels of 0 and 1: emotions, scene, yeast,
medical, enron, corel5k, bibtex, delicious are those of Mulan
(github.com/tsoumakas/mulan) with its official splits.
"""

import numpy as np

from experiments.loss_studies import digit_pools
from experiments.loss_studies import npz
from experiments.loss_studies import splits

BUILT_IN = ("digit_sets",)


def load(name: str, data_dir: str | None = None) -> splits.Data:
  """A data set by name.

  Raises:
    ValueError: if it is neither digit_sets nor in data_dir, or has no test
      examples.
  """
  if name in BUILT_IN:
    return digit_sets()
  arrays = npz.load(name, data_dir, BUILT_IN, forms=(npz.SPLIT,))
  num_test = len(arrays["y_test"])
  if not num_test:
    raise ValueError(f"{name}.npz has no test examples; choose another set")
  y = np.concatenate([arrays["y_train"], arrays["y_test"]])
  return splits.Data(
    x=np.float32(np.concatenate([arrays["x_train"], arrays["x_test"]])),
    y=np.float32(y),
    num_outputs=y.shape[1],
    num_test=num_test,
  )


def digit_sets(num_train=1200, num_test=600, digits_each=3) -> splits.Data:
  """Pictures of several digits: which of the ten are there."""

  def draw(rng, pool, classes, count):
    del classes
    return rng.choice(pool, (count, digits_each))

  chosen = digit_pools.choose(num_train, num_test, draw)
  return splits.Data(
    x=chosen.x.reshape(len(chosen.x), -1),
    y=np.eye(10, dtype=np.float32)[chosen.y].max(axis=1),
    num_outputs=10,
    num_test=num_test,
    group=chosen.group,
  )
