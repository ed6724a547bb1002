# SPDX-License-Identifier: Apache-2.0
"""One training step, as a pure function of (state, batch).

  batch -> times, noise, dropped labels -> loss [B] -> gradient -> optimizer
        -> EMA

All randomness is a function of the state's (seed, step): a resumed run draws
what the uninterrupted one would have drawn, on any number of devices. The seed
is data, not part of the program: runs that differ in it share a compilation.
"""

from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from simple_diffusion import objective
from simple_diffusion import sharding

TIMES = {
  "uniform": objective.uniform_times,
  "stratified": objective.stratified_times,
}


class TrainState(NamedTuple):
  """What training changes, and a checkpoint holds.

  Attributes:
    seed: uint32, of all randomness of training; never changes.
    step: int32, the number of updates made.
    params: float32 tree of the network's parameters.
    ema_params: their exponential moving average.
    opt_state: the optimizer's state.
    halted: bool, whether a non-finite loss or gradient was met; from then on
      step, params and ema_params stay as they are.
  """

  seed: jax.Array
  step: jax.Array
  params: Any
  ema_params: Any
  opt_state: Any
  halted: jax.Array


def init_state(
  seed: jax.Array,
  *,
  network,
  optimizer: optax.GradientTransformation,
  image_shape: tuple[int, int, int],
) -> TrainState:
  """The state before the first step, from a uint32 seed."""
  variables = network.init(
    jax.random.fold_in(jax.random.key(seed), 0),
    jnp.zeros((1, *image_shape)),
    jnp.zeros((1,)),
    jnp.zeros((1,), jnp.int32),
  )
  params = variables["params"]
  return TrainState(
    seed=jnp.uint32(seed),
    step=jnp.int32(0),
    params=params,
    # A copy: a donated state must not hold one buffer twice.
    ema_params=jax.tree.map(jnp.copy, params),
    opt_state=optimizer.init(params),
    halted=jnp.bool_(False),
  )


def ema_decay_at(step: jax.Array, decay: float) -> jax.Array:
  """min(decay, (1 + step) / (10 + step)): a young average forgets its start.

  # DEVIATION: the paper has a constant 0.9999, which this is after 90 k steps.
  """
  return jnp.minimum(decay, (1 + step) / (10 + step))


def make_update(
  *,
  optimizer: optax.GradientTransformation,
  max_grad_norm: float,
  ema_decay: float,
):
  """Makes update(state, grads, loss) -> (state, norm of the gradient).

  If norm or loss is not finite, the returned state is halted. Compiled, it goes
  over the gradient once for its norm, and once over everything: clipping is one
  factor from that norm, and no intermediate is written to memory.
  """

  def update(state, grads, loss):
    norm = optax.tree.norm(grads)
    halted = state.halted | ~(jnp.isfinite(loss) & jnp.isfinite(norm))
    scale = jnp.minimum(1.0, max_grad_norm / norm)
    # Selections on what goes in, not on the new state: XLA can then still
    # write it over the old one. Without a barrier XLA for GPUs merges this zero
    # with those that a scan starts from, and reads them here as an array.
    zero = jax.lax.optimization_barrier(jnp.float32(0))
    grads = jax.tree.map(lambda g: jnp.where(halted, zero, scale * g), grads)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    updates = jax.tree.map(lambda u: jnp.where(halted, zero, u), updates)
    params = optax.apply_updates(state.params, updates)
    decay = jnp.where(halted, 1.0, ema_decay_at(state.step, ema_decay))
    ema_params = jax.tree.map(
      lambda ema, p: decay * ema + (1 - decay) * p, state.ema_params, params
    )
    state = TrainState(
      seed=state.seed,
      step=state.step + 1 - halted,
      params=params,
      ema_params=ema_params,
      opt_state=opt_state,
      halted=halted,
    )
    return state, norm

  return update


def make_train_step(
  *,
  network,
  schedule,
  optimizer: optax.GradientTransformation,
  objective_options: dict,
  num_classes: int,
  max_grad_norm: float,
  ema_decay: float,
  label_dropout: float,
  times: str,
  accum_steps: int,
):
  """Makes train_step(state, batch) -> (state, metrics).

  Args:
    network: called as network(z, logsnr, labels, train=True).
    schedule: the log-SNR schedule.
    optimizer: applied to the clipped gradient of the batch's mean loss.
    objective_options: keyword arguments of `objective.diffusion_loss`.
    num_classes: the label of "no class", which dropped labels become.
    max_grad_norm: what a longer gradient is scaled to.
    ema_decay: of the moving average of the parameters.
    label_dropout: probability of hiding an example's label, for guidance.
    times: "uniform" or "stratified".
    accum_steps: number of equal parts that a batch is taken in, one after the
      other, for memory; their gradients are averaged.

  Returns:
    A pure function. batch is {"image": float32 [B, H, W, C] in [-1, 1],
    "label": int32 [B]}; metrics are scalars of this step: loss, eps_mse,
    v_mse, and the norm of the gradient before it is clipped. If loss or norm
    is not finite, the returned state is halted: its step, params and ema_params
    are the given ones.

  Raises:
    ValueError: if `times` is not an option.
  """
  if times not in TIMES:
    raise ValueError(
      f"train.times={times!r}; the options are {', '.join(TIMES)}"
    )

  def mean_loss(params, part, rng_dropout):
    x, eps, t, labels = part

    def predict_fn(z, logsnr, labels):
      return network.apply(
        {"params": params},
        z,
        logsnr,
        labels,
        train=True,
        rngs={"dropout": rng_dropout},
      )

    loss, metrics = objective.diffusion_loss(
      x,
      eps,
      t,
      labels,
      predict_fn=predict_fn,
      schedule=schedule,
      **objective_options,
    )
    metrics = {"loss": loss, **metrics}
    return loss.mean(), jax.tree.map(jnp.mean, metrics)

  def grad_fn(params, part, rng_dropout):
    grads, metrics = jax.grad(mean_loss, has_aux=True)(
      params, part, rng_dropout
    )
    return sharding.constrain_params(grads), metrics

  def accumulate(params, batch, rng_dropout):
    """Gradient and metrics, averaged over accum_steps parts of the batch."""
    if accum_steps == 1:
      return grad_fn(params, batch, rng_dropout)
    # Part i has examples i, i + accum_steps, ...: each stays on its device.
    parts = jax.tree.map(
      lambda a: a.reshape(-1, accum_steps, *a.shape[1:]).swapaxes(0, 1), batch
    )
    rngs = jax.random.split(rng_dropout, accum_steps)

    def add(total, inputs):
      return jax.tree.map(jnp.add, total, grad_fn(params, *inputs)), None

    first = jax.tree.map(lambda a: a[0], (parts, rngs))
    zeros = jax.tree.map(
      lambda s: jnp.zeros(s.shape, s.dtype),
      jax.eval_shape(grad_fn, params, *first),
    )
    total, _ = jax.lax.scan(add, zeros, (parts, rngs))
    return jax.tree.map(lambda a: a / accum_steps, total)

  update = make_update(
    optimizer=optimizer, max_grad_norm=max_grad_norm, ema_decay=ema_decay
  )

  def train_step(state, batch):
    x, labels = batch["image"], batch["label"]
    rng = jax.random.fold_in(jax.random.key(state.seed), 1)
    rng = jax.random.fold_in(rng, state.step)
    rng_time, rng_noise, rng_label, rng_dropout = jax.random.split(rng, 4)
    t = TIMES[times](rng_time, x.shape[0])
    eps = jax.random.normal(rng_noise, x.shape)
    hide = jax.random.bernoulli(rng_label, label_dropout, labels.shape)
    # Data sets mark a missing label by -1.
    labels = jnp.where(hide | (labels < 0), num_classes, labels)

    grads, metrics = accumulate(state.params, (x, eps, t, labels), rng_dropout)
    state, metrics["grad_norm"] = update(state, grads, metrics["loss"])
    return state, metrics

  return train_step
