# SPDX-License-Identifier: Apache-2.0
"""The real program measures samples of RGB images by a feature network."""

import hashlib
import json

import mobilenet_file
import numpy as np
import PIL.Image
import pytest
import real_runs

from simple_diffusion import folder

pytestmark = pytest.mark.slow

RGB = (
  *real_runs.TINY,
  "--config.data.name=folder",
  "--config.data.image_size=32",
  "--config.data.num_channels=3",
  "--config.model.num_classes=2",
  "--config.model.patching=dwt_2",
  "--config.train.batch_size=4",
  "--config.train.total_steps=2",
  "--config.train.checkpoint_every_steps=2",
  "--config.eval.batch_size=8",
  "--config.eval.num_samples=12",
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A folder with two classes, a run on it and weights to compare by."""
  path = tmp_path_factory.mktemp("evaluate")
  rng = np.random.default_rng(0)
  for split, count in (("train", 9), ("test", 6)):
    for name in ("red", "blue"):
      (path / "images" / split / name).mkdir(parents=True)
      for i in range(count):
        pixels = rng.integers(0, 256, (32, 32, 3), np.uint8)
        image = PIL.Image.fromarray(pixels)
        image.save(path / "images" / split / name / f"{i}.png")
  folder.prepare(path / "images", path / "data", on_broken="error")
  for name in ("red", "blue"):
    (path / "images" / "train" / name / "0.png").unlink()
  folder.prepare(path / "images", path / "fewer", on_broken="error")
  np.savez(path / "mobilenet.npz", **mobilenet_file.make_file())
  real_runs.finish(
    [
      real_runs.start(
        *RGB,
        f"--config.data.data_dir={path}/data",
        f"--workdir={path}/run",
      )
    ]
  )
  return path


def command(path, *args, results="results"):
  """Flags, and options of `real_runs.start`."""
  args = (f"--workdir={path}/run", f"--results={path}/{results}.jsonl", *args)
  return args, {
    "program": "experiments.evaluate",
    "num_devices": 2,
    "environ": {"HOME": str(path / results)},  # with the references
  }


def evaluate(path, *args, **kwargs):
  args, options = command(path, *args, **kwargs)
  return real_runs.start(*args, **options)


def evaluate_in_two(path, *args, of=None, **kwargs):
  args, options = command(path, *args, **kwargs)
  return real_runs.start_many(2, *args, of=of, **options)


def record(path, results):
  """The only one of a file."""
  (line,) = (path / f"{results}.jsonl").read_text().splitlines()
  return json.loads(line)


def test_samples_are_compared_with_both_splits(run):
  flags = [
    "--feature_network=mobilenet_v2",
    f"--feature_weights={run}/mobilenet.npz",
    f"--grid={run}/grid.png",
  ]
  real_runs.finish([evaluate(run, *flags)])
  real_runs.finish([evaluate(run, *flags, "--num_samples=14")])
  first, second = map(
    json.loads, (run / "results.jsonl").read_text().splitlines()
  )
  samples = first["samples"]
  assert samples["num_samples"] == 12 and second["samples"]["num_samples"] == 14
  assert samples["features"]["name"] == "mobilenet_v2"
  assert samples["inception_score"] is None
  assert samples["labels"] == "in the proportions of train"
  # What a number can't be trusted without.
  assert first.keys() >= {
    "config",
    "checkpoint_step",
    "ema_decay",
    "seed",
    "held_out_split",
    "num_held_out",
    "held_out_hash",
    "environment",
  }
  assert samples.keys() >= {
    "seed",
    "method",
    "num_steps",
    "num_network_evaluations",
    "guidance_scale",
    "guidance_interval",
  }
  assert samples["features"].keys() == {"name", "weights_hash", "resize"}
  # Of the same images, whatever is sampled.
  assert first["held_out_hash"] == second["held_out_hash"]
  for against, count in (("train", 18), ("held_out", 12), ("real", 18)):
    found = samples[against]
    assert found["num_images"] == found["num_kept"] == count
    assert 0 <= found["precision"] <= 1 and 0 <= found["recall"] <= 1
    assert found["frechet"] > 0 and found["kernel_standard_error"] > 0
  # The second time, references came from the disk.
  cached = run / "results" / ".cache" / "simple_diffusion" / "features"
  assert sorted(path.stem for path in cached.iterdir()) == sorted(
    samples[against]["reference_hash"] for against in ("train", "held_out")
  )
  assert second["samples"]["real"] == samples["real"]
  with PIL.Image.open(run / "grid.png") as grid:
    assert grid.width == 2 * 65 + 1  # a column per class
  digest = hashlib.sha256((run / "grid.png").read_bytes()).hexdigest()
  # More samples change nothing of the first ones.
  drawn = {"name": "grid.png", "hash": digest[:16]}
  assert first["grid"] == second["grid"] == drawn


def assert_same_numbers(found, expected, name=""):
  """Numbers up to float32's rounding, everything else as it is."""
  if isinstance(expected, dict):
    assert found.keys() == expected.keys()
    for key in expected:
      assert_same_numbers(found[key], expected[key], f"{name}.{key}")
  elif isinstance(expected, float):
    np.testing.assert_allclose(found, expected, rtol=1e-5, err_msg=name)
  else:
    assert found == expected, name


# Of 12 samples and 12 and 18 images; of 32 at a time the second has no batch.
@pytest.mark.parametrize("batch_size", [8, 32])
def test_processes_find_what_one_finds(run, batch_size):
  one, two = f"one_{batch_size}", f"two_{batch_size}"
  flags = [
    f"--batch_size={batch_size}",
    "--feature_network=mobilenet_v2",
    f"--feature_weights={run}/mobilenet.npz",
  ]
  real_runs.finish([evaluate(run, *flags, results=one)])
  grid = f"--grid={run}/grid_of_two.png"
  printed = real_runs.finish(evaluate_in_two(run, *flags, grid, results=two))
  for words in ("log-SNR", "frechet", "appended to"):
    assert words in printed[0] and words not in printed[1]
  with PIL.Image.open(run / "grid_of_two.png") as drawn:
    assert drawn.width == 2 * 65 + 1
  expected, found = record(run, one), record(run, two)
  assert expected.pop("environment")["num_processes"] == 1
  assert found.pop("environment")["num_processes"] == 2
  assert found.pop("grid")["name"] == "grid_of_two.png"
  for theirs, ours in zip(
    expected.pop("held_out_loss"), found.pop("held_out_loss"), strict=True
  ):
    assert_same_numbers(ours, theirs)
  assert_same_numbers(found, expected)


@pytest.mark.parametrize(
  "flag, words",
  [
    ("--seed=1", "the processes disagree: seed is 0 in process 0, 1 in"),
    (
      "--workdir={run}/none",
      "process 1: {run}/none/config.json does not exist",
    ),
    ("--num_step=1", "process 1: Unknown command line flag 'num_step'"),
  ],
)
def test_mistake_in_one_process_ends_both(run, flag, words):
  of = {1: [flag.format(run=run)]}
  ended = real_runs.end(evaluate_in_two(run, of=of, results="mistakes"))
  words = words.format(run=run)
  assert (
    words in ended[0][2] and words.removeprefix("process 1: ") in ended[1][2]
  )
  for code, out, err in ended:
    assert code == 2 and "log-SNR" not in out
    assert err.count("error: ") == 1 and "Traceback" not in err
  assert not (run / "mistakes.jsonl").exists()


@pytest.mark.parametrize(
  "flags, message",
  [
    (["--feature_network=mobilenet_v2"], "give both, or neither"),
    (["--grid=grid.png"], "nothing is sampled without --feature_network"),
    (["--grid=grid.gif"], "--grid=grid.gif must end in .png or .jpg"),
    (
      [
        "--feature_network=mobilenet_v2",
        "--feature_weights=w.npz",
        "--num_samples=3",
      ],
      "num_samples=3 must be at least 10",
    ),
    (["--data_dir={run}/fewer"], "a run of 18 images, and data.split='train'"),
  ],
)
def test_mistakes_are_told_before_the_work(run, flags, message):
  child = evaluate(run, *(flag.format(run=run) for flag in flags))
  _, stderr = child.communicate(timeout=120)
  assert child.returncode == 2 and message in stderr
