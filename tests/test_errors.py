# SPDX-License-Identifier: Apache-2.0
"""Each mistake of a user's ends soon, in one message that names the remedy."""

import concurrent.futures
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import PIL.Image
import pytest

from simple_diffusion import folder

ROOT = pathlib.Path(__file__).parent.parent

TINY = (
  "--config=configs/digits.py",
  "--config.model.base_channels=8",
  "--config.model.emb_channels=8",
  "--config.model.channel_multiplier=1,2",
  "--config.model.num_res_blocks=1,",
  "--config.model.num_transformer_blocks=1",
  "--config.train.total_steps=4",
  "--config.train.log_every_steps=2",
  "--config.train.checkpoint_every_steps=2",
  "--config.train.sample_every_steps=4",
  "--config.train.num_samples=2",
  "--config.sample.num_steps=2",
)

# name: (arguments of experiments.train, what the message must say)
MISTAKES = {
  "misspelt_key": (
    ["--config.optim.lrr=1"],
    ["--config.optim.lrr: ", 'Did you mean "lr"?'],
  ),
  "one_of_two_keys": (
    ["--config.sample.num_steps=1", "--config.train.num_steps=1"],
    ["the config: there is no key 'num_steps'", 'Did you mean "'],
  ),
  "no_such_key": (["--config.foo=1"], ["no key 'foo'", "configs/common.py"]),
  "no_such_section": (["--config.foo.bar=1"], ["no key 'foo'"]),
  "wrong_type": (["--config.optim.lr=fast"], ["lr", "'fast'"]),
  "no_such_config": (["--config=configs/nothing.py"], ["configs/nothing.py"]),
  "config_argument": (
    ["--config=configs/imagenet.py:77,uvit"],
    ["77,uvit", "128|256|512|1024", "configs/imagenet.py:128,uvit"],
  ),
  "image_size": (
    ["--config.data.image_size=6"],
    ["3x3", "divisible by 2", "data.image_size"],
  ),
  "batch_does_not_divide": (
    ["--config.train.batch_size=7", "--config.train.accum_steps=2"],
    ["train.batch_size=7", "use 6 or 8"],
  ),
  "zero": (["--config.train.sample_every_steps=0"], ["must be at least 1"]),
  "missing_data": (
    ["--config.data.name=cifar10", "--config.data.data_dir={tmp}"],
    ["cifar10", "{tmp}", "tfds build cifar10 --file_format=array_record"],
  ),
  "misspelt_data": (["--config.data.name=cifar1o"], ["similar: cifar10"]),
  "split": (["--config.data.split=trian"], ["'trian'", "train, test"]),
  "eval_split": (
    ["--config.data.eval_split=val"],
    ["data.eval_split: ", "'val'", "train, test"],
  ),
  "no_argument": (
    ["--config=configs/digits.py:8"],
    ["takes no argument", "leave out the colon"],
  ),
  "weighting": (
    ["--config.objective.weighting=snrr"],
    ["'snrr'", "constant, elbo, snr, min_snr, sigmoid"],
  ),
  "method": (["--config.sample.method=euler"], ["'euler'", "heun"]),
  "interval": (
    ["--config.sample.guidance_interval=5,-5"],
    ["guidance_interval=(5, -5)", "low < high"],
  ),
  "schedule": (["--config.schedule.ref_at_noise=800."], ["not monotone"]),
  "workdir_below_a_file": (
    ["--workdir={tmp}/file/run"],
    ["{tmp}/file/run", "can't be written to", "choose a folder"],
  ),
  "remote_workdir": (["--workdir=gs://a/b"], ["gs://a/b"]),
  "checkpoints_without_config": (
    ["--workdir={tmp}/orphan"],
    ["{tmp}/orphan", "no config.json", "another --workdir"],
  ),
  "another_config": (
    ["--workdir={tmp}/run", "--config.optim.lr=0.5"],
    ["config.optim.lr is 0.001 there, 0.5 here", "another --workdir"],
  ),
  "cut_checkpoint": (
    ["--workdir={tmp}/cut"],
    ["{tmp}/cut/checkpoints/4", "can't be read", "go on from step 2"],
  ),
  "too_small_images": (
    [
      "--config=configs/images.py:64",
      "--config.data.data_dir={tmp}/small",
      "--config.data.eval_split=train",
    ],
    ["too small", "40"],
  ),
  "empty_split": (
    [
      "--config=configs/images.py:64",
      "--config.data.data_dir={tmp}/small",
    ],
    ["data.eval_split: ", "'train[95%:]' has no image (train has 4)"],
  ),
}


def run_train(*args):
  began = time.monotonic()
  done = subprocess.run(
    [sys.executable, "-m", "experiments.train", *args],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=120,
  )
  return done, time.monotonic() - began


def save_small_images(path):
  (path / "photos").mkdir()
  for i in range(4):
    image = PIL.Image.fromarray(np.full((40, 50, 3), 60 * i, np.uint8))
    image.save(path / "photos" / f"{i}.png")
  folder.prepare(path / "photos", path / "small")


@pytest.fixture(scope="module")
def tmp(tmp_path_factory):
  """A folder with a good run, one with a checkpoint cut in half, and more."""
  path = tmp_path_factory.mktemp("errors")
  (path / "file").touch()
  (path / "orphan" / "checkpoints").mkdir(parents=True)
  save_small_images(path)
  runs = [(*TINY, f"--workdir={path}/{name}") for name in ("run", "cut")]
  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    for done, _ in pool.map(lambda args: run_train(*args), runs):
      assert done.returncode == 0, done.stderr
  files = (path / "cut" / "checkpoints" / "4").rglob("*")
  largest = max(
    (file for file in files if file.is_file()),
    key=lambda file: file.stat().st_size,
  )
  os.truncate(largest, largest.stat().st_size // 2)
  return path


@pytest.fixture(scope="module")
def outcomes(tmp):
  """(process, seconds) of each mistake; two run at a time."""

  def run(mistake):
    args, _ = MISTAKES[mistake]
    args = [arg.format(tmp=tmp) for arg in args]
    base = [f"--workdir={tmp}/new_{mistake}"]
    if not args[0].startswith("--config="):
      base = [*TINY, *base]
    return run_train(*base, *args)

  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    return dict(zip(MISTAKES, pool.map(run, MISTAKES), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("mistake", MISTAKES)
def test_one_message(tmp, outcomes, mistake):
  done, seconds = outcomes[mistake]
  assert done.returncode == 2, done.stderr
  *before, message = done.stderr.strip().splitlines()
  assert message.startswith("error: ")
  for words in MISTAKES[mistake][1]:
    assert words.format(tmp=tmp) in message
  assert "Traceback" not in done.stderr
  # tqdm's bar of zero steps may stand before the message, nothing else.
  assert not [line for line in before if "error" in line.lower()]
  # 10 s for one alone on a quiet machine; two run at a time here.
  assert seconds < 20


@pytest.mark.slow
def test_nothing_is_lost(tmp, outcomes):
  # Neither the other config nor the cut checkpoint touched what was there.
  for name in ("run", "cut"):
    steps = {p.name for p in (tmp / name / "checkpoints").iterdir()}
    assert {"2", "4"} <= steps
    assert len((tmp / name / "metrics.jsonl").read_text().splitlines()) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_workdir(tmp_path):
  tmp_path.chmod(0o555)
  done, _ = run_train(*TINY, f"--workdir={tmp_path}/run")
  assert done.returncode == 2
  assert "can't be written to" in done.stderr


def test_diverged_run(tmp_path):
  done, _ = run_train(*TINY, f"--workdir={tmp_path}", "--config.optim.lr=1e30")
  assert done.returncode == 1
  message = done.stderr.strip().splitlines()[-1]
  assert message.startswith("error: ") and "is not" not in message
  assert "the parameters were not updated" in message
  assert any(f"{name} is" in message for name in ("loss", "grad_norm"))
  assert any(f"at step {step};" in message for step in (2, 3, 4))
  # Nothing that is not finite was recorded.
  record = tmp_path / "metrics.jsonl"
  assert "NaN" not in record.read_text() and "Inf" not in record.read_text()
