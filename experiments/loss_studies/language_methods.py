# SPDX-License-Identifier: Apache-2.0
"""Losses of tokens that the studies of language models compare.

A method is a loss of (hidden [..., D], head [V, D], frozen, tokens [...],
point) -> [...], where frozen is the head before training, [V, D], and point has
hyper-parameters that may be traced. None of them makes the logits.
"""

from collections.abc import Callable
from typing import NamedTuple

import losses


class Method(NamedTuple):
  title: str
  loss: Callable


def likelihood(hidden, head, frozen, tokens, point):
  del frozen, point
  return losses.linear_nll(hidden, head, tokens, vocab_axis=0)


def label_smoothing(hidden, head, frozen, tokens, point):
  del frozen
  terms = losses.linear_nll_terms(hidden, head, tokens, vocab_axis=0)
  return losses.label_smoothing(*terms, smoothing=point["smoothing"])


def tailr(hidden, head, frozen, tokens, point):
  nll = likelihood(hidden, head, frozen, tokens, point)
  return losses.tailr(nll, gamma=point["gamma"], min_weight=point["min_weight"])


def _emo(mix: Callable, *, is_fixed: bool) -> Callable:
  """EMO with costs of the head before training, or as it is."""

  def loss(hidden, head, frozen, tokens, point):
    del point
    terms = losses.linear_emo_terms(
      hidden,
      head,
      tokens,
      vocab_axis=0,
      cost_embedding=frozen if is_fixed else None,
    )
    return mix(*terms)

  return loss


METHODS = {
  "likelihood": Method("cross-entropy", likelihood),
  # The point's temperature is of its samples and probabilities.
  "temperature": Method("cross-entropy, then a temperature", likelihood),
  "label_smoothing": Method("label smoothing", label_smoothing),
  "tailr": Method("TaiLr", tailr),
  "emo_mode1_fixed": Method(
    "EMO, mode 1, fixed costs", _emo(losses.emo_mode1, is_fixed=True)
  ),
  "emo_mode1_adaptive": Method(
    "EMO, mode 1, adaptive costs", _emo(losses.emo_mode1, is_fixed=False)
  ),
  "emo_mode2_fixed": Method(
    "EMO, mode 2, fixed costs", _emo(losses.emo_mode2, is_fixed=True)
  ),
  "emo_mode2_adaptive": Method(
    "EMO, mode 2, adaptive costs", _emo(losses.emo_mode2, is_fixed=False)
  ),
}
