# SPDX-License-Identifier: Apache-2.0
"""EXACT's five points: no line is right on all, and the best is right on four.

The second toy of arXiv 2205.09615 (ivan-chai/exact):

  x = (-6, -5, -4, 0, 2),  labels (0, 1, 1, 0, 1)

sigma = 100 * 0.99^step, gradient descent on normalised gradients. Its model is
not known here, so there are three, of logits (0, f):

  threshold     f = x - b, as in the toy of three points
  linear        f = w x + b, which can choose its own scale
  standardized  the same, and the logits then standardised as in the method

Cross-entropy is trained in the same way from the same starts.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tqdm

from experiments.loss_studies import selection
import losses

X = np.array([-6.0, -5.0, -4.0, 0.0, 2.0], np.float32)
LABELS = np.array([0, 1, 1, 0, 1], np.int32)

# name -> (number of parameters, f of them).
MODELS = {
  "threshold": (1, lambda params: X - params[0]),
  "linear": (2, lambda params: params[0] * X + params[1]),
  "standardized": (2, lambda params: params[0] * X + params[1]),
}


def best_accuracy() -> float:
  """Of any line: f > 0 right of a threshold, left of one, or nowhere."""
  thresholds = np.concatenate([X - 0.5, X[-1:] + 0.5])
  right = [np.mean((X > b) == LABELS) for b in thresholds]
  return float(max(right + [1 - share for share in right]))


def accuracy(model: str, params):
  return jnp.mean((MODELS[model][1](params) > 0) == LABELS)


def mean_loss(params, sigma, *, model: str, loss: str):
  f = MODELS[model][1](params)
  logits = jnp.stack([jnp.zeros_like(f), f], axis=-1)
  if model == "standardized":
    logits = losses.standardize_logits(logits)
  if loss == "exact":
    return losses.expected_accuracy_loss(logits, LABELS, sigma=sigma).mean()
  return optax.softmax_cross_entropy_with_integer_labels(logits, LABELS).mean()


def train(start, *, model: str, loss: str, config):
  """Parameters [num_steps, P] and accuracies [num_steps] after each step."""
  optimizer = optax.chain(
    # Each step by its own norm, however small it is.
    losses.scale_by_norm_ema(decay=0.0, floor=1e-12),
    optax.sgd(config.lr),
  )
  sigma = losses.sigma_schedule(
    init=config.sigma,
    final=config.sigma * config.decay**config.num_steps,
    num_steps=config.num_steps,
  )
  gradient = jax.grad(functools.partial(mean_loss, model=model, loss=loss))

  def step(carry, n):
    params, state = carry
    updates, state = optimizer.update(gradient(params, sigma(n)), state)
    params = optax.apply_updates(params, updates)
    return (params, state), (params, accuracy(model, params))

  carry = (start, optimizer.init(start))
  return jax.lax.scan(step, carry, jnp.arange(config.num_steps))[1]


def measure(config) -> dict:
  """Accuracy that each loss ends with, from many starts.

  Args:
    config: of configs/loss_toys.py:exact_5_points.

  Returns:
    best_accuracy: of any line; models: rows of model, loss, mean and
      standard_error of the accuracy over starts, starts_at_best: how many of
      them end at the best; from_zero: {loss: b after every tenth step} of the
      threshold, from b = 0.
  """
  best = best_accuracy()
  rows, from_zero = [], {}
  for model, (size, _) in tqdm.tqdm(MODELS.items(), unit="model"):
    starts = jax.random.normal(
      jax.random.key(config.seed), (config.num_starts, size)
    )
    starts = config.start_std[model] * starts.at[0].set(0)
    for loss in ("cross_entropy", "exact"):
      fn = functools.partial(train, model=model, loss=loss, config=config)
      # 0 is no start for the others: standardised logits have no slope there.
      used = starts if model == "threshold" else starts[1:]
      params, right = jax.jit(jax.vmap(fn))(used)
      right = [float(share) for share in right[:, -1]]
      rows.append(
        {
          "model": model,
          "loss": loss,
          "num_starts": len(right),
          "mean": selection.mean(right),
          "standard_error": selection.standard_error(right),
          "starts_at_best": sum(share > best - 1e-6 for share in right),
        }
      )
      if model == "threshold":
        path = np.asarray(params[0, 9::10, 0], np.float64)
        from_zero[loss] = [round(float(b), 4) for b in path]
  return {"best_accuracy": best, "models": rows, "from_zero": from_zero}
