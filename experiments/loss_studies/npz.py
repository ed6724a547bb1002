# SPDX-License-Identifier: Apache-2.0
"""Data sets that the user has as <folder>/<name>.npz."""

import pathlib
import zipfile

import numpy as np

# The arrays of a set with an official test split.
SPLIT = ("x_train", "y_train", "x_test", "y_test")


def load(
  name: str, data_dir: str | None, built_in, *, forms
) -> dict[str, np.ndarray]:
  """The arrays of <data_dir>/<name>.npz.

  Args:
    name: of the data set.
    data_dir: the folder.
    built_in: names that need no file, for the message.
    forms: sets of arrays; the file must have all of one of them.

  Raises:
    ValueError: if there is no such file, or it has other arrays.
  """
  instead = f"without files there are {', '.join(built_in)}"
  if data_dir is None:
    raise ValueError(
      f"{name} is read from a file: give the folder of {name}.npz as "
      f"--data_dir; {instead}"
    )
  path = pathlib.Path(data_dir) / f"{name}.npz"
  if not path.exists():
    raise ValueError(f"{path} does not exist; check --data_dir; {instead}")
  try:
    # NumPy would leave a file open that it cannot read.
    with open(path, "rb") as file, np.load(file) as found:
      arrays = dict(found)
  # Of a cut file, one that is no archive, one with Python objects, and an .npy.
  except (zipfile.BadZipFile, EOFError, TypeError, ValueError) as error:
    raise ValueError(
      f"{path} is not a whole .npz of numbers ({error}); make it again"
    ) from error
  if not any(set(form) <= arrays.keys() for form in forms):
    wanted = ", or ".join(", ".join(form) for form in forms)
    raise ValueError(
      f"{path} has the arrays {', '.join(arrays) or 'none'}, and needs {wanted}"
    )
  return arrays
