# SPDX-License-Identifier: Apache-2.0
"""Examples with any number of labels.

digit_sets is made of scikit-learn's digits: three side by side, and the labels
are which of the ten digits are there. All others are read from <name>.npz with
x_train, y_train, x_test, y_test, labels of 0 and 1: emotions, scene, yeast,
medical, enron, corel5k, bibtex, delicious are those of Mulan
(github.com/tsoumakas/mulan) with its official splits.
"""

import numpy as np

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
  arrays = npz.load(name, data_dir, BUILT_IN)
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
  """Pictures of several digits; no digit is in both a training and a test."""
  from sklearn import datasets  # Only this set needs it.

  digits = datasets.load_digits()
  rng = np.random.default_rng(0)
  order = rng.permutation(len(digits.target))
  held_out = len(order) // 5
  x, y = [], []
  for pool, count in (
    (order[held_out:], num_train),
    (order[:held_out], num_test),
  ):
    chosen = rng.choice(pool, (count, digits_each))
    x.append(digits.data[chosen].reshape(count, -1) / 16)
    y.append(np.eye(10)[digits.target[chosen]].max(axis=1))
  return splits.Data(
    x=np.float32(np.concatenate(x)),
    y=np.float32(np.concatenate(y)),
    num_outputs=10,
    num_test=num_test,
  )
