# SPDX-License-Identifier: Apache-2.0
"""EXACT's three points: which objectives have their minimum where all is right.

The toy of arXiv 2205.09615, and its discussion in kexue.fm 10145:

  x = (-0.25, 0, 0.25),  labels (0, 0, 1),  f = x - b

classifies all three right for b in (0, 0.25). The slope of f is 1, so an
objective has no scale of its own; k f and sigma give it one. For two classes
with logits (0, f), EXACT is the mean of Phi(-l f / (sigma sqrt 2)), l = +-1.

All in float64.
"""

from collections.abc import Callable
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import optimize
import tqdm

import losses

X = np.array([-0.25, 0.0, 0.25])
LABELS = np.array([0, 0, 1], np.int32)

# The minimiser of 1 - p_y at k = 2 is 2.05, that of EXACT at sigma = 1 is 3.9.
SEARCHED = np.linspace(-1.0, 6.0, 7001)


def accuracy(b: float) -> float:
  return float(np.mean((X - b > 0) == LABELS))


def cross_entropy(logits, k):
  return optax.softmax_cross_entropy_with_integer_labels(k * logits, LABELS)


def hinge(logits, k):
  return optax.hinge_loss(k * (logits[:, 1] - logits[:, 0]), 2.0 * LABELS - 1)


def exact(logits, sigma):
  return losses.expected_accuracy_loss(logits, LABELS, sigma=sigma)


def smooth_accuracy(logits, k):
  return losses.gumbel_expected_accuracy_loss(logits, LABELS, tau=1 / k)


# name -> (loss of logits [3, 2] and a scale, what the scale is called).
OBJECTIVES = {
  "cross_entropy": (cross_entropy, "k"),
  "hinge": (hinge, "k"),
  "exact": (exact, "sigma"),
  "smooth_accuracy": (smooth_accuracy, "k"),
}


def objective(name: str) -> Callable:
  """(b, scale) -> the mean loss of the three points."""
  loss, _ = OBJECTIVES[name]

  def mean_loss(b, scale):
    f = X - b
    return loss(jnp.stack([jnp.zeros_like(f), f], axis=-1), scale).mean()

  return mean_loss


@functools.cache
def compiled(name: str) -> tuple[Callable, Callable]:
  """The objective of many b at one scale, and its slope at one b.

  Whoever calls them, in float64: traced in two precisions, one function would
  mix its constants.
  """
  loss = objective(name)
  in_float64 = jax.enable_x64(True)
  return (
    in_float64(jax.jit(jax.vmap(loss, (0, None)))),
    in_float64(jax.jit(jax.grad(loss))),
  )


def minimisers(name: str, scale: float) -> tuple[float, float, float]:
  """The least and greatest b with the least loss, and that loss."""
  loss, slope = compiled(name)
  if name == "hinge":  # Piecewise linear: look at the ends of its pieces.
    ends = np.sort(np.where(LABELS == 1, X - 1 / scale, X + 1 / scale))
    values = np.asarray(loss(ends, scale))
    least = ends[values <= values.min() + 1e-12]
    return float(least[0]), float(least[-1]), float(values.min())
  nearest = int(np.argmin(loss(SEARCHED, scale)))
  low, high = SEARCHED[nearest - 1], SEARCHED[nearest + 1]
  b = optimize.brentq(lambda b: float(slope(b, scale)), low, high, xtol=1e-12)
  return b, b, float(loss(np.array([b]), scale)[0])


def enough_for_cross_entropy() -> float:
  """The k at which the minimiser of cross-entropy is 0.25."""
  _, slope = compiled("cross_entropy")
  return optimize.brentq(lambda k: float(slope(0.25, k)), 1, 10, xtol=1e-12)


def learn_sigma(*, lr: float, num_steps: int, every: int) -> list[dict]:
  """Gradient descent of EXACT on (b, log sigma) from (0, 0)."""

  def loss(params):
    return objective("exact")(params[0], jnp.exp(params[1]))

  def step(params, _):
    new = params - lr * jax.grad(loss)(params)
    return new, (new, loss(new))

  _, (params, values) = jax.jit(
    lambda start: jax.lax.scan(step, start, length=num_steps)
  )(jnp.zeros(2))
  kept = range(every, num_steps + 1, every)
  return [
    {
      "step": n,
      "b": float(params[n - 1, 0]),
      "sigma": float(jnp.exp(params[n - 1, 1])),
      "loss": float(values[n - 1]),
      "accuracy": accuracy(float(params[n - 1, 0])),
    }
    for n in kept
  ]


def measure(config) -> dict:
  """Minimisers of each objective at each scale, and the learned sigma.

  Args:
    config: of configs/loss_toys.py:exact_3_points.

  Returns:
    minimisers: rows of objective, scale, low and high (one number but for the
      hinge), loss, accuracy in the middle; enough_for_cross_entropy: the k
      above which cross-entropy gets all right; learned: rows of step, b, sigma,
      loss, accuracy.
  """
  rows = []
  with jax.enable_x64(True):
    for name, scales in tqdm.tqdm(config.scales.items(), unit="objective"):
      for scale in scales:
        low, high, loss = minimisers(name, scale)
        rows.append(
          {
            "objective": name,
            OBJECTIVES[name][1]: scale,
            "low": low,
            "high": high,
            "loss": loss,
            "accuracy": accuracy((low + high) / 2),
          }
        )
    return {
      "minimisers": rows,
      "enough_for_cross_entropy": enough_for_cross_entropy(),
      "learned": learn_sigma(**config.learned),
    }
