# SPDX-License-Identifier: Apache-2.0
"""Photographs stand in a grid as samples do, a column a class."""

import numpy as np
import pytest

from experiments import grids


def test_the_first_of_each_class_side_by_side():
  labels = np.array([2, 0, 0, 1, 2, 1, 0])
  assert grids.first_of_each(labels, 3, 1).tolist() == [1, 3, 0]
  assert grids.first_of_each(labels, 3, 2).tolist() == [1, 3, 0, 2, 5, 4]


@pytest.mark.parametrize(
  "labels, num_classes, fewest",
  [([0, 0, 1], 2, 1), ([0, 0, 2, 2], 3, 0), ([0, 0], 2, 0), ([-1], 0, 0)],
)
def test_too_few_of_a_class(labels, num_classes, fewest):
  words = f"2 rows needs .*one class has {fewest}"
  with pytest.raises(ValueError, match=words):
    grids.first_of_each(np.array(labels), num_classes, 2)
