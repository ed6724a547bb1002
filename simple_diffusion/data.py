# SPDX-License-Identifier: Apache-2.0
"""Batches as a pure function of (seed, step).

Position p = step * batch_size + row numbers the examples of a run. With n
examples in the data set, position p shows example permutation[e][p mod n] of
epoch e = floor(p / n), so every epoch shows each example once and batches
straddle epochs. What is random comes from Philox, a counter-based generator,
whose stream NumPy promises never to change:

  permutation of epoch e    key (seed, 0), counter (0.., e)
  flip of position p        key (seed, 1), counter (p, 0)
  crop of position p        key (seed, 2), counter (0.., p)

Hence nothing of the data needs a checkpoint: a run resumes at stream[step].
Each of several processes loads the rows of its own devices
(`sharding.local_rows`), which together are the same batch, pixel for pixel,
however many there are.
"""

import functools

import grain
import numpy as np

from simple_diffusion import batches
from simple_diffusion import images
from simple_diffusion import sources

_SHUFFLE, _FLIP, _CROP = range(3)  # Second word of the Philox key.

_ENDLESS = 2**40  # Steps; Grain wants a length.


def make_source(*, name, split, data_dir=None):
  """Opens one split of a data set; never downloads.

  Args:
    name: "digits" (bundled with scikit-learn), "folder" (prepared from your
      own images by scripts.prepare_images), or the name of a TFDS data set.
    split: "train", "test" ..., or a slice such as "train[:95%]".
    data_dir: for "folder" the prepared folder, for TFDS where its data sets
      lie (None: its default); unused by "digits".

  Returns:
    A `sources.Source`.

  Raises:
    FileNotFoundError: not prepared in data_dir; says how to.
    ValueError: data_dir is an address, unknown split, or a data set that has
      no images.
  """
  if name == "digits":
    return sources.digits(split)
  check_data_dir(data_dir)
  # TFDS takes a while to import and "digits" can do without.
  from simple_diffusion import prepared_sources

  if name == "folder":
    return prepared_sources.folder(split, data_dir=data_dir)
  return prepared_sources.tfds_named(name, split, data_dir=data_dir)


def check_data_dir(data_dir):
  """Raises ValueError for an address such as gs://bucket/tfds."""
  if data_dir is not None and "://" in str(data_dir):
    raise ValueError(
      f"data_dir {data_dir} must be a folder, since data sets are read as"
      " files: mount the bucket, e.g. with gcsfuse, and give the folder there"
      " (on the TPU workers of a sweep, the bucket of --root is at /mnt/sweep)"
    )


def make_stream(
  source,
  *,
  seed,
  batch_size,
  image_size,
  num_channels,
  crop="center",
  random_flip=False,
  rows=None,
):
  """Shuffled training batches without end.

  Args:
    source: sequence of {"image", "label"}, such as `make_source` returns.
    seed: 0 <= seed < 2**64.
    batch_size: B, of the whole batch.
    image_size: side in pixels, or (height, width).
    num_channels: C, 1 or 3.
    crop: "center", "random" or "squash"; see `images.resize_and_crop`.
    random_flip: whether to mirror left and right with probability 1/2.
    rows: int64 [R] in order, which rows of the batch to load; None for all.

  Returns:
    A grain.MapDataset: stream[step] is {"image": float32 [R, H, W, C] in
    [-1, 1], "label": int32 [R]}.

  Raises:
    ValueError: B is not positive, an option is unknown, or the source is
      empty. Reading raises ValueError, naming the example, if it is broken or
      smaller than image_size.
  """
  if not 0 <= seed < 2**64:
    raise ValueError(f"seed {seed} is not within 0..2**64-1")
  images.check_crop(crop)
  rows = _rows(batch_size) if rows is None else rows
  num_examples = _num_examples(source)

  @functools.lru_cache(maxsize=2)  # A batch may straddle two epochs.
  def permutation(epoch):
    words = _philox(seed, _SHUFFLE, [0, epoch]).random_raw(num_examples)
    return np.argsort(words, kind="stable")

  def batch_at(step):
    positions = step * batch_size + rows
    epochs, offsets = np.divmod(positions, num_examples)
    indices = np.empty_like(positions)
    for epoch in np.unique(epochs):
      now = epochs == epoch
      indices[now] = permutation(int(epoch))[offsets[now]]
    np_rngs = [None] * len(positions)
    if crop == "random":
      np_rngs = [
        np.random.Generator(_philox(seed, _CROP, [0, position]))
        for position in positions
      ]
    pixels, labels = batches.load(
      source,
      indices,
      np_rngs=np_rngs,
      image_size=image_size,
      num_channels=num_channels,
      crop=crop,
    )
    if random_flip:
      # One count of Philox is four words; positions are counts.
      counts = positions - positions[0]
      words = _philox(seed, _FLIP, [positions[0], 0])
      words = words.random_raw(int(4 * (counts[-1] + 1)))
      flip = words[4 * counts] >> np.uint64(63) == 1  # [R]
      pixels = images.random_flip(pixels, flip)
    return {"image": images.to_float(pixels), "label": labels}

  return grain.MapDataset.range(_ENDLESS).map(batch_at)


def _rows(batch_size):
  """All of a batch, int64 [B]."""
  if batch_size < 1:
    raise ValueError(f"batch_size {batch_size} must be at least 1")
  return np.arange(batch_size)


def make_eval_stream(
  source,
  *,
  batch_size,
  image_size,
  num_channels,
  crop="center",
):
  """One pass over a source in order, in ceil(n / B) batches of equal size.

  The last batch repeats the last example to keep its shape, which compiled
  functions and sharding need; "mask" is False there, and averages must be
  weighted with it to count each example once.

  Args:
    As for `make_stream`, but crop is "center" or "squash".

  Returns:
    A grain.MapDataset of {"image": float32 [B, H, W, C] in [-1, 1],
    "label": int32 [B], "mask": bool [B]}.

  Raises:
    ValueError: as for `make_stream`, or crop is "random".
  """
  images.check_crop(crop)
  if crop == "random":
    raise ValueError('crop "random" is for training; use "center" or "squash"')
  rows = _rows(batch_size)
  num_examples = _num_examples(source)

  def batch_at(step):
    positions = step * batch_size + rows
    pixels, labels = batches.load(
      source,
      np.minimum(positions, num_examples - 1),
      np_rngs=[None] * len(positions),
      image_size=image_size,
      num_channels=num_channels,
      crop=crop,
    )
    return {
      "image": images.to_float(pixels),
      "label": labels,
      "mask": positions < num_examples,
    }

  num_batches = -(-num_examples // batch_size)
  return grain.MapDataset.range(num_batches).map(batch_at)


def iterate(stream, *, start_step=0, num_threads=1, num_prefetched=4):
  """Iterates over stream[start_step], stream[start_step + 1], ... ahead of use.

  Args:
    stream: from `make_stream` or `make_eval_stream`.
    start_step: first step, so that a resumed run sees what it would have seen.
    num_threads: threads that load batches. Decoding JPEG or PNG scales with
      them; 1 is enough for small arrays.
    num_prefetched: batches kept ready, in host memory.

  Returns:
    An iterator of batches.
  """
  options = grain.ReadOptions(
    num_threads=num_threads,
    prefetch_buffer_size=max(num_prefetched, num_threads),
  )
  iterator = iter(stream.to_iter_dataset(options))
  grain.experimental.set_next_index(iterator, start_step)
  return iterator


def _num_examples(source):
  if not len(source):
    raise ValueError(f"{source.name} split {source.split!r} has no examples")
  return len(source)


def _philox(seed, purpose, counter):
  """Returns a bit generator; drawing counts up the first word of counter."""
  return np.random.Philox(
    key=np.array([seed, purpose], np.uint64),
    counter=np.array([*counter, 0, 0], np.uint64),
  )
