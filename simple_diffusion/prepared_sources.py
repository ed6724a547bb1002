# SPDX-License-Identifier: Apache-2.0
"""Data sets on disk in the format of TFDS, read without TensorFlow.

`folder` reads what `folder.prepare` wrote, `tfds_named` any TFDS data set that
was prepared with file_format="array_record". Nothing here downloads.
"""

import difflib

from etils import epath
import tensorflow_datasets as tfds

from simple_diffusion import sources


def folder(split, *, data_dir):
  """A folder of images that `folder.prepare` wrote to data_dir.

  Raises:
    FileNotFoundError: data_dir holds no prepared data set.
    ValueError: data_dir is None, or the split is unknown.
  """
  if data_dir is None:
    raise ValueError(
      'data set "folder" needs data_dir, the folder given as --out to'
      " scripts.prepare_images"
    )
  if not (epath.Path(data_dir) / "dataset_info.json").exists():
    raise FileNotFoundError(
      f'data set "folder": no prepared images in data_dir {data_dir}; prepare'
      " a folder of images once with python -m scripts.prepare_images"
      f" --images=/photos --out={data_dir}"
    )
  builder = tfds.builder_from_directory(data_dir)
  return _from_builder(builder, name=f"folder {data_dir}", split=split)


def tfds_named(name, split, *, data_dir=None):
  """A TFDS data set prepared below data_dir, by its TFDS name.

  Args:
    name: "cifar10", "imagenet_resized/64x64", "my_set/config:1.2.0" ...
    split: TFDS split, such as "train" or "train[:95%]".
    data_dir: where TFDS keeps data sets; None for TFDS' default.

  Raises:
    FileNotFoundError: no such data set is prepared there.
    ValueError: unknown split, no image feature, or no random access.
  """
  try:
    # From the files alone: neither code of the data set nor network.
    builder = tfds.core.read_only_builder.builder_from_files(
      name, data_dir=data_dir
    )
  except (tfds.core.DatasetNotFoundError, FileNotFoundError) as error:
    raise FileNotFoundError(_missing(name, data_dir)) from error
  return _from_builder(builder, name=name, split=split)


def _missing(name, data_dir):
  """Returns the message for a data set that is not prepared."""
  known = tfds.list_builders(with_community_datasets=False)
  searched = data_dir or tfds.core.constants.DATA_DIR
  base = name.split("/")[0].split(":")[0]
  message = f"data set {name!r} is not prepared in data_dir {searched}"
  below = epath.Path(searched) / base
  if below.is_dir():
    found = ", ".join(sorted(f"{base}/{path.name}" for path in below.iterdir()))
    message += f", which holds {found or 'nothing'}"
  elif base not in known:
    similar = difflib.get_close_matches(base, ["digits", "folder", *known], n=3)
    hint = f" (similar: {', '.join(similar)})" if similar else ""
    return (
      f"{message}, and TFDS knows no data set of that name{hint}; for your own"
      ' images use the name "folder" after python -m scripts.prepare_images'
    )
  return (
    f"{message}; nothing is downloaded while training: prepare it once with"
    f" tfds build {name} --file_format=array_record --data_dir={searched}"
    " (most data sets need tensorflow-cpu for that)"
  )


def _from_builder(builder, *, name, split):
  """Returns the Source of a prepared TFDS builder.

  The image is the first feature of type Image, the class the first of type
  ClassLabel, if there is one. Images stay encoded.
  """
  features = builder.info.features
  image_keys = _keys_of_type(features, tfds.features.Image)
  if not image_keys:
    raise ValueError(f"{name} has no image among its features {list(features)}")
  if not builder.info.splits:
    raise FileNotFoundError(f"{name} is only half prepared: prepare it again")
  lengths = {
    key: info.num_examples for key, info in builder.info.splits.items()
  }
  sources.split_ranges(split, lengths)  # TFDS' own errors are less plain.
  try:
    examples = builder.as_data_source(
      split, decoders={image_keys[0]: tfds.decode.SkipDecoding()}
    )
  except NotImplementedError as error:
    file_format = builder.info.file_format.value
    raise ValueError(
      f"{name} was prepared as {file_format}, which has no random access;"
      " prepare it again with --file_format=array_record"
    ) from error
  label_key = next(
    iter(_keys_of_type(features, tfds.features.ClassLabel)), None
  )
  label = features[label_key] if label_key else None
  return sources.Source(
    name=name,
    split=split,
    examples=examples,
    image_key=image_keys[0],
    label_key=label_key,
    num_classes=label.num_classes if label else 0,
    class_names=tuple(label.names) if label else None,
  )


def _keys_of_type(features, feature_type):
  return [key for key, value in features.items() if type(value) is feature_type]
