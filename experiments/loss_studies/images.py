# SPDX-License-Identifier: Apache-2.0
"""Images with one class each, in [0, 1].

digits: 8 x 8, comes with scikit-learn, without an official split. mnist: 28 x
28, from mnist.npz with x_train, y_train, x_test, y_test. cifar10: 32 x 32 x 3,
from cifar10.npz: of the same arrays, or of JPEG files as bytes, {train,test}_
{jpeg,offsets,labels}, whose pixels are not quite CIFAR-10's: compare only
numbers of the same file.
"""

import io

import numpy as np
import PIL.Image

from experiments.loss_studies import npz
from experiments.loss_studies import splits

BUILT_IN = ("digits",)
FILES = ("jpeg", "offsets", "labels")
FORMS = (
  npz.SPLIT,
  tuple(f"{part}_{name}" for part in ("train", "test") for name in FILES),
)


def load(name: str, data_dir: str | None = None) -> splits.Data:
  """A data set by name.

  Raises:
    ValueError: if it does not come with scikit-learn and is not in data_dir.
  """
  if name in BUILT_IN:
    from sklearn import datasets  # Only this set needs it.

    digits = datasets.load_digits()
    return _data(digits.images / 16, digits.target, num_test=None)
  arrays = npz.load(name, data_dir, BUILT_IN, forms=FORMS)
  if "train_jpeg" in arrays:
    for part in ("train", "test"):
      arrays[f"x_{part}"] = decoded(
        arrays[f"{part}_jpeg"], arrays[f"{part}_offsets"]
      )
      arrays[f"y_{part}"] = arrays[f"{part}_labels"]
  return _data(
    np.concatenate([arrays["x_train"], arrays["x_test"]]) / np.float32(255),
    np.concatenate([arrays["y_train"], arrays["y_test"]]),
    num_test=len(arrays["y_test"]),
  )


def decoded(files: np.ndarray, offsets: np.ndarray) -> np.ndarray:
  """uint8 [N, H, W, 3] of JPEG files that lie one after the other."""
  images = []
  for start, end in zip(offsets[:-1], offsets[1:], strict=True):
    with PIL.Image.open(io.BytesIO(files[start:end].tobytes())) as image:
      images.append(np.asarray(image.convert("RGB")))
  return np.stack(images)


def _data(x, y, *, num_test):
  x = np.float32(x)
  return splits.Data(
    x=x if x.ndim == 4 else x[..., None],
    y=np.int32(y),
    num_outputs=int(y.max()) + 1,
    num_test=num_test,
    standardize=False,
  )
