# SPDX-License-Identifier: Apache-2.0
"""Losses from hidden states and a linear head, for large vocabularies.

The logits z = h W of N tokens and V classes are never in memory: the statistics
of `linear_statistics` are computed and differentiated tile by tile. With
log_others the log-sum-exp of all logits but the label's,

  nll = softplus(log_others - z_y)                                        (1)
  uniform_nll = log sum_j exp(z_j) - mean_j z_j                           (2)
  emd = (1 - p_y) sum_{j != y} q_j c_jy,  q = softmax over j != y         (3)

Memory beyond inputs and gradients: a few tiles [token_tile, vocab_tile], and
arrays of the size of h. Time: 4 matrix products for 3 of the dense form, 6 for
4 with emd. The method is that of Cut Cross-Entropy (arXiv 2411.09009) without
its filter of small gradients: exact.

With W sharded by vocabulary over a mesh axis, call these inside jax.shard_map
with `axis_name`; labels stay global. Tokens sharded over other axes need
nothing there; under jit alone XLA would gather them for each tile. Derivatives
are by reverse mode; the second needs float32 and keeps the logits.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from losses import earth_mover
from losses import linear_head
from losses import logspace


class NLLTerms(NamedTuple):
  """nll [...] and uniform_nll [...], for `losses.label_smoothing`."""

  nll: jax.Array
  uniform_nll: jax.Array


def linear_nll(
  hidden: chex.Array,
  head: chex.Array,
  labels: chex.Array,
  **options,
) -> jax.Array:
  """-log p of the label under softmax(hidden head), equation (1).

  Feed it to any map of `token_level`. Gradient on the logits, tile by tile:
  (p - onehot) times the token's cotangent.

  Args:
    hidden: [..., D] floating; its type is that of the matrix products, which
      accumulate in float32.
    head: [D, V], or [V, D] with vocab_axis=0; with axis_name the local shard.
    labels: [...] integers in [0, V).
    **options: see `losses.HeadOptions`.

  Returns:
    [...] in float32, at least 0.

  Raises:
    ValueError: if a shape or type does not fit, or a label that counts is not
      in [0, V) (where it is concrete).

  >>> hidden, head = jnp.ones((2, 3)), jnp.eye(3, 5)
  >>> print(losses.linear_nll(hidden, head, jnp.array([0, 4])))
  [1.318 2.318]
  """
  options = linear_head.make_options(options)
  terms = linear_head.terms(hidden, head, labels, options)
  return jnp.where(terms.where, terms.nll, 0)


def linear_nll_terms(
  hidden: chex.Array,
  head: chex.Array,
  labels: chex.Array,
  **options,
) -> NLLTerms:
  """The nll of `linear_nll` and uniform_nll, equation (2), in one pass.

  For `losses.label_smoothing`. Classes whose offset is -inf get no part of the
  smoothing.

  Args:
    hidden: as in `linear_nll`.
    head: as in `linear_nll`.
    labels: as in `linear_nll`.
    **options: see `losses.HeadOptions`.

  Returns:
    nll [...] and uniform_nll [...] in float32, 0 for tokens left out.

  Raises:
    ValueError: as `linear_nll`.

  >>> hidden, head = jnp.ones((2, 3)), jnp.eye(3, 5)
  >>> terms = losses.linear_nll_terms(hidden, head, jnp.array([0, 4]))
  >>> print(losses.label_smoothing(*terms, smoothing=0.1))
  [1.358 2.258]
  """
  options = linear_head.make_options(options)
  terms = linear_head.terms(hidden, head, labels, options)
  return NLLTerms(
    nll=jnp.where(terms.where, terms.nll, 0),
    uniform_nll=jnp.where(terms.where, terms.lse - terms.mean_logit, 0),
  )


def linear_emo_terms(
  hidden: chex.Array,
  head: chex.Array,
  labels: chex.Array,
  *,
  cost_embedding: chex.Array | None = None,
  **options,
) -> earth_mover.EMOTerms:
  """The nll of `linear_nll` and the earth mover's distance, equation (3).

  The two terms of `losses.emo_terms`, to be mixed with `losses.emo_mode1` or
  `losses.emo_mode2`. Gradient of emd on the logits: p_j (c_jy - emd).

  Args:
    hidden: as in `linear_nll`.
    head: as in `linear_nll`.
    labels: as in `linear_nll`.
    cost_embedding: [V, d], whatever vocab_axis is: the vectors that costs are
      cosines of, never differentiated. A copy of the pretrained head gives
      "fixed" costs (a projection of it to fewer dimensions saves memory and
      time); None gives "adaptive" ones, of the head as it is. With axis_name
      the local shard.
    **options: see `losses.HeadOptions`.

  Returns:
    nll [...] at least 0 and emd [...] in [0, 2], in float32; 0 for tokens left
    out.

  Raises:
    ValueError: as `linear_nll`.

  >>> hidden, head = jnp.ones((2, 3)), jnp.eye(3, 5)
  >>> terms = losses.linear_emo_terms(hidden, head, jnp.array([0, 4]))
  >>> print(terms.emd)
  [0.7323 0.9015]
  """
  options = linear_head.make_options(options)
  if cost_embedding is None:
    costs = head, options.vocab_axis
  else:
    costs = cost_embedding, 0
  terms = linear_head.terms(hidden, head, labels, options, costs)
  emd = logspace.one_minus_exp(terms.nll) * terms.cost_others
  return earth_mover.EMOTerms(
    nll=jnp.where(terms.where, terms.nll, 0),
    emd=jnp.where(terms.where, emd, 0),
  )
