# SPDX-License-Identifier: Apache-2.0
"""EMO and synonyms: where the mass goes while the likelihood stands still.

A vocabulary of groups of synonyms, whose embeddings are near each other. Each
context has one group: its next token is a synonym of it, by shares that differ,
or with some probability any token. Of each context a few tokens are seen, so
that most synonyms are not. Two models of logits [C, V]:

  table   every logit is free: nothing but the loss knows of synonyms
  head    h_c . e_v with the frozen embedding e: the model knows as well

Mass falls on the target, on its synonyms and elsewhere, as expected under the
true distribution; so are the NLL and the EMD. Costs are those of the embedding.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tqdm

from experiments.loss_studies import selection
import losses

MEASURES = ("nll", "emd", "target", "synonyms", "elsewhere")


def make_problem(seed: int, config) -> dict:
  """Embedding [V, D], group of each token [V], distributions [C, V].

  truth is what tokens are drawn from; train and valid are shares of num_seen
  drawn tokens each.
  """
  rng = np.random.default_rng(seed)
  shape = config.num_groups, config.num_synonyms
  vocab = np.prod(shape)
  centres = rng.normal(size=(config.num_groups, config.width))
  centres /= np.linalg.norm(centres, axis=-1, keepdims=True)
  noise = rng.normal(size=(vocab, config.width)) / np.sqrt(config.width)
  embedding = np.repeat(centres, config.num_synonyms, 0) + config.spread * noise
  group = np.arange(vocab) // config.num_synonyms
  of_context = rng.integers(0, config.num_groups, config.num_contexts)
  shares = rng.dirichlet(np.ones(config.num_synonyms), config.num_contexts)
  truth = np.full((config.num_contexts, *shape), config.elsewhere / vocab)
  truth[np.arange(config.num_contexts), of_context] += (
    1 - config.elsewhere
  ) * shares
  truth = truth.reshape(config.num_contexts, vocab)

  def draw():
    seen = [rng.multinomial(config.num_seen, p) for p in truth]
    return np.float32(seen) / config.num_seen

  return {
    "embedding": np.float32(embedding),
    "group": group,
    "truth": np.float32(truth),
    "train": draw(),
    "valid": draw(),
  }


def expected(p, nll, problem) -> dict:
  """MEASURES and valid of a model's p and -log p, both [C, V]."""
  unit = problem["embedding"]
  unit /= jnp.linalg.norm(unit, axis=-1, keepdims=True)
  cost = (1 - unit @ unit.T) * (1 - jnp.eye(len(unit)))
  group = problem["group"]
  same = jnp.float32(group[:, None] == group[None, :])

  def mean(of_target, shares):
    return jnp.sum(shares * of_target, axis=-1).mean()

  truth = problem["truth"]
  in_group = mean(p @ same, truth)
  target = mean(p, truth)
  return {
    "nll": mean(nll, truth),
    "emd": mean(p @ cost, truth),
    "target": target,
    "synonyms": in_group - target,
    "elsewhere": 1 - in_group,
    "valid": mean(nll, problem["valid"]),
  }


def per_target(method: str, nll, emd, gamma):
  """The loss of each context and target, [C, V]."""
  if method == "mle":
    return nll
  if method == "tailr":
    return losses.tailr(nll, gamma=gamma)
  mix = {"emo_mode1": losses.emo_mode1, "emo_mode2": losses.emo_mode2}[method]
  return mix(nll, emd)


def train(problem, lr, gamma, *, model: str, method: str, config) -> dict:
  """{name: [records]} of `expected`, every config.every steps of Adam."""
  embedding = problem["embedding"]
  contexts, vocab = problem["truth"].shape

  def logits_of(params):
    if model == "table":
      return params
    return config.head_scale * jnp.einsum("cd,vd->cv", params, embedding)

  # The tokens seen: the largest num_seen shares are all that are not 0.
  shares, seen = jax.lax.top_k(problem["train"], config.num_seen)

  def loss_fn(params):
    logits = jnp.broadcast_to(
      logits_of(params)[:, None], (contexts, config.num_seen, vocab)
    )
    nll, emd = losses.emo_terms(logits, seen, embedding)
    return jnp.sum(shares * per_target(method, nll, emd, gamma), axis=-1).mean()

  optimizer = optax.adam(lr)

  def step(carry, _):
    params, state = carry
    updates, state = optimizer.update(jax.grad(loss_fn)(params), state)
    return (optax.apply_updates(params, updates), state), None

  def record(carry, _):
    carry, _ = jax.lax.scan(step, carry, length=config.every)
    log_p = jax.nn.log_softmax(logits_of(carry[0]))
    return carry, expected(jnp.exp(log_p), -log_p, problem)

  params = jnp.zeros((contexts, vocab if model == "table" else config.width))
  carry = params, optimizer.init(params)
  return jax.lax.scan(record, carry, length=config.num_steps // config.every)[1]


def _mean_and_error(values):
  values = [float(value) for value in values]
  return [selection.mean(values), selection.standard_error(values)]


def measure(config) -> dict:
  """What each loss makes of the toy, in both models.

  Of every method as many points (lr, gamma) are tried; that of the least
  validation NLL, at its best step, averaged over seeds, is measured.

  Args:
    config: of configs/loss_toys.py:emo_synonyms.

  Returns:
    truth: the MEASURES of the distribution itself; rows of model, method, the
      point chosen, step, and {measure: [mean, standard error]}; curves: of the
      table, {method: {"step", "nll", "emd"}}, means over seeds.
  """
  budget = {len(points) for points in config.points.values()}
  if len(budget) > 1:
    raise ValueError(
      f"the methods have {sorted(budget)} points; give each as many"
    )
  problems = [make_problem(seed, config) for seed in config.seeds]
  stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *problems)

  truth = jax.vmap(lambda q: expected(q["truth"], -jnp.log(q["truth"]), q))
  truth = truth(stacked)
  rows, curves = [], {}
  for model in config.models:
    for method in tqdm.tqdm(config.points, desc=model, unit="method"):
      points = np.float32(config.points[method])
      fn = functools.partial(train, model=model, method=method, config=config)
      over_seeds = jax.vmap(fn, in_axes=(0, None, None))
      over_points = jax.jit(jax.vmap(over_seeds, in_axes=(None, 0, 0)))
      found = over_points(stacked, points[:, 0], points[:, 1])
      valid = np.asarray(found["valid"]).mean(axis=1)  # [points, records]
      best, at = np.unravel_index(valid.argmin(), valid.shape)
      rows.append(
        {
          "model": model,
          "method": method,
          "lr": config.points[method][best][0],
          "gamma": config.points[method][best][1],
          "step": int(at + 1) * config.every,
        }
        | {k: _mean_and_error(found[k][best, :, at]) for k in MEASURES}
      )
      if model == "table":
        curves[method] = {
          k: [round(float(v), 4) for v in found[k][best].mean(axis=0)]
          for k in ("nll", "emd")
        }
  steps = range(config.every, config.num_steps + 1, config.every)
  return {
    "truth": {k: _mean_and_error(truth[k]) for k in MEASURES},
    "rows": rows,
    "curves": {"step": list(steps)} | curves,
  }
