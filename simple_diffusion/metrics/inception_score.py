# SPDX-License-Identifier: Apache-2.0
"""The Inception score of a set of images, from a classifier's logits."""

import chex
import numpy as np


def inception_score(
  logits: np.ndarray, num_splits: int = 10
) -> tuple[float, float]:
  """exp of the mean KL divergence of p(y | x) from p(y), over splits.

    exp(mean_x sum_y p(y | x) log(p(y | x) / p(y))),  p(y) = mean_x p(y | x)

  (arXiv 1606.03498), between 1 and K. It sees no real image: a set of one
  perfect image a class has the highest score. With few images p(y) follows
  p(y | x), so the score is biased: published ones are over 10 splits of 5,000.

  Samples usually lie in order of their class, so they are shuffled, always in
  the same way (that of torch-fidelity, whose scores these equal).

  Args:
    logits: [N, K], unnormalised.
    num_splits: parts whose scores are averaged.

  Returns:
    The mean over splits and their standard deviation (divided by num_splits).

  Raises:
    ValueError: if there are more splits than images.
  """
  chex.assert_rank(logits, 2)
  number = len(logits)
  if not 1 <= num_splits <= number:
    raise ValueError(
      f"num_splits {num_splits} must be between 1 and the number of images, "
      f"{number}"
    )
  order = np.random.RandomState(2020).permutation(number)
  log_p = np.float64(logits)[order]
  log_p = log_p - np.logaddexp.reduce(log_p, axis=1, keepdims=True)
  scores = []
  for i in range(num_splits):
    part = log_p[i * number // num_splits : (i + 1) * number // num_splits]
    p = np.exp(part)
    log_marginal = np.logaddexp.reduce(part, axis=0) - np.log(len(part))
    # 0 log 0 is 0, and p is 0 long before its logarithm is not finite.
    scores.append(np.exp((p * (part - log_marginal)).sum(1).mean()))
  return float(np.mean(scores)), float(np.std(scores))
