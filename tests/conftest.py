# SPDX-License-Identifier: Apache-2.0
"""Settings that every test runs under."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="session")
def strict_jax():
  # A silent [B] x [B, H, W, C] broadcast is the classic bug of this field.
  jax.config.update("jax_numpy_rank_promotion", "raise")
