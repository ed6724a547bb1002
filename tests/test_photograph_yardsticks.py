# SPDX-License-Identifier: Apache-2.0
"""Distances between photographs say what they are said to say."""

import json

import jax
import numpy as np
import pytest

from experiments import references
from scripts import photograph_yardstick_tables
from scripts import results
from scripts import yardsticks
from simple_diffusion import features


@jax.jit
def rows_of_pixels(pixels):
  """[B, H, W, 3] -> its first rows: features that see noise."""
  return features.Features(pixels[:, :2].reshape(len(pixels), -1) / 255, None)


NETWORK = features.FeatureNetwork("rows", 48, "0" * 16, "none", rows_of_pixels)


def flat(seed, low, high, num=100):
  """Images of one colour each."""
  rng = np.random.default_rng(seed)
  return np.uint8(rng.uniform(low, high, (num, 1, 1, 3)) * np.ones((8, 8, 1)))


@pytest.mark.parametrize("logsnr", yardsticks.LOGSNRS)
def test_noise_is_of_its_log_snr(logsnr):
  grey = np.full((4, 32, 32, 3), 128, np.uint8)
  found = yardsticks.noisy(grey, logsnr).astype(float)
  # N(0, 1) cut off at -1 and 1, where a third of it lies beyond, has a standard
  # deviation of sqrt(1 - 2 pdf(1)).
  share = 0.718 if logsnr == 0 else 1.0
  of_noise = share * 127.5 * np.exp(-logsnr / 2)
  assert found.std() == pytest.approx(of_noise, rel=0.03)


def test_frechet_distances_grow_with_noise():
  sets = yardsticks.with_noise(flat(1, 100, 150))
  sets["light, held out"] = flat(2, 150, 200)
  moments, kept = references.describe(
    NETWORK, [flat(0, 100, 150)], 100, batch_size=100
  )
  real = references.Reference("1" * 16, moments, kept, np.zeros(100, np.int32))
  rows = yardsticks.measure(NETWORK, sets, real, batch_size=30)
  names = [row["what"] for row in rows]
  assert names[0] == "held out"
  assert names[-2:] == ["white noise", "light, held out"]
  assert len({row["samples_hash"] for row in rows}) == len(rows)
  # Of these features noise changes the spread, which Frechet distances see,
  # and hardly the mean, which kernel distances see first.
  kernels = [row["kernel"] for row in rows]
  error = rows[0]["kernel_standard_error"]
  assert abs(kernels[0]) < 4 * error
  assert kernels[-1] > 4 * error
  first, *noisy, white, _ = [row["frechet"] for row in rows]
  assert [first, *noisy] == sorted([first, *noisy])
  assert white == pytest.approx(noisy[-1], rel=0.1)


def test_a_column_for_each_size(tmp_path, monkeypatch):
  monkeypatch.setattr(results, "FOLDER", tmp_path)
  assert photograph_yardstick_tables.photographs_yardsticks() == "Not yet run."

  def record(size, kernels):
    return {
      "config": {
        "data": {
          "data_dir": "x/clothing",
          "image_size": size,
          "crop": "squash",
        }
      },
      "held_out_split": "test",
      "seed": 0,
      "features": {"name": "n", "weights_hash": "w", "resize": "none"},
      "rows": [
        {
          "what": what,
          "num_samples": 20,
          "num_images": 100,
          "reference_hash": "1" * 16,
          "samples_hash": "2" * 16,
          "kernel": kernel,
          "kernel_standard_error": 0.01,
          "precision": 0.5,
        }
        for what, kernel in kernels.items()
      ],
      "environment": {
        "devices": ["cpu"],
        "num_cores": 2,
        "versions": {"jax": "0"},
        "git_sha": "0",
      },
    }

  lines = [
    record(128, {"held out": 0.3}),
    record(64, {"held out": 9.0}),  # measured again below
    record(64, {"held out": 0.2, "flowers, held out": 1.4}),
  ]
  (tmp_path / "photograph_yardsticks.jsonl").write_text(
    "\n".join(map(json.dumps, lines))
  )
  table = photograph_yardstick_tables.photographs_yardsticks()
  header, _, first, second, _, caption = table.splitlines()
  assert header == "| measured as samples | clothing, 64 | clothing, 128 |"
  assert first == "| held out | 0.20 (0.50) | 0.30 (0.50) |"
  assert second == "| flowers, held out | 1.40 (0.50) |  |"
  assert "64 pixels: 100 training images (1111111111111111), 20 held" in caption
  lines.append(lines[0] | {"seed": 1})
  (tmp_path / "photograph_yardsticks.jsonl").write_text(
    "\n".join(map(json.dumps, lines))
  )
  with pytest.raises(ValueError, match="measure all of them again"):
    photograph_yardstick_tables.photographs_yardsticks()
