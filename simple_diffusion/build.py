# SPDX-License-Identifier: Apache-2.0
"""From a config's sections to the objects that they describe.

A section's keys are the fields of what receives it, so a misspelt key fails at
construction, naming itself.
"""

import jax.numpy as jnp
import optax

from simple_diffusion import data
from simple_diffusion import decoded
from simple_diffusion import sampler
from simple_diffusion import schedules
from simple_diffusion import train
from simple_diffusion import unet
from simple_diffusion import uvit

NETWORKS = {"uvit": uvit.SimpleUViT, "unet": unet.UNet}


def _tuples(section):
  """Flax modules must be hashable, and configs loaded from JSON have lists."""
  return {k: tuple(v) if isinstance(v, list) else v for k, v in section.items()}


def make_network(model):
  """The network of config section `model`: `name` and the module's fields."""
  fields = _tuples(model)
  name, dtype = fields.pop("name"), fields.pop("dtype")
  if name not in NETWORKS:
    raise ValueError(
      f"model.name={name!r}; the options are {', '.join(NETWORKS)}"
    )
  if dtype not in ("float32", "bfloat16"):
    raise ValueError(
      f"model.dtype={dtype!r}; the options are float32, bfloat16"
    )
  try:
    return NETWORKS[name](dtype=jnp.dtype(dtype), **fields)
  except TypeError as error:
    raise ValueError(
      f"config section model does not fit {name}: {error}"
    ) from None


def make_schedule(config) -> schedules.Schedule:
  """The log-SNR schedule of config section `schedule` at the data's size."""
  height, width, _ = image_shape(config)
  return schedules.Schedule(image_size=min(height, width), **config.schedule)


def make_optimizer(optim) -> optax.GradientTransformation:
  """Adam with linear warm-up and decoupled weight decay.

  Args:
    optim: config section with lr, warmup_steps, b1, b2, eps, weight_decay.
  """
  learning_rate = optim.lr
  if optim.warmup_steps:  # Of 0 steps, Optax's schedule would stay at 0.
    learning_rate = optax.linear_schedule(0.0, optim.lr, optim.warmup_steps)
  return optax.adamw(
    learning_rate,
    b1=optim.b1,
    b2=optim.b2,
    eps=optim.eps,
    weight_decay=optim.weight_decay,
  )


def make_update(config):
  """What a training step does with its gradient, not yet compiled."""
  return train.make_update(
    optimizer=make_optimizer(config.optim),
    max_grad_norm=config.optim.max_grad_norm,
    ema_decay=config.train.ema_decay,
  )


def decoded_if_asked(config, source):
  """The source, in memory at the training size if data.in_memory says so."""
  if not config.data.in_memory:
    return source
  return decoded.in_memory(
    source,
    image_size=config.data.image_size,
    num_channels=config.data.num_channels,
    crop=config.data.crop,
    num_threads=config.data.num_threads,
  )


def make_stream(config, source, rows=None):
  """The training batches of a source, or those rows of each."""
  return data.make_stream(
    source,
    seed=config.train.seed,
    batch_size=config.train.batch_size,
    image_size=config.data.image_size,
    num_channels=config.data.num_channels,
    crop=config.data.crop,
    random_flip=config.data.random_flip,
    rows=rows,
  )


def make_eval_stream(config, source, batch_size):
  """One pass over a source in order, cropped without randomness."""
  return data.make_eval_stream(
    source,
    batch_size=batch_size,
    image_size=config.data.image_size,
    num_channels=config.data.num_channels,
    crop="squash" if config.data.crop == "squash" else "center",
  )


def make_train_step(config, network):
  """The training step of a config, not yet compiled; see `train`."""
  return train.make_train_step(
    network=network,
    schedule=make_schedule(config),
    optimizer=make_optimizer(config.optim),
    objective_options=dict(config.objective),
    num_classes=config.model.num_classes,
    max_grad_norm=config.optim.max_grad_norm,
    ema_decay=config.train.ema_decay,
    label_dropout=config.train.label_dropout,
    times=config.train.times,
    accum_steps=config.train.accum_steps,
  )


def init_state(config, network, seed) -> train.TrainState:
  """The state of a config before its first step, from a uint32 seed."""
  return train.init_state(
    seed,
    network=network,
    optimizer=make_optimizer(config.optim),
    image_shape=image_shape(config),
  )


def make_sample_fn(config, network):
  """sample_fn(params, keys [B], labels [B]) -> images, not yet compiled.

  Everything else (method, steps, guidance) is config section `sample`; images
  are float32 in [-1, 1].
  """
  num_classes = config.model.num_classes
  options = dict(config.sample)
  scale = options.pop("guidance_scale")
  interval = options.pop("guidance_interval")
  if interval is not None and not (
    len(interval) == 2 and interval[0] < interval[1]
  ):
    raise ValueError(
      f"sample.guidance_interval={interval} must be two log-SNRs, low < high"
    )
  if scale != 1.0 and not num_classes:
    raise ValueError(
      f"sample.guidance_scale={scale} needs classes to guide towards, and "
      "model.num_classes is 0; use guidance_scale=1"
    )
  if scale != 1.0 and not config.train.label_dropout:
    raise ValueError(
      f"sample.guidance_scale={scale} needs a network that was also trained "
      "without classes, and train.label_dropout is 0; use guidance_scale=1, or "
      "train with label_dropout above 0"
    )
  if not 0 <= options["gamma"] <= 1:
    raise ValueError(f"sample.gamma={options['gamma']} must be within 0 and 1")

  def sample_fn(params, keys, labels):
    def predict_fn(z, logsnr, labels):
      return network.apply({"params": params}, z, logsnr, labels)

    return sampler.sample(
      keys,
      labels,
      predict_fn=sampler.guide(
        predict_fn, scale=scale, interval=interval, null_cond=num_classes
      ),
      schedule=make_schedule(config),
      prediction=config.objective.prediction,
      image_shape=image_shape(config),
      **options,
    )

  return sample_fn


def image_shape(config) -> tuple[int, int, int]:
  """(H, W, C) of the config's images."""
  size = config.data.image_size
  height, width = (size, size) if isinstance(size, int) else size
  return height, width, config.data.num_channels
