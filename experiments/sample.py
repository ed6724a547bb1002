# SPDX-License-Identifier: Apache-2.0
"""Makes images from a checkpoint: a PNG grid and an npz of all of them.

  python -m experiments.sample --workdir=runs/digits --num_images=100

Writes <out>.png and <out>.npz with images uint8 [N, H, W, C] and labels int32
[N] (-1 without classes). Image i of a seed is the same whatever the batch.
"""

import pathlib

from absl import flags
import jax.numpy as jnp
import numpy as np
import tqdm

from experiments import cli
from experiments import grids
from experiments import workdir as workdir_lib
from simple_diffusion import build
from simple_diffusion import checkpoints
from simple_diffusion import images
from simple_diffusion import sampler

_WORKDIR = flags.DEFINE_string("workdir", None, "A run of experiments.train.")
_STEP = flags.DEFINE_integer("step", None, "Checkpoint; default: the newest.")
_OUT = flags.DEFINE_string(
  "out", None, "Files to write, without suffix; default: in the workdir."
)
_NUM_IMAGES = flags.DEFINE_integer(
  "num_images", 100, "How many.", lower_bound=1
)
_CLASS = flags.DEFINE_integer(
  "class", None, "Label of all images; default: the classes in turn."
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the noise.")
_BATCH_SIZE = flags.DEFINE_integer(
  "batch_size", None, "Images at a time; default: the config's.", lower_bound=1
)
flags.DEFINE_enum("method", None, sampler.METHODS, "Sampler.")
flags.DEFINE_integer("num_steps", None, "Sampling steps.", lower_bound=1)
flags.DEFINE_enum(
  "spacing", None, sampler.SPACINGS, "What the steps are uniform in."
)
flags.DEFINE_float("gamma", None, "Variance of the ancestral sampler.")
flags.DEFINE_float("guidance_scale", None, "Guidance; 1 is none.")
flags.DEFINE_list(
  "guidance_interval", None, "low,high log-SNR within which to guide."
)


def override_from_flags(config):
  """Lets the flags replace what the config's section `sample` says."""
  names = ("method", "num_steps", "spacing", "gamma", "guidance_scale")
  for name in names:
    value = flags.FLAGS[name].value
    if value is not None:
      config.sample[name] = value
  interval = flags.FLAGS.guidance_interval
  if interval is not None:
    try:
      low, high = (float(end) for end in interval)
    except ValueError:
      raise ValueError(
        f"--guidance_interval={','.join(interval)} must be two numbers low,high"
      ) from None
    config.sample.guidance_interval = (low, high)


def load(workdir, step):
  """The config of a run, with the flags' sampler, its EMA parameters, step."""
  config = workdir_lib.load_config(workdir)
  override_from_flags(config)
  network = build.make_network(config.model)
  abstract_params = build.abstract_params(network, build.image_shape(config))
  params, step = checkpoints.restore_ema_params(workdir, abstract_params, step)
  return config, network, params, step


def make_images(config, network, params, *, labels, seed, batch_size):
  """Samples float32 [N, H, W, C] in [-1, 1], one for each of labels [N]."""
  sample_fn = build.make_sample_fn(config, network)
  batches = []
  for start in tqdm.trange(0, len(labels), batch_size, unit="batch"):
    # A last batch that is too long keeps the shape: one compilation.
    indices = start + jnp.arange(batch_size)
    part = jnp.asarray(labels)[jnp.minimum(indices, len(labels) - 1)]
    keys = sampler.keys_for(seed, indices)
    batches.append(np.asarray(sample_fn(params, keys, part)))
  return np.concatenate(batches)[: len(labels)]


def labels_for(num_images, num_classes, label):
  """[N] labels: all `label`, or the classes in turn if it is None."""
  if label is None:
    return np.arange(num_images, dtype=np.int32) % max(1, num_classes)
  if not 0 <= label < num_classes:
    raise ValueError(
      f"--class={label}, but the network has {num_classes} classes"
      + (f": 0 to {num_classes - 1}" if num_classes else "")
    )
  return np.full(num_images, label, np.int32)


def main(_):
  with cli.user_errors():
    config, network, params, step = load(_WORKDIR.value, _STEP.value)
    num_classes = config.model.num_classes
    labels = labels_for(
      _NUM_IMAGES.value, num_classes, flags.FLAGS["class"].value
    )
    batch_size = min(
      _BATCH_SIZE.value or config.eval.batch_size, _NUM_IMAGES.value
    )
    default = f"{_WORKDIR.value}/samples/step_{step:08d}_seed_{_SEED.value}"
    out = pathlib.Path(_OUT.value or default)
    out.parent.mkdir(parents=True, exist_ok=True)
  batch = make_images(
    config,
    network,
    params,
    labels=labels,
    seed=_SEED.value,
    batch_size=batch_size,
  )
  grids.save_grid(out.with_name(out.name + ".png"), batch[:400], num_columns=10)
  np.savez(
    out.with_name(out.name + ".npz"),
    images=images.to_uint8(batch),
    labels=labels if num_classes else np.full_like(labels, -1),
  )
  print(f"{len(batch)} images of step {step}: {out}.png, {out}.npz")


if __name__ == "__main__":
  flags.mark_flags_as_required(["workdir"])
  cli.run(main)
