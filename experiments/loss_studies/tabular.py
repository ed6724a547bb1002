# SPDX-License-Identifier: Apache-2.0
"""Tables of features with one class each.

iris, wine, breast_cancer and digits come with scikit-learn, without an official
split. letter, satimage, page_blocks and adult are of the UCI repository (CC BY
4.0), read from <name>.npz: x and y, or x_train, y_train, x_test, y_test; adult
has x_num_* and x_cat_*, numbers of categories, which become columns of zeros
and ones.
"""

import numpy as np

from experiments.loss_studies import npz
from experiments.loss_studies import splits

BUILT_IN = ("iris", "wine", "breast_cancer", "digits")
PARTS = ("x_num", "x_cat", "y")
FORMS = (
  ("x", "y"),
  npz.SPLIT,
  tuple(f"{name}_{part}" for part in ("train", "test") for name in PARTS),
)


def load(name: str, data_dir: str | None = None) -> splits.Data:
  """A data set by name.

  Raises:
    ValueError: if it does not come with scikit-learn and is not in data_dir.
  """
  if name in BUILT_IN:
    from sklearn import datasets  # Only these sets need it.

    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    return _data(x, y, num_test=None)
  arrays = npz.load(name, data_dir, BUILT_IN, forms=FORMS)
  if "y" in arrays:
    return _data(arrays["x"], arrays["y"], num_test=None)
  if "x_cat_train" in arrays:
    for part in ("train", "test"):
      arrays[f"x_{part}"] = np.concatenate(
        [
          arrays[f"x_num_{part}"],
          _columns(arrays[f"x_cat_{part}"], arrays["x_cat_train"]),
        ],
        axis=1,
      )
  return _data(
    np.concatenate([arrays["x_train"], arrays["x_test"]]),
    np.concatenate([arrays["y_train"], arrays["y_test"]]),
    num_test=len(arrays["y_test"]),
  )


def _data(x, y, *, num_test):
  return splits.Data(
    x=np.float32(x),
    y=np.int32(y),
    num_outputs=int(y.max()) + 1,
    num_test=num_test,
  )


def _columns(categories, known):
  """A column of zeros and ones for each category of each feature in `known`."""
  return np.concatenate(
    [
      categories[:, i, None] == np.unique(known[:, i])
      for i in range(known.shape[1])
    ],
    axis=1,
  )
