# SPDX-License-Identifier: Apache-2.0
"""Measures a checkpoint and appends the numbers, with their protocol.

  python -m experiments.evaluate --workdir=runs/digits

  python -m experiments.evaluate --workdir=runs/flowers \
    --feature_network=mobilenet_v2 --feature_weights=weights.npz

On any data: the held-out loss by bin of log-SNR, with the averaged parameters;
and, with a feature network, distances of samples to training and held-out
images, see `sample_quality` and docs/metrics.md. On digits a classifier of
digits is that network, see `digits_quality`. One line is appended to --results,
from which scripts.tables makes tables.

With --distributed it is one of several processes that share the batches out,
see `shares`, and find what one process finds, up to rounding, if the batch size
is a multiple of each one's devices: the noise of the held-out loss depends on
it. Each has a copy of the parameters on its own devices; workdir, data and
weights must be there for all of them. That the images are the same is checked
by a hash with a feature network, else only that they are as many.
"""

import contextlib
import pathlib

from absl import flags
import jax
import numpy as np

from experiments import cli
from experiments import generate
from experiments import grids
from experiments import held_out_loss
from experiments import labels as labels_lib
from experiments import processes
from experiments import records
from experiments import references
from experiments import sample_quality
from experiments import shares
from experiments import workdir as workdir_lib
from simple_diffusion import data
from simple_diffusion import features
from simple_diffusion import images

_RESULTS = flags.DEFINE_string(
  "results",
  None,
  "File to append to; default: experiments/results/<data set>.jsonl.",
)

_SPLIT = flags.DEFINE_string(
  "split", None, "Held-out split; default: data.eval_split of the config."
)
_DATA_DIR = flags.DEFINE_string(
  "data_dir", None, "Where the data lies now; default: as in the config."
)

_FEATURE_NETWORK = flags.DEFINE_enum(
  "feature_network",
  None,
  sorted(features.NETWORKS),
  "Network to compare samples and images by.",
)
_FEATURE_WEIGHTS = flags.DEFINE_string(
  "feature_weights", None, "File of its weights; see docs/metrics.md."
)
_NUM_SAMPLES = flags.DEFINE_integer(
  "num_samples", None, "Samples to measure; default: eval.num_samples.", 1
)
_GRID = flags.DEFINE_string(
  "grid",
  None,
  ".png or .jpg to draw the first samples into, a column a class for as long "
  f"as each has some; of more than {grids.MAX_CLASS_COLUMNS} classes ten "
  "columns.",
)
for _module in (generate, processes):  # for --help
  flags.adopt_module_key_flags(_module)


def images_and_labels(config, source):
  """All of a small source: float32 [N, H, W, C] in [-1, 1] and labels [N]."""
  stream = data.make_eval_stream(
    source,
    batch_size=len(source),
    image_size=config.data.image_size,
    num_channels=config.data.num_channels,
  )
  return stream[0]["image"], stream[0]["label"]


def sampler_record(config, seed, *, labels: str) -> dict:
  """How samples are made.

  A guided network evaluation, which asks twice, counts as one.
  """
  heun = config.sample.method == "heun"
  return {
    "num_samples": config.eval.num_samples,
    "seed": seed,
    "labels": labels if config.model.num_classes else "ignored",
    "num_network_evaluations": config.sample.num_steps * (1 + heun) - heun,
    **config.sample.to_dict(),
  }


def digits_record(config, labels, samples, sources):
  """Quality of samples of digits [N, 8, 8, 1] in [-1, 1], and [N] labels."""
  from experiments import digits_quality  # Only digits need scikit-learn.

  quality = digits_quality.measure(
    samples,
    labels,
    images_and_labels(config, sources["train"]),
    images_and_labels(config, sources["held_out"]),
  )
  if not config.model.num_classes:
    del quality["class_agreement"]  # No class was asked for.
  return quality


def load_features(config):
  """The feature network that the flags name, or None.

  Raises:
    ValueError: if the flags, or what they ask for, do not fit.
  """
  if (_FEATURE_NETWORK.value is None) != (_FEATURE_WEIGHTS.value is None):
    raise ValueError(
      f"--feature_network={_FEATURE_NETWORK.value} and --feature_weights="
      f"{_FEATURE_WEIGHTS.value}: give both, or neither to measure only the "
      "held-out loss"
    )
  if _GRID.value:
    grids.checked_path(_GRID.value)
  is_digits = config.data.name == "digits"
  sampled = is_digits or _FEATURE_NETWORK.value
  if sampled and config.eval.num_samples < sample_quality.MIN_IMAGES:
    raise ValueError(
      f"num_samples={config.eval.num_samples} must be at least "
      f"{sample_quality.MIN_IMAGES}"
    )
  if _FEATURE_NETWORK.value is None:
    for flag in (_GRID, _NUM_SAMPLES):
      if flag.value is not None and not is_digits:
        raise ValueError(
          f"--{flag.name}={flag.value}: nothing is sampled without "
          "--feature_network; python -m experiments.sample draws grids"
        )
    return None
  if is_digits or config.data.num_channels != 3:
    raise ValueError(
      f"--feature_network={_FEATURE_NETWORK.value} is for RGB images, and "
      f"{config.data.name} has {config.data.num_channels} channel(s)"
      + ("; digits are measured without flags" if is_digits else "")
    )
  return features.load(_FEATURE_NETWORK.value, _FEATURE_WEIGHTS.value)


def with_grid(batches, path: str | None, num_columns: int, num_rows: int = 5):
  """Passes batches in [-1, 1] on; the first images are also drawn."""
  for i, batch in enumerate(batches):
    if path and not i and processes.is_first():
      first = images.to_uint8(batch[: num_rows * num_columns])
      grids.save_grid(pathlib.Path(path), first, num_columns=num_columns)
    yield batch


def samples_record(config, programs, params, network, sources, seed) -> dict:
  """Makes samples and measures them; with a network, by its features."""
  num_classes, num_samples = config.model.num_classes, config.eval.num_samples
  labels, asked = labels_lib.in_turn(num_samples, num_classes), "in turn"
  if network:
    real = {
      role: references.load(
        network, config, source, batch_size=config.eval.batch_size
      )
      for role, source in sources.items()
    }
    of_train = real["train"].labels
    if num_classes and (of_train >= 0).any():
      labels = labels_lib.in_proportion(num_samples, of_train)
      asked = "in the proportions of train"
  batch_size = config.eval.batch_size
  batches = generate.batches_of_images(
    programs, params, labels=labels, seed=seed, batch_size=batch_size
  )
  batches = with_grid(batches, _GRID.value, grids.columns_of(num_classes))
  own = shares.indices(
    num_samples, generate.whole_batch(programs, num_samples, batch_size)
  )
  # Every process measures all: the others would only wait for the first.
  if network:
    found = features.extract(network, map(images.to_uint8, batches))
    found = features.Features(*shares.gather(own, found))
    quality = sample_quality.measure(network, found, **real)
  else:
    samples = shares.gather(own, np.concatenate(list(batches)))
    quality = digits_record(config, labels, samples, sources)
  return sampler_record(config, seed, labels=asked) | quality


def agree(config, step, network, splits, sources):
  """Ends all processes if one would measure something else than the first."""
  with processes.same_fate():
    processes.require_same(
      config=workdir_lib.as_json(config),
      checkpoint_step=step,
      seed=flags.FLAGS.seed,
      features=network and [network.name, network.weights_hash],
      splits=splits,
      num_images={role: len(source) for role, source in sources.items()},
      fsdp=flags.FLAGS.fsdp,
      git_commit=workdir_lib.git_sha(),
      jax=jax.__version__,
    )


def evaluate():
  """Measures what the flags say, as one of the processes or the only one."""
  seed = flags.FLAGS.seed
  say = print if processes.is_first() else lambda text: None
  with processes.same_fate():
    config, programs, params, step = generate.load()
    if _NUM_SAMPLES.value is not None:
      config.eval.num_samples = _NUM_SAMPLES.value
    network = load_features(config)
    splits = {
      "train": config.data.split,
      "held_out": _SPLIT.value or config.data.eval_split,
    }
    sources = {
      role: data.make_source(
        name=config.data.name,
        split=split,
        data_dir=_DATA_DIR.value or config.data.data_dir,
      )
      for role, split in splits.items()
    }
    workdir_lib.require_images(
      pathlib.Path(flags.FLAGS.workdir), config, len(sources["train"])
    )
    if network and len(sources["held_out"]) < sample_quality.MIN_IMAGES:
      raise ValueError(
        f"split {splits['held_out']!r} has {len(sources['held_out'])} images; "
        f"distances need at least {sample_quality.MIN_IMAGES}: choose another "
        "with --split"
      )
    results = pathlib.Path(
      _RESULTS.value or f"experiments/results/{config.data.name}.jsonl"
    )
    # Now, so that a folder that can't be made is an error before the work.
    if processes.is_first():
      results.parent.mkdir(parents=True, exist_ok=True)
  agree(config, step, network, splits, sources)

  bins, held_out_hash = held_out_loss.measure(
    config, programs, params, sources["held_out"], seed=seed
  )
  for row in bins:
    say(
      "log-SNR {:6.2f} to {:6.2f}: eps-MSE {:.4f}, v-MSE {:.4f}".format(
        *row["logsnr"], row["eps_mse"], row["v_mse"]
      )
    )
  record = {
    "config": workdir_lib.as_json(config),
    "checkpoint_step": step,
    "ema_decay": config.train.ema_decay,
    "held_out_split": splits["held_out"],
    "num_held_out": len(sources["held_out"]),
    "held_out_hash": held_out_hash,
    "seed": seed,
    "held_out_loss": bins,
  }
  if config.data.name == "digits" or network:
    record["samples"] = samples_record(
      config, programs, params, network, sources, seed
    )
    for name, value in record["samples"].items():
      say(f"{name}: {value}")
  if processes.is_first():
    if _GRID.value:
      grid = pathlib.Path(_GRID.value)
      # Of which samples a picture is, wherever it is copied to.
      record["grid"] = {"name": grid.name, "hash": features.file_hash(grid)}
    record["environment"] = workdir_lib.environment()
    records.append_result(results, record)
  say(f"appended to {results}")


def main(_):
  with contextlib.ExitStack() as stack:
    with cli.user_errors():
      stack.enter_context(processes.joined())
    evaluate()


if __name__ == "__main__":
  flags.mark_flags_as_required(["workdir"])
  cli.run(main, on_bad_flags=processes.tell_of_bad_flags)
