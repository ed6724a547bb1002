# SPDX-License-Identifier: Apache-2.0
"""Measures how likely held-out images are: bits per dimension.

  python -m experiments.likelihood --workdir=runs/digits --bound=vlb
  python -m experiments.likelihood --workdir=runs/digits --bound=ode

vlb: the variational bound in continuous time, or of T steps with --num_steps=T.
ode: the density under the probability flow, of dequantised images; the
value at half the steps is measured as well. Averaged parameters, no guidance;
of the images given their classes, unless --noconditional; in float32 whatever
the run's dtype is. One line is appended to --results. See docs/likelihood.md.
"""

import pathlib

from absl import flags
import jax
import numpy as np
import tqdm

from experiments import checks
from experiments import cli
from experiments import generate
from experiments import image_hash
from experiments import records
from experiments import workdir as workdir_lib
from simple_diffusion import build
from simple_diffusion import data
from simple_diffusion import greys
from simple_diffusion import likelihood
from simple_diffusion import sampler
from simple_diffusion import sharding

_BOUND = flags.DEFINE_enum("bound", None, ("vlb", "ode"), "Which bound.")
_NUM_EXAMPLES = flags.DEFINE_integer(
  "num_examples", None, "The first so many of the split; default: all.", 1
)
_NUM_LEVELS = flags.DEFINE_integer(
  "num_levels", None, "Greys of the data; default: 17 of digits, else 256.", 2
)
_LOGSNR_END = flags.DEFINE_float(
  "logsnr_end",
  None,
  "log-SNR of z_0; default: where noise is a sixth of the distance of greys.",
)
_NUM_SAMPLES = flags.DEFINE_integer(
  "num_samples", 128, "Noise levels for each image, of vlb.", 1
)
_CLIP = flags.DEFINE_bool(
  "clip", None, "Whether vlb clips x_hat; default: as the config's sampler."
)
_NUM_PROBES = flags.DEFINE_integer(
  "num_probes", 1, "Random signs for the trace, of ode; 0: the exact trace.", 0
)
_DEQUANTISATION = flags.DEFINE_enum(
  "dequantisation",
  "uniform",
  likelihood.DEQUANTISATIONS,
  "What is added to the greys, of ode.",
)
_CONDITIONAL = flags.DEFINE_bool(
  "conditional", True, "Whether the network is told the image's class."
)
_SPLIT = flags.DEFINE_string(
  "split", None, "Held-out split; default: data.eval_split of the config."
)
_DATA_DIR = flags.DEFINE_string(
  "data_dir", None, "Where the data lies now; default: as in the config."
)
_RESULTS = flags.DEFINE_string(
  "results", "experiments/results/likelihood.jsonl", "File to append to."
)
flags.adopt_module_key_flags(generate)  # for --help

# Flags that mean nothing to anything else.
ONLY_FOR = {
  "samplers": ("method", "gamma", "guidance_scale", "guidance_interval"),
  "--bound=vlb": ("num_samples", "spacing", "clip"),
  "--bound=ode": ("num_probes", "dequantisation"),
}

# scikit-learn's digits have 0..16; all else that is read has 8 bits.
NUM_LEVELS = {"digits": 17}


def check_flags():
  """Raises ValueError if a flag was given that means nothing here."""
  bound = f"--bound={_BOUND.value}"
  for what, names in ONLY_FOR.items():
    for name in names:
      if what != bound and flags.FLAGS[name].present:
        raise ValueError(
          f"--{name} is for {what}; leave it out of {bound}, which ignores it"
        )


def protocol_from_flags(config, schedule):
  """What is measured how, in the words of the record.

  Raises:
    ValueError: with --noconditional, if the network was only trained with
      classes.
  """
  has_classes = config.model.num_classes > 0
  conditional = _CONDITIONAL.value and has_classes
  if has_classes and not conditional and not config.train.label_dropout:
    raise ValueError(
      "--noconditional needs a network that was also trained without classes, "
      "and train.label_dropout is 0; leave it out"
    )
  num_levels = _NUM_LEVELS.value or NUM_LEVELS.get(config.data.name, 256)
  end = _LOGSNR_END.value
  if end is None:
    end = likelihood.default_logsnr_end(num_levels)
    end = min(end, float(schedule.logsnr(0.0)))
  protocol = {
    "bound": _BOUND.value,
    "num_levels": num_levels,
    "logsnr_end": end,
    "conditional": conditional,
    "seed": flags.FLAGS.seed,
  }
  num_steps = flags.FLAGS.num_steps
  if _BOUND.value == "vlb":
    return protocol | {
      "num_steps": num_steps,  # None: continuous time
      "num_samples": _NUM_SAMPLES.value,
      "spacing": flags.FLAGS.spacing or "logsnr",
      "clip": config.sample.clip if _CLIP.value is None else _CLIP.value,
    }
  return protocol | {
    "num_steps": num_steps or 32,
    "num_probes": _NUM_PROBES.value or None,  # None: the exact trace
    "dequantisation": _DEQUANTISATION.value,
  }


def make_bits_fn(config, mesh, protocol):
  """bits_fn(params, keys, images, labels) -> {name: [B]}, compiled."""
  schedule = likelihood.ending_at(
    build.make_schedule(config), protocol["logsnr_end"]
  )
  # bfloat16 has steps of 1/256 between a half and one, three times the noise at
  # the data end of 256 greys: no network would see it. Nor would it through
  # products of rounded factors, which accelerators make of float32.
  network = build.make_network({**config.model, "dtype": "float32"})

  def bits_fn(params, keys, x, labels):
    def predict_fn(z, logsnr, labels):
      with jax.default_matmul_precision("highest"):
        return network.apply({"params": params}, z, logsnr, labels)

    options = dict(
      predict_fn=predict_fn,
      schedule=schedule,
      prediction=config.objective.prediction,
      num_levels=protocol["num_levels"],
    )
    num_steps = protocol["num_steps"]
    if protocol["bound"] == "vlb":
      parts = likelihood.variational_bits(
        keys,
        x,
        labels,
        num_steps=num_steps,
        num_samples=protocol["num_samples"],
        spacing=protocol["spacing"],
        clip=protocol["clip"],
        **options,
      )
      return {"bits_per_dim": sum(parts), **parts._asdict()}
    options |= {k: protocol[k] for k in ("num_probes", "dequantisation")}
    whole, half = (
      likelihood.flow_bits(keys, x, labels, num_steps=steps, **options)
      for steps in (num_steps, max(1, num_steps // 2))
    )
    return {"bits_per_dim": whole, "at_half_the_steps": half}

  by_example = sharding.by_example(mesh)
  return jax.jit(
    sharding.traced_on(mesh, bits_fn),
    in_shardings=(None, by_example, by_example, by_example),
  )


def measure(config, mesh, params, source, protocol):
  """{name: [N] float64} of the first images of a source, and their hash.

  Image i of a seed meets the same noise whatever the batch.
  """
  count = min(_NUM_EXAMPLES.value or len(source), len(source))
  batch_size = checks.whole_rows(mesh, min(config.eval.batch_size, count))
  stream = build.make_eval_stream(config, source, batch_size)
  bits_fn = make_bits_fn(config, mesh, protocol)
  parts, digests = [], []
  for start in tqdm.trange(0, count, batch_size, unit="batch"):
    batch = stream[start // batch_size]
    digests.append(image_hash.digests(batch["image"]))
    labels = batch["label"]
    if not protocol["conditional"]:
      labels = np.full_like(labels, config.model.num_classes)
    bits = bits_fn(
      params,
      sampler.keys_for(protocol["seed"], start + np.arange(batch_size)),
      greys.on_grid(batch["image"], num_levels=protocol["num_levels"]),
      labels,
    )
    parts.append(jax.device_get(bits))
  bits = {
    name: np.concatenate([np.float64(part[name]) for part in parts])[:count]
    for name in parts[0]
  }
  return bits, image_hash.combined(np.concatenate(digests)[:count])


def summary(bits):
  """Means over the images, and their standard errors."""
  count = len(bits["bits_per_dim"])
  means = {name: float(values.mean()) for name, values in bits.items()}
  errors = {
    name: float(values.std(ddof=1) / np.sqrt(count)) if count > 1 else None
    for name, values in bits.items()
  }
  return {"num_examples": count, **means, "standard_errors": errors}


def main(_):
  with cli.user_errors():
    check_flags()
    config, programs, params, step = generate.load(samples=False)
    protocol = protocol_from_flags(config, build.make_schedule(config))
    split = _SPLIT.value or config.data.eval_split
    source = data.make_source(
      name=config.data.name,
      split=split,
      data_dir=_DATA_DIR.value or config.data.data_dir,
    )
    results = pathlib.Path(_RESULTS.value)
    # Now, so that a folder that can't be made is an error before the work.
    results.parent.mkdir(parents=True, exist_ok=True)
    print(f"protocol: {protocol}")
    bits, images_hash = measure(config, programs.mesh, params, source, protocol)
    found = summary(bits)

  for name, error in found["standard_errors"].items():
    print(f"{name}: {found[name]:.4f}, standard error {error}")
  records.append_result(
    results,
    {
      # Without the flags, which are in the protocol.
      "config": workdir_lib.as_json(
        workdir_lib.load_config(flags.FLAGS.workdir)
      ),
      "checkpoint_step": step,
      "ema_decay": config.train.ema_decay,
      "split": split,
      "images_hash": images_hash,
      "protocol": protocol,
      **found,
      "environment": workdir_lib.environment(),
    },
  )
  print(f"appended to {results}")


if __name__ == "__main__":
  flags.mark_flags_as_required(["workdir", "bound"])
  cli.run(main)
