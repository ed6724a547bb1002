# SPDX-License-Identifier: Apache-2.0
"""Sources, and the stream as a pure function of (seed, step)."""

import io
import itertools
import time

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from simple_diffusion import data
from simple_diffusion import decoded
from simple_diffusion import folder
from simple_diffusion import images
from simple_diffusion import sources

DIGITS = {"image_size": 8, "num_channels": 1}


class TinyPhotos(tfds.core.GeneratorBasedBuilder):
  """Ten 12 x 9 PNGs whose level tells them apart; label after other keys."""

  VERSION = tfds.core.Version("1.2.0")

  def _info(self):
    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(
        {
          "caption": tfds.features.Text(),
          "photo": tfds.features.Image(shape=(None, None, 3)),
          "species": tfds.features.ClassLabel(names=["oak", "elm"]),
        }
      ),
    )

  def _split_generators(self, dl_manager):
    return {"train": self._generate_examples()}

  def _generate_examples(self):
    for i in range(10):
      buffer = io.BytesIO()
      PIL.Image.new("RGB", (12, 9), (20 * i,) * 3).save(buffer, "PNG")
      yield (
        i,
        {"caption": f"{i}", "photo": buffer.getvalue(), "species": i % 2},
      )


@pytest.fixture(scope="module")
def tfds_dir(tmp_path_factory):
  tfds.disable_progress_bar()
  data_dir = tmp_path_factory.mktemp("tfds")
  TinyPhotos(
    data_dir=data_dir, file_format="array_record"
  ).download_and_prepare()
  return data_dir


@pytest.fixture(scope="module")
def folder_dir(tmp_path_factory):
  """Twelve noise images of 20 x 16 in two classes, prepared."""
  tfds.disable_progress_bar()
  path = tmp_path_factory.mktemp("folder")
  np_rng = np.random.default_rng(0)
  for name in ("cat", "dog"):
    (path / "in" / name).mkdir(parents=True)
    for i in range(6):
      pixels = np_rng.integers(256, size=(16, 20, 3), dtype=np.uint8)
      PIL.Image.fromarray(pixels).save(path / "in" / name / f"{i}.png")
  folder.prepare(path / "in", path / "out")
  return path / "out"


def list_source(num_examples):
  """A source whose image i is one pixel of level i and whose label is i."""
  examples = [
    {"image": np.full((1, 1, 1), i, np.uint8), "label": i}
    for i in range(num_examples)
  ]
  return sources.Source(
    "list", "train", examples, "image", "label", num_examples, None
  )


def pixel_stream(num_examples, **options):
  return data.make_stream(
    list_source(num_examples), image_size=1, num_channels=1, **options
  )


def labels_of(batches):
  return np.concatenate([batch["label"] for batch in batches])


def assert_same_batch(one, other):
  assert one.keys() == other.keys()
  for key in one:
    np.testing.assert_array_equal(one[key], other[key])


# --- Sources -----------------------------------------------------------------


def test_digits_are_scaled_and_split_by_class():
  train = data.make_source(name="digits", split="train")
  test = data.make_source(name="digits", split="test")
  assert len(train) == 1438 and len(test) == 359
  assert train.num_classes == 10 and train.class_names[3] == "3"
  from sklearn import datasets

  pixels, labels = datasets.load_digits(return_X_y=True)
  halves = [
    np.stack([source[i]["image"] for i in range(len(source))])
    for source in (train, test)
  ]
  assert halves[0].shape[1:] == (8, 8, 1) and halves[0].dtype == np.uint8
  # Together they are all of it, each image once, at 255 / 16 per grey.
  together = np.concatenate(halves).reshape(-1, 64)
  greys = np.rint(together * (16 / 255)).astype(int)
  assert sorted(greys.tolist()) == sorted(pixels.astype(int).tolist())
  np.testing.assert_allclose(together, greys * (255 / 16), atol=0.5)
  counts = np.bincount([test[i]["label"] for i in range(len(test))])
  np.testing.assert_allclose(counts, np.bincount(labels) / 5, atol=0.5)


def test_slices_of_digits():
  whole = data.make_source(name="digits", split="train")
  head = data.make_source(name="digits", split="train[:95%]")
  tail = data.make_source(name="digits", split="train[95%:]")
  assert len(head) == round(0.95 * 1438) and len(head) + len(tail) == 1438
  np.testing.assert_array_equal(tail[0]["image"], whole[len(head)]["image"])


def test_folder_source(folder_dir):
  source = data.make_source(name="folder", split="train", data_dir=folder_dir)
  assert len(source) == 12 and source.class_names == ("cat", "dog")
  assert isinstance(source[0]["image"], bytes)
  assert sorted(source[i]["label"] for i in range(12)) == [0] * 6 + [1] * 6
  part = data.make_source(
    name="folder", split="train[:75%]", data_dir=folder_dir
  )
  assert len(part) == 9


def test_folder_without_classes(tmp_path):
  tfds.disable_progress_bar()
  (tmp_path / "in").mkdir()
  PIL.Image.new("L", (4, 4)).save(tmp_path / "in/a.png")
  folder.prepare(tmp_path / "in", tmp_path / "out")
  source = data.make_source(
    name="folder", split="train", data_dir=tmp_path / "out"
  )
  assert source.num_classes == 0 and source.class_names is None
  assert source[0]["label"] == 0


def test_tfds_source_by_name(tfds_dir):
  for name in ["tiny_photos", "tiny_photos:1.2.0"]:
    source = data.make_source(name=name, split="train", data_dir=tfds_dir)
    assert len(source) == 10 and source.class_names == ("oak", "elm")
  stream = data.make_eval_stream(
    source, batch_size=10, image_size=8, num_channels=3
  )
  batch = stream[0]
  levels = images.to_uint8(batch["image"]).astype(int)
  assert (levels == levels[:, :1, :1, :1]).all()
  numbers = levels[:, 0, 0, 0] // 20
  assert sorted(numbers) == list(range(10))
  np.testing.assert_array_equal(batch["label"], numbers % 2)
  part = data.make_source(
    name="tiny_photos", split="train[:30%]", data_dir=tfds_dir
  )
  assert len(part) == 3


def test_a_slice_of_nothing(folder_dir):
  for name, message in (
    ("digits", "train has 1,438, test has"),
    ("folder", ""),
  ):
    with pytest.raises(ValueError, match=rf"no image \({message}"):
      data.make_source(name=name, split="train[:0]", data_dir=folder_dir)


@pytest.mark.parametrize(
  "name, split",
  [("digits", "valid"), ("folder", "valid"), ("tiny_photos", "train[:x]")],
)
def test_unknown_split_lists_splits(name, split, tfds_dir, folder_dir):
  data_dir = folder_dir if name == "folder" else tfds_dir
  with pytest.raises(ValueError, match="unknown split .*; available are train"):
    data.make_source(name=name, split=split, data_dir=data_dir)


@pytest.mark.parametrize(
  "name, message",
  [
    ("cifar10", "'cifar10' .* data_dir {}.*tfds build cifar10 .*array_record"),
    ("cifra10", "'cifra10' .* data_dir {}.*similar: cifar10"),
    ("imagenet_resized/64x64", "tfds build imagenet_resized/64x64"),
    ("tiny_photos:9.9.9", "which holds tiny_photos/1.2.0"),
    ("folder", "data_dir {}.*scripts.prepare_images .* --out={}"),
  ],
)
def test_missing_data_set_fails_fast(name, message, tfds_dir, monkeypatch):
  def refuse(*unused_args, **unused_kwargs):
    raise AssertionError("tried to reach the network")

  monkeypatch.setattr("socket.socket.connect", refuse)
  monkeypatch.setattr("socket.getaddrinfo", refuse)
  start = time.monotonic()
  with pytest.raises(
    FileNotFoundError, match=message.replace("{}", str(tfds_dir))
  ):
    data.make_source(name=name, split="train", data_dir=tfds_dir)
  assert time.monotonic() - start < 5


@pytest.mark.parametrize("name", ["folder", "imagenet2012"])
def test_address_is_no_data_dir(name):
  with pytest.raises(
    ValueError, match="gs://b/tfds must be .*gcsfuse"
  ) as caught:
    data.make_source(name=name, split="train", data_dir="gs://b/tfds")
  assert "/mnt/sweep" in str(
    caught.value
  )  # As scripts/sweep/startup.sh has it.


def test_folder_needs_data_dir():
  with pytest.raises(ValueError, match="needs data_dir.*prepare_images"):
    data.make_source(name="folder", split="train")


def test_tfrecord_is_refused_with_the_remedy(tfds_dir, tmp_path):
  version_dir = tmp_path / "tiny_photos/1.2.0"
  version_dir.mkdir(parents=True)
  for path in (tfds_dir / "tiny_photos/1.2.0").iterdir():
    name = path.name.replace("array_record", "tfrecord")
    content = path.read_bytes()
    if name == "dataset_info.json":
      content = content.replace(b"array_record", b"tfrecord")
    (version_dir / name).write_bytes(content)
  with pytest.raises(
    ValueError,
    match="tiny_photos was prepared as .*tfrecord.*--file_format=array_record",
  ):
    data.make_source(name="tiny_photos", split="train", data_dir=tmp_path)


def test_damaged_record_is_named(folder_dir, tmp_path):
  for path in folder_dir.iterdir():
    content = bytearray(path.read_bytes())
    if "array_record" in path.name:
      content[300:600] = bytes(300)
    (tmp_path / path.name).write_bytes(content)
  source = data.make_source(name="folder", split="train", data_dir=tmp_path)
  with pytest.raises(ValueError, match="folder .* split 'train' index [0-9]+"):
    for i in range(len(source)):
      images.decode(source[i]["image"], num_channels=3, name=source.describe(i))


# --- Stream ------------------------------------------------------------------


def test_batch_contents():
  source = data.make_source(name="digits", split="train")
  stream = data.make_stream(source, seed=0, batch_size=4, **DIGITS)
  batch = stream[0]
  assert batch["image"].shape == (4, 8, 8, 1)
  assert batch["image"].dtype == np.float32
  assert batch["label"].shape == (4,) and batch["label"].dtype == np.int32
  by_pixels = {
    source[i]["image"].tobytes(): source[i]["label"] for i in range(1438)
  }
  for image, label in zip(batch["image"], batch["label"], strict=True):
    assert by_pixels[images.to_uint8(image).tobytes()] == label


@pytest.mark.parametrize("num_examples, batch_size", [(10, 4), (3, 8), (1, 2)])
def test_epochs_cover_each_example_once(num_examples, batch_size):
  stream = pixel_stream(num_examples, seed=3, batch_size=batch_size)
  num_epochs = 8
  num_steps = num_epochs * num_examples // batch_size
  labels = labels_of(stream[i] for i in range(num_steps))
  epochs = labels.reshape(num_epochs, num_examples)
  np.testing.assert_array_equal(
    np.sort(epochs, axis=1), np.tile(np.arange(num_examples), (num_epochs, 1))
  )
  if num_examples == 10:  # Each epoch has an order of its own.
    assert len({tuple(epoch) for epoch in epochs}) == num_epochs


def test_stream_depends_on_seed_and_step_only():
  orders = []
  for seed in (0, 0, 1, 2**64 - 1):
    stream = pixel_stream(50, seed=seed, batch_size=50)
    stream[5]  # The order of access leaves no trace.
    orders.append(tuple(stream[0]["label"]))
  assert orders[0] == orders[1] and len(set(orders)) == 3
  for seed in (-1, 2**64):
    with pytest.raises(ValueError, match=f"seed {seed} is not within"):
      pixel_stream(50, seed=seed, batch_size=50)


def test_shuffle_is_pinned():
  """A run resumed under a newer version must see the same order.

  The order is that of the first eight words of Philox 4x64-10 with key (0, 0)
  and counter 0, a sequence that NumPy guarantees.
  """
  stream = pixel_stream(8, seed=0, batch_size=8)
  assert stream[0]["label"].tolist() == [0, 2, 1, 5, 4, 3, 6, 7]


def test_shuffle_is_uniform():
  """Over many epochs every example comes first about equally often."""
  labels = labels_of([pixel_stream(5, seed=0, batch_size=5000)[0]])
  counts = np.bincount(labels[::5], minlength=5)
  # Binomial(1000, 1/5) has a standard deviation of 12.6.
  np.testing.assert_allclose(counts, 200, atol=5 * 12.6)


def augmented_stream(source, **options):
  return data.make_stream(
    source,
    seed=7,
    batch_size=8,
    image_size=8,
    num_channels=3,
    crop="random",
    random_flip=True,
    **options,
  )


@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [4, 5, 6, 7], [1, 4, 6], [7]])
def test_rows_are_those_of_the_whole_batch(rows, folder_dir):
  source = data.make_source(name="folder", split="train", data_dir=folder_dir)
  whole = augmented_stream(source)
  part = augmented_stream(source, rows=np.array(rows))
  for step in (0, 1, 5):
    for key, value in whole[step].items():
      np.testing.assert_array_equal(part[step][key], value[rows])


@pytest.mark.parametrize("num_threads", [1, 4])
def test_iterate_equals_indexing_and_resumes(num_threads, folder_dir):
  source = data.make_source(name="folder", split="train", data_dir=folder_dir)
  stream = augmented_stream(source)
  iterated = list(
    itertools.islice(data.iterate(stream, num_threads=num_threads), 6)
  )
  for step, batch in enumerate(iterated):
    assert_same_batch(batch, stream[step])
  resumed = data.iterate(stream, start_step=4, num_threads=num_threads)
  for batch in iterated[4:]:
    assert_same_batch(next(resumed), batch)


def test_epochs_and_flips_are_independent():
  """Overlapping counters or a shared key would show as a correlation."""
  examples = [
    {"image": np.array([[[0], [255]]], np.uint8), "label": i}
    for i in range(400)
  ]
  source = sources.Source(
    "pairs", "train", examples, "image", "label", 400, None
  )
  stream = data.make_stream(
    source,
    seed=0,
    batch_size=400,
    image_size=(1, 2),
    num_channels=1,
    random_flip=True,
  )
  flips = stream[0]["image"][:, 0, 0, 0]
  ranks = [np.argsort(stream[epoch]["label"]) for epoch in (0, 1)]
  limit = 5 / np.sqrt(400)  # 5 standard deviations.
  for shift in range(9):
    other = np.roll(ranks[1], shift)
    assert abs(np.corrcoef(ranks[0], other)[0, 1]) < limit
  for stride in (1, 2, 4):  # Words per position, were the key shared.
    rank = ranks[0][::stride]
    assert abs(np.corrcoef(flips[: len(rank)], rank)[0, 1]) < 0.5


def test_flip_mirrors_half_of_the_images():
  pixels = np.array([0, 255], np.uint8).reshape(1, 2, 1)
  source = sources.Source(
    "pair", "train", [{"image": pixels}], "image", None, 0, None
  )
  options = {"image_size": (1, 2), "num_channels": 1, "batch_size": 1000}
  plain = data.make_stream(source, seed=0, **options)[0]["image"]
  assert (plain[:, 0, 0, 0] == -1).all()
  flips = []
  for step in (0, 1):
    stream = data.make_stream(source, seed=0, random_flip=True, **options)
    left, right = stream[step]["image"][:, 0, :, 0].T
    np.testing.assert_array_equal(left, -right)
    assert abs((left == 1).mean() - 0.5) < 0.08  # 5 standard deviations.
    flips.append(left)
  assert abs(np.mean(flips[0] * flips[1])) < 0.16  # Independent of the other.


def test_random_crops_vary_with_epoch(folder_dir):
  source = data.make_source(
    name="folder", split="train[:1]", data_dir=folder_dir
  )
  stream = data.make_stream(
    source,
    seed=0,
    batch_size=20,
    image_size=16,
    num_channels=3,
    crop="random",
  )
  whole = images.decode(source[0]["image"], num_channels=3, name="")
  crops = {image.tobytes() for image in images.to_uint8(stream[0]["image"])}
  # 20 x 16 pixels leave five places for 16 x 16.
  assert crops == {whole[:, left : left + 16].tobytes() for left in range(5)}


def test_empty_batch():
  with pytest.raises(ValueError, match="batch_size 0 must be at least 1"):
    pixel_stream(3, seed=0, batch_size=0)
  with pytest.raises(ValueError, match="batch_size 0 must be at least 1"):
    data.make_eval_stream(
      list_source(3), batch_size=0, image_size=1, num_channels=1
    )


def test_too_small_image_is_named_through_threads():
  source = data.make_source(name="digits", split="test")
  stream = data.make_stream(
    source, seed=0, batch_size=2, image_size=16, num_channels=1
  )
  with pytest.raises(
    ValueError, match="digits split 'test' index .* too small"
  ):
    next(data.iterate(stream))


def test_empty_source():
  with pytest.raises(ValueError, match="split 'train' has no examples"):
    pixel_stream(0, seed=0, batch_size=1)


# --- Evaluation --------------------------------------------------------------


def test_eval_covers_everything_once_in_order():
  stream = data.make_eval_stream(
    list_source(10), batch_size=4, image_size=1, num_channels=1
  )
  batches = [stream[step] for step in range(len(stream))]
  assert [len(batch["label"]) for batch in batches] == [4, 4, 4]
  labels, mask = (
    np.concatenate([batch[key] for batch in batches])
    for key in ("label", "mask")
  )
  assert labels[mask].tolist() == list(range(10))
  assert labels[~mask].tolist() == [9, 9]


def test_eval_can_be_prefetched():
  stream = data.make_eval_stream(
    list_source(5), batch_size=2, image_size=1, num_channels=1
  )
  batches = list(data.iterate(stream))
  assert len(batches) == 3
  for step, batch in enumerate(batches):
    assert_same_batch(batch, stream[step])


def test_eval_refuses_random_crop():
  with pytest.raises(ValueError, match="random.*center.*squash"):
    data.make_eval_stream(
      list_source(5), batch_size=1, image_size=1, num_channels=1, crop="random"
    )


@pytest.mark.parametrize("crop", ["center", "squash"])
def test_in_memory_gives_the_same_batches(crop, folder_dir):
  source = data.make_source(name="folder", split="train", data_dir=folder_dir)
  options = dict(image_size=8, num_channels=3, crop=crop)
  kept = decoded.in_memory(source, num_threads=2, **options)
  assert (kept.num_classes, len(kept)) == (source.num_classes, len(source))
  streams = [
    data.make_stream(s, seed=3, batch_size=5, random_flip=True, **options)
    for s in (source, kept)
  ]
  for step in range(3):
    assert_same_batch(*(stream[step] for stream in streams))
  assert kept[0]["image"].shape == (8, 8, 3)
  assert kept[0]["image"].dtype == np.uint8


def test_in_memory_finds_what_is_too_small_and_refuses_random_crops(folder_dir):
  source = data.make_source(name="folder", split="train", data_dir=folder_dir)
  options = dict(num_channels=3, num_threads=1)
  with pytest.raises(ValueError, match="too small"):
    decoded.in_memory(source, image_size=4096, crop="center", **options)
  with pytest.raises(ValueError, match="data.in_memory=False"):
    decoded.in_memory(source, image_size=8, crop="random", **options)
