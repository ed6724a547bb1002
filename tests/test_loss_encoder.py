# SPDX-License-Identifier: Apache-2.0
"""The network of words: what its outputs may depend on."""

import jax
import numpy as np
import pytest

from experiments.loss_studies import encoder
from experiments.loss_studies import spans_task

METHODS = spans_task.METHODS
RNG = np.random.default_rng(0)


def network(head=encoder.Tags, **options):
  options = {"width": 8, "num_buckets": 50, "dropout": 0.5} | options
  return encoder.WordNetwork(num_outputs=2, head=head, **options)


def outputs(net, buckets, rng=None):
  params = net.init(jax.random.key(0), buckets)
  rngs = None if rng is None else {"dropout": rng}
  return net.apply(params, buckets, rngs=rngs)


@pytest.mark.parametrize(
  "method",
  [
    pytest.param("token_ce", marks=pytest.mark.slow),
    pytest.param("gp", marks=pytest.mark.slow),
    "egp",
  ],
)
def test_padding_changes_nothing(method):
  buckets = RNG.integers(1, 50, (3, 9, 4))
  buckets[:, 6:] = 0
  net = network(METHODS[method].head)
  long, short = outputs(net, buckets), outputs(net, buckets[:, :6])
  if method == "token_ce":
    assert long.shape == (3, 9, 5)
    np.testing.assert_allclose(long[:, :6], short, atol=1e-5)
  else:
    assert long.shape == (3, 2, 9, 9)
    np.testing.assert_allclose(long[..., :6, :6], short, atol=1e-5)


@pytest.mark.parametrize("method", ["gp", "egp"])
def test_only_rotations_see_how_long_a_span_is(method):
  """A text said twice: without RoPE a span may end in either."""
  block = RNG.integers(1, 50, (1, 8, 4))
  buckets = np.concatenate([block, block, block], axis=1)
  for name, is_blind in ((method, False), (f"{method}_no_rope", True)):
    scores = outputs(network(METHODS[name].head), buckets)
    # First token in the first block, last one in the second or third, all away
    # from the ends of the text, which the layers see.
    near, far = scores[..., 4:8, 8:12], scores[..., 4:8, 16:20]
    assert np.allclose(near, far, atol=1e-4) == is_blind, name


def test_dropout_is_that_of_a_key():
  buckets = RNG.integers(1, 50, (2, 5, 4))
  first, again, other = (
    outputs(network(), buckets, jax.random.key(k)) for k in (1, 1, 2)
  )
  np.testing.assert_array_equal(first, again)
  assert not np.allclose(first, other)
  np.testing.assert_array_equal(
    outputs(network(), buckets), outputs(network(), buckets)
  )
