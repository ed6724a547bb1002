# SPDX-License-Identifier: Apache-2.0
"""Images from a checkpoint: what `sample` and `evaluate` have in common.

Defines the flags that choose checkpoint and sampler; a sampler's settings are
those of the run's config unless a flag replaces them. Runs on all devices of
its process, whatever the run's own mesh was; several processes share batches
out, see `shares`.
"""

from absl import flags
import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from experiments import checks
from experiments import shares
from experiments import workdir as workdir_lib
from simple_diffusion import checkpoints
from simple_diffusion import programs as programs_lib
from simple_diffusion import sampler
from simple_diffusion import sharding

flags.DEFINE_string("workdir", None, "A run of experiments.train.")
flags.DEFINE_integer("step", None, "Checkpoint; default: the newest.")
# A key of JAX has 32 bits of its seed.
flags.DEFINE_integer("seed", 0, "Of the noise.", 0, 2**32 - 1)
flags.DEFINE_integer(
  "batch_size", None, "Images at a time; default: eval.batch_size.", 1
)
flags.DEFINE_integer(
  "fsdp", 1, "Parts to split parameters into that do not fit on a device.", 1
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
  """Lets the flags replace what the config says of sampling."""
  names = ("method", "num_steps", "spacing", "gamma", "guidance_scale")
  for name in names:
    value = flags.FLAGS[name].value
    if value is not None:
      config.sample[name] = value
  if flags.FLAGS.batch_size is not None:
    config.eval.batch_size = flags.FLAGS.batch_size
  interval = flags.FLAGS.guidance_interval
  if interval is not None:
    try:
      low, high = (float(end) for end in interval)
    except ValueError:
      raise ValueError(
        f"--guidance_interval={','.join(interval)} must be two numbers low,high"
      ) from None
    with config.ignore_type():  # None, or a list that JSON made of a tuple
      config.sample.guidance_interval = (low, high)


def load(*, samples: bool = True):
  """What --workdir and the other flags ask for.

  Args:
    samples: whether the caller does; else a sampler that does not fit the
      network is no mistake.

  Returns:
    The run's config with the flags' settings, its programs, the averaged
    parameters, and the step that these are from.

  Raises:
    FileNotFoundError, ValueError: if there is no such run or checkpoint, or a
      flag's value makes no sense for it.
  """
  workdir = flags.FLAGS.workdir
  config = workdir_lib.load_config(workdir)
  override_from_flags(config)
  if not samples:
    config.sample.update(guidance_scale=1.0, gamma=0.0)
  mesh = sharding.make_mesh(
    data=-1, fsdp=flags.FLAGS.fsdp, devices=jax.local_devices()
  )
  programs = programs_lib.make_programs(config, mesh)
  params, step = checkpoints.restore_ema_params(
    workdir, programs.state.ema_params, flags.FLAGS.step
  )
  return config, programs, params, step


def whole_batch(programs, num_images, batch_size):
  """How many images `batches_of_images` makes at a time."""
  return checks.whole_rows(programs.mesh, min(batch_size, num_images))


def batches_of_images(programs, params, *, labels, seed, batch_size):
  """Yields float32 [<= batch_size, H, W, C] in [-1, 1], for each of labels.

  The batch size is rounded up to a multiple of the devices. Of several
  processes each makes its share, or an image that counts for none if there are
  fewer batches than processes: what is made of it has shape and dtype.
  """
  batch_size = whole_batch(programs, len(labels), batch_size)
  starts = range(0, len(labels), batch_size)[shares.mine()] or [len(labels)]
  for start in tqdm.tqdm(starts, unit="batch", disable=jax.process_index() > 0):
    # A last batch that is too long keeps the shape: one compilation.
    indices = start + jnp.arange(batch_size)
    part = jnp.asarray(labels)[jnp.minimum(indices, len(labels) - 1)]
    batch = programs.sample(params, sampler.keys_for(seed, indices), part)
    yield np.asarray(batch)[: max(1, len(labels) - start)]
