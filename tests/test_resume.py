# SPDX-License-Identifier: Apache-2.0
"""Real runs of the programs: killed and resumed, sampled from, evaluated."""

import concurrent.futures
import json
import os
import random
import signal
import time

import chex
import numpy as np
import PIL.Image
import pytest
import real_runs

from simple_diffusion import data
from simple_diffusion import images

TINY = (
  *real_runs.TINY,
  "--config.train.batch_size=8",
  "--config.train.total_steps=12",
  "--config.train.checkpoint_every_steps=4",
  "--config.train.sample_every_steps=8",
  "--config.eval.batch_size=100",
  "--config.eval.num_samples=50",
)


class Programs:
  """Starts the programs of experiments/, which share one compilation cache."""

  def __init__(self, cache):
    self.environ = {"JAX_COMPILATION_CACHE_DIR": str(cache)}

  def start(self, program, *args):
    return real_runs.start_python(
      ["-m", f"experiments.{program}", *args], environ=self.environ
    )

  def run(self, program, *args):
    """Runs to a good end; returns what is printed."""
    with self.start(program, *args) as child:
      out, err = child.communicate(timeout=300)
    assert child.returncode == 0, err
    return out

  def kill(self, is_time, *args):
    """Trains until is_time(), then kill -9; False if training was faster."""
    with self.start("train", *args) as child:
      while not is_time() and child.poll() is None:
        time.sleep(0.002)
      os.kill(child.pid, signal.SIGKILL)
      child.communicate()
    return child.returncode == -signal.SIGKILL


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
  return Programs(tmp_path_factory.getbasetemp() / "compiled")


def assert_same_run(workdir, expected, step):
  state, expected_state = (
    real_runs.load_state(folder, step) for folder in (workdir, expected)
  )
  chex.assert_trees_all_equal(state, expected_state)
  assert int(state.step) == step and not bool(state.halted)
  assert real_runs.records(workdir) == real_runs.records(expected)
  grids = sorted((expected / "samples").iterdir())
  assert len(grids) > 1
  for grid in grids:
    assert (workdir / "samples" / grid.name).read_bytes() == grid.read_bytes()


@pytest.fixture(scope="module")
def whole(programs, tmp_path_factory):
  """The folder of a run that was left alone."""
  workdir = tmp_path_factory.mktemp("whole")
  programs.run("train", *TINY, f"--workdir={workdir}")
  return workdir


def test_run_leaves_everything(whole):
  assert [record["step"] for record in real_runs.records(whole)] == [
    2,
    4,
    6,
    8,
    10,
    12,
  ]
  for name in ("loss", "v_mse", "eps_mse", "grad_norm"):
    values = [record[name] for record in real_runs.records(whole)]
    assert np.isfinite(values).all() and len(set(values)) == 6
  assert {path.name for path in whole.iterdir()} == {
    "checkpoints",
    "config.json",
    "environment.json",
    "metrics.jsonl",
    "samples",
    "tensorboard",
  }
  steps = [path.name for path in (whole / "checkpoints").iterdir()]
  assert sorted(steps) == ["12", "8"]  # keep_checkpoints=2
  names = [path.name for path in (whole / "samples").iterdir()]
  assert sorted(names) == ["step_00000008.png", "step_00000012.png"]
  with PIL.Image.open(whole / "samples" / "step_00000012.png") as grid:
    assert grid.size == (10 * 65 + 1, 65 + 1)
  state = real_runs.load_state(whole, 12)
  with pytest.raises(AssertionError):
    chex.assert_trees_all_equal(state.params, state.ema_params)


def test_killed_run_resumes_bit_for_bit(programs, whole, tmp_path):
  args = *TINY, f"--workdir={tmp_path}"

  def is_time():
    # Beyond the first checkpoint, while the second is being written or soon.
    is_saved = (tmp_path / "checkpoints" / "4").exists()
    return is_saved and real_runs.records(tmp_path)[-1]["step"] > 4

  assert programs.kill(is_time, *args)
  assert real_runs.records(tmp_path)[-1]["step"] > 4
  assert not (tmp_path / "checkpoints" / "12").exists()
  assert f"resuming {tmp_path} from step" in programs.run("train", *args)
  assert_same_run(tmp_path, whole, 12)


@pytest.mark.slow
def test_killed_at_random_moments(programs, tmp_path):
  long = *TINY, "--config.train.total_steps=200"
  whole, workdir = tmp_path / "whole", tmp_path / "killed"
  programs.run("train", *long, f"--workdir={whole}")
  seed = random.randrange(2**32)
  rng, num_killed = random.Random(seed), 0
  for _ in range(8):
    before = real_runs.records(workdir)
    began_s, wait_s = None, rng.uniform(0, 2)

    def is_time(before=before, wait_s=wait_s):
      nonlocal began_s
      if began_s is None and real_runs.records(workdir) != before:
        began_s = time.monotonic()
      return began_s is not None and time.monotonic() - began_s > wait_s

    num_killed += programs.kill(is_time, *long, f"--workdir={workdir}")
  assert num_killed >= 2, f"seed {seed}"
  programs.run("train", *long, f"--workdir={workdir}")
  assert_same_run(workdir, whole, 200)
  # Once more: nothing is left to do, and nothing is done.
  out = programs.run("train", *long, f"--workdir={workdir}")
  assert "from step 200" in out
  assert_same_run(workdir, whole, 200)


@pytest.fixture(scope="module")
def made(programs, whole, tmp_path_factory):
  """Outputs of sample, twice, and of evaluate."""
  folder = tmp_path_factory.mktemp("made")
  ours = f"--workdir={whole}"
  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    jobs = [
      pool.submit(
        programs.run, "evaluate", ours, f"--results={folder}/r/a.jsonl"
      ),
      pool.submit(programs.run, "sample", ours, "--num_samples=12"),
      pool.submit(
        programs.run,
        "sample",
        ours,
        "--num_samples=7",
        "--batch_size=3",
        f"--out={folder}/few.png",
      ),
    ]
    printed = [job.result() for job in jobs]
  return folder, printed


def test_sample(whole, made):
  folder, printed = made
  out = whole / "samples" / "step_00000012_seed_0"
  assert "12 images of step 12" in printed[1] and f"{out}.npz" in printed[1]
  with np.load(f"{out}.npz") as arrays:
    pixels, labels = arrays["images"], arrays["labels"]
  chex.assert_shape(pixels, (12, 8, 8, 1))
  assert pixels.dtype == np.uint8 and labels.dtype == np.int32
  np.testing.assert_array_equal(labels, np.arange(12) % 10)
  assert len({image.tobytes() for image in pixels}) == 12
  with PIL.Image.open(f"{out}.png") as grid:
    # Two rows of ten, enlarged eightfold.
    assert grid.size == (10 * 65 + 1, 2 * 65 + 1)
    first = np.asarray(grid)[1:65:8, 1:65:8]
  np.testing.assert_array_equal(first, pixels[0, :, :, 0])
  # Image i of a seed is the same whatever the batch, up to rounding.
  with np.load(folder / "few.npz") as arrays:
    difference = np.int32(arrays["images"]) - pixels[:7]
    np.testing.assert_array_equal(arrays["labels"], labels[:7])
  assert np.abs(difference).max() <= 1
  assert (folder / "few.png").exists()
  # And training has made the same images of the same averaged parameters.
  with PIL.Image.open(whole / "samples" / "step_00000012.png") as grid:
    grid = np.int32(grid)
  for i, image in enumerate(pixels[:4, :, :, 0]):
    while_training = grid[1:65:8, 65 * i + 1 : 65 * i + 65 : 8]
    assert np.abs(while_training - image).max() <= 1


def test_evaluate(whole, made):
  folder, printed = made
  (line,) = (folder / "r" / "a.jsonl").read_text().splitlines()
  record = json.loads(line)
  assert record["config"] == json.loads((whole / "config.json").read_text())
  assert record["checkpoint_step"] == 12
  assert f"appended to {folder}/r/a.jsonl" in printed[0]

  # After 12 steps of warm-up v_hat is nearly 0: the v-MSE is that of v itself,
  # alpha^2 + sigma^2 E[x^2], and the eps-MSE is alpha^2 times as much.
  source = data.make_source(name="digits", split="test")
  x = images.to_float(np.stack([example["image"] for example in source]))
  bins = record["held_out_loss"]
  assert [b["logsnr"] for b in bins] == [[n, n + 3] for n in range(-15, 15, 3)]
  for row in bins:
    alpha2 = 1 / (1 + np.exp(-np.linspace(*row["logsnr"], 100)))
    v_mse = alpha2 + (1 - alpha2) * np.float64(x**2).mean()
    np.testing.assert_allclose(row["v_mse"], v_mse.mean(), rtol=0.05)
    np.testing.assert_allclose(
      row["eps_mse"], (alpha2 * v_mse).mean(), rtol=0.15
    )

  samples = record["samples"]
  assert samples["num_samples"] == 50 and samples["seed"] == 0
  assert samples["method"] == "dpmpp_2m" and samples["num_steps"] == 2
  assert samples["num_network_evaluations"] == 2
  assert samples["classifier_accuracy"] >= 0.97
  assert samples["features"]["name"] == "digits_classifier"
  hashes = samples["features"]["weights_hash"], samples["train_hash"]
  assert {len(found) for found in (*hashes, record["held_out_hash"])} == {16}
  assert samples["train_hash"] != record["held_out_hash"]
  assert samples["frechet_samples"] > samples["frechet_train"] > 0
  for name in ("nearest_samples", "nearest_held_out"):
    assert 0 < samples[f"{name}_p01"] < samples[name]
  assert record["environment"]["devices"] == ["cpu"]
