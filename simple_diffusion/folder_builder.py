# SPDX-License-Identifier: Apache-2.0
"""The TFDS builder that verifies and stores the images of a folder.

JPEG and PNG files are stored as they are, after being decoded once to see that
they are whole; other formats become PNG of the RGB pixels that `images.decode`
gives.
"""

import collections
import concurrent.futures
import io
import itertools
import os

import PIL.Image
import tensorflow_datasets as tfds

from simple_diffusion import images

_READ_AHEAD = 256  # Files held in memory while their predecessors are written.


class PreparedImages(tfds.core.GeneratorBasedBuilder):
  """Stores what `folder_layout.scan` found; see `folder.prepare`.

  Attributes, filled while generating:
    num_images: number stored, by split and then by class name ("" if none).
    num_converted: number stored, by kind as in `images.conversions`.
    skipped: (path, reason) of every image left out.
  """

  VERSION = tfds.core.Version("1.0.0")

  def __init__(self, found, *, skip_broken, min_size, **kwargs):
    self._found = found
    self._skip_broken = skip_broken
    self._min_size = min_size
    no_images = dict.fromkeys(found.class_names, 0)
    self.num_images = {
      split: collections.Counter(no_images) for split in found.files
    }
    self.num_converted = collections.Counter()
    self.skipped = []
    super().__init__(**kwargs)

  def _info(self):
    features = {"image": tfds.features.Image(shape=(None, None, 3))}
    if self._found.class_names:
      names = list(self._found.class_names)
      features["label"] = tfds.features.ClassLabel(names=names)
    return tfds.core.DatasetInfo(
      builder=self, features=tfds.features.FeaturesDict(features)
    )

  def _split_generators(self, dl_manager):
    del dl_manager  # Nothing is downloaded.
    return {
      split: self._generate_examples(split) for split in self._found.files
    }

  def _generate_examples(self, split):
    files = self._found.files[split]
    for path, encoded, kinds in self._usable(files):
      self.num_converted.update(kinds)
      example = {"image": encoded}
      class_name = ""
      if self._found.class_names:
        example["label"] = class_name = path.split("/")[-2]
      self.num_images[split][class_name] += 1
      yield os.fsencode(path), example
    if not self.num_images[split].total():
      path, reason = self.skipped[-1]
      raise ValueError(
        f"nothing is left of split {split!r}: all {len(files)} images were"
        f" skipped, the last, {path}, because: {reason}; remove the folder of"
        " that split, or mend its images"
      )

  def _usable(self, files):
    """Yields (path, encoded, kinds) of every image that is not skipped."""
    # Pillow decodes outside the interpreter lock: threads work in parallel.
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
      paths = iter(files)
      while ahead := list(itertools.islice(paths, _READ_AHEAD)):
        results = pool.map(self._read_or_reason, ahead)
        for path, (encoded, kinds, reason) in zip(ahead, results, strict=True):
          if reason:
            self.skipped.append((path, reason))
          else:
            yield path, encoded, kinds

  def _read_or_reason(self, path):
    """Returns (encoded, kinds, None), or (None, (), reason) to skip it."""
    try:
      return *_read(self._found.root / path, self._min_size), None
    except ValueError as error:
      if self._skip_broken:
        return None, (), str(error)
      raise ValueError(
        f"{error}; remove it, or leave such images out with --on_broken=skip"
      ) from error


def _read(path, min_size):
  """Reads an image file and decodes it once.

  Returns:
    (encoded, kinds): bytes of a JPEG or PNG file, and `images.conversions`.

  Raises:
    ValueError: the file is broken or smaller than min_size.
  """
  encoded = path.read_bytes()
  pixels = images.decode(encoded, num_channels=3, name=path)
  if min_size is not None and min(pixels.shape[:2]) < min_size:
    raise ValueError(
      f"image {path} is too small: {pixels.shape[1]} x {pixels.shape[0]} pixels"
      f" (width x height), below min_size {min_size}"
    )
  with PIL.Image.open(io.BytesIO(encoded)) as image:
    # MPO is a JPEG with a second picture appended, as some phones write.
    stored_as_it_is = image.format in ("JPEG", "MPO", "PNG")
  kinds = images.conversions(encoded)
  if not stored_as_it_is:
    buffer = io.BytesIO()
    PIL.Image.fromarray(pixels).save(buffer, "PNG")
    encoded = buffer.getvalue()
  return encoded, kinds
