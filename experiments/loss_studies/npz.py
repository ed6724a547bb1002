# SPDX-License-Identifier: Apache-2.0
"""Data sets that the user has as <folder>/<name>.npz."""

import pathlib

import numpy as np


def load(name: str, data_dir: str | None, built_in) -> dict[str, np.ndarray]:
  """The arrays of <data_dir>/<name>.npz.

  Args:
    name: of the data set.
    data_dir: the folder.
    built_in: names that need no file, for the message.

  Raises:
    ValueError: if there is no such file.
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
  with np.load(path) as file:
    return dict(file)
