# SPDX-License-Identifier: Apache-2.0
"""Folders of images: layouts, what is stored, and what is refused."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from simple_diffusion import folder
from simple_diffusion import folder_layout
from simple_diffusion import images


@pytest.fixture(autouse=True)
def _quiet():
  tfds.disable_progress_bar()


def write(path, level=0, *, mode="RGB", size=(12, 10), **options):
  """Writes an image of one grey level."""
  path.parent.mkdir(parents=True, exist_ok=True)
  colour = level if mode == "L" else (level,) * len(mode)
  PIL.Image.new(mode, size, colour).save(path, **options)


def read(out_dir, split):
  """Returns the set of (mean pixel, label) without this package's reader."""
  source = tfds.builder_from_directory(out_dir).as_data_source(split)
  return {
    (round(float(np.mean(example["image"]))), int(example.get("label", -1)))
    for example in source
  }


def test_split_class_layout(tmp_path):
  write(tmp_path / "in/train/cat/a.png", 10)
  write(tmp_path / "in/train/dog/a.PNG", 20)
  write(tmp_path / "in/train/dog/b.jpeg", 30)
  write(tmp_path / "in/test/dog/a.png", 40)
  (tmp_path / "in/notes.txt").write_text("not an image")
  (tmp_path / "in/.thumbnails").mkdir()
  (tmp_path / "in/.thumbnails/a.png").write_bytes(b"")
  report = folder.prepare(tmp_path / "in", tmp_path / "out")
  assert read(tmp_path / "out", "train") == {(10, 0), (20, 1), (30, 1)}
  assert read(tmp_path / "out", "test") == {(40, 1)}
  assert report.num_images == {
    "train": {"cat": 1, "dog": 2},
    "test": {"cat": 0, "dog": 1},
  }
  assert report.num_ignored == 1 and report.skipped == ()
  info = tfds.builder_from_directory(tmp_path / "out").info
  assert info.features["label"].names == ["cat", "dog"]
  assert sorted(os.listdir(tmp_path)) == ["in", "out"]


def test_class_layout(tmp_path):
  write(tmp_path / "in/b/x.png", 10)
  write(tmp_path / "in/a/x.png", 20)
  folder.prepare(tmp_path / "in", tmp_path / "out")
  assert read(tmp_path / "out", "train") == {(20, 0), (10, 1)}


def test_flat_layout(tmp_path):
  write(tmp_path / "in/x.png", 10)
  write(tmp_path / "in/y.png", 20)
  (tmp_path / "out").mkdir()  # An empty folder may be used.
  report = folder.prepare(tmp_path / "in", tmp_path / "out")
  assert read(tmp_path / "out", "train") == {(10, -1), (20, -1)}
  assert report.num_images == {"train": {"": 2}}


@pytest.mark.parametrize(
  "paths",
  [
    ["a.png", "cat/a.png"],
    ["cat/a.png", "train/cat/a.png"],
    ["train/a.png", "test/a.png"],
    ["cats/2019/a.png"],
    ["train/cat/a.png", "extra/cat/a.png"],
    ["train/cat/more/a.png"],
    ["train/cat/a.png", "train/cat/1/2/3/a.png"],
  ],
)
def test_other_layouts_are_refused(tmp_path, paths):
  for path in paths:
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / path).touch()
  with pytest.raises(ValueError, match="none of the accepted layouts") as error:
    folder_layout.scan(tmp_path)
  assert paths[-1] in str(error.value)
  assert "<split>/<class>/image" in str(error.value)


def test_class_unknown_to_train_is_refused(tmp_path):
  for path in ["train/cat/a.png", "test/Cat/a.png"]:
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).touch()
  with pytest.raises(ValueError, match=r"\['Cat'\] .* \['cat'\]"):
    folder_layout.scan(tmp_path)


def test_no_images(tmp_path):
  with pytest.raises(FileNotFoundError, match="nothing-here is not a folder"):
    folder_layout.scan(tmp_path / "nothing-here")
  (tmp_path / "a.txt").touch()
  with pytest.raises(FileNotFoundError, match="1 files, none .* .jpg"):
    folder_layout.scan(tmp_path)


def make_mixed_folder(path):
  """Four good images, one truncated, one empty, one of 12 x 4 pixels."""
  for level in range(4):
    write(path / f"cat/{level}.png", level)
  write(path / "cat/small.png", size=(12, 4))
  (path / "cat/empty.jpg").touch()
  noise = np.random.default_rng(0).integers(256, size=(32, 32, 3))
  PIL.Image.fromarray(noise.astype(np.uint8)).save(path / "cat/torn.jpg")
  whole = (path / "cat/torn.jpg").read_bytes()
  (path / "cat/torn.jpg").write_bytes(whole[:700])


def test_broken_image_stops_and_leaves_nothing(tmp_path):
  make_mixed_folder(tmp_path / "in")
  with pytest.raises(ValueError, match=r"cat/empty.jpg.*--on_broken=skip"):
    folder.prepare(tmp_path / "in", tmp_path / "sub/out")
  assert os.listdir(tmp_path / "sub") == []


def test_small_image_stops(tmp_path):
  write(tmp_path / "in/a.png", size=(12, 4))
  with pytest.raises(ValueError, match="a.png is too small: 12 x 4 .* 8.*skip"):
    folder.prepare(tmp_path / "in", tmp_path / "out", min_size=8)
  assert os.listdir(tmp_path) == ["in"]


def test_skip_names_and_counts(tmp_path):
  make_mixed_folder(tmp_path / "in")
  report = folder.prepare(
    tmp_path / "in", tmp_path / "out", on_broken="skip", min_size=8
  )
  assert report.num_images == {"train": {"cat": 4}}
  skipped = dict(report.skipped)
  assert set(skipped) == {
    f"cat/{x}" for x in ["empty.jpg", "small.png", "torn.jpg"]
  }
  assert "too small" in skipped["cat/small.png"]
  assert "truncated" in skipped["cat/torn.jpg"]
  text = (tmp_path / "out" / folder.REPORT_FILE).read_text()
  assert text == folder.format_report(report) + "\n"
  assert "skipped: 3 images" in text and "cat/torn.jpg" in text
  assert len(read(tmp_path / "out", "train")) == 4


def test_nothing_left_of_a_split(tmp_path):
  write(tmp_path / "in/train/cat/a.png")
  (tmp_path / "in/test/cat").mkdir(parents=True)
  (tmp_path / "in/test/cat/a.png").touch()
  with pytest.raises(ValueError, match="'test': all 1 .*cat/a.png.* empty"):
    folder.prepare(tmp_path / "in", tmp_path / "out", on_broken="skip")
  assert os.listdir(tmp_path) == ["in"]


def test_occupied_out_dir_is_refused(tmp_path):
  write(tmp_path / "in/a.png")
  (tmp_path / "out").mkdir()
  (tmp_path / "out/precious").touch()
  with pytest.raises(ValueError, match="out already exists.*remove it or"):
    folder.prepare(tmp_path / "in", tmp_path / "out")
  assert os.listdir(tmp_path / "out") == ["precious"]
  with pytest.raises(ValueError, match="lies inside"):
    folder.prepare(tmp_path / "in", tmp_path / "in/out")
  with pytest.raises(ValueError, match="'ignore'; use one of error, skip"):
    folder.prepare(tmp_path / "in", tmp_path / "new", on_broken="ignore")


def test_stored_bytes_and_report_by_kind(tmp_path):
  source = tmp_path / "in"
  write(source / "plain.jpg", 10)
  write(source / "print.jpg", 20, mode="CMYK")
  write(source / "grey.png", 30, mode="L")
  for suffix in ("bmp", "tif", "gif"):
    write(source / f"other.{suffix}", 40)
  write(source / "other.WEBP", 40, lossless=True)
  report = folder.prepare(source, tmp_path / "out")
  assert report.num_converted == {"cmyk": 1, "grey": 1, "palette": 1}
  data_source = tfds.builder_from_directory(tmp_path / "out").as_data_source(
    "train", decoders={"image": tfds.decode.SkipDecoding()}
  )
  stored = [example["image"] for example in data_source]
  assert len(stored) == 7
  kept = {
    (source / x).read_bytes() for x in ["plain.jpg", "print.jpg", "grey.png"]
  }
  assert kept < set(stored)
  for encoded in set(stored) - kept:
    assert encoded.startswith(b"\x89PNG")
    pixels = images.decode(encoded, num_channels=3, name="")
    np.testing.assert_array_equal(pixels, np.full((10, 12, 3), 40))


def run_script(*arguments):
  return subprocess.run(
    [sys.executable, "-m", "scripts.prepare_images", *arguments],
    capture_output=True,
    text=True,
    check=False,
    cwd=pathlib.Path(__file__).parents[1],
  )


def test_script(tmp_path):
  make_mixed_folder(tmp_path / "in")
  arguments = [f"--images={tmp_path}/in", f"--out={tmp_path}/out"]
  failed = run_script(*arguments)
  assert failed.returncode == 2
  assert failed.stderr.strip().splitlines()[-1].startswith("error: ")
  assert "Traceback" not in failed.stderr
  done = run_script(*arguments, "--on_broken=skip")
  assert done.returncode == 0, done.stderr
  assert "train: 5 images\n  cat: 5\n" in done.stdout
  assert f"--config.data.data_dir={tmp_path}/out" in done.stdout
