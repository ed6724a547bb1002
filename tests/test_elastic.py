# SPDX-License-Identifier: Apache-2.0
"""A run of eight devices goes on with other devices and other processes."""

import shutil

import numpy as np
import pytest
import real_runs

# Sums in another order. Adam magnifies that where gradients are near zero.
RTOL = 1e-5

ARGS = (
  *real_runs.TINY,
  "--config.train.batch_size=16",
  "--config.train.total_steps=8",
  "--config.train.checkpoint_every_steps=4",
  "--config.train.sample_every_steps=8",
)


# On a mesh alone tests/test_sharding.py has these in seconds.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
  """Folder of a run of 8 steps on 2 copies x 4 parts."""
  workdir = tmp_path_factory.mktemp("eight")
  args = *ARGS, f"--workdir={workdir}", "--config.mesh.fsdp=4"
  real_runs.finish([real_runs.start(*args, num_devices=8)])
  return workdir


@pytest.mark.parametrize(
  "num_processes, num_devices, fsdp",
  [
    (1, 1, 1),
    (2, 4, 2),
    (1, 2, 2),
    (1, 4, 1),
    (1, 16, 8),
    (4, 2, 8),
  ],
)
def test_goes_on_elsewhere(eight, tmp_path, num_processes, num_devices, fsdp):
  workdir = shutil.copytree(eight, tmp_path / "run")
  shutil.rmtree(workdir / "checkpoints" / "8")
  args = *ARGS, f"--workdir={workdir}", f"--config.mesh.fsdp={fsdp}"
  if num_processes == 1:
    children = [real_runs.start(*args, num_devices=num_devices)]
  else:
    children = real_runs.start_many(
      num_processes, *args, num_devices=num_devices
    )
  printed = real_runs.finish(children)
  assert f"resuming {workdir} from step 4" in printed[0]
  names = "step", "loss", "eps_mse", "v_mse", "grad_norm"
  ours, theirs = (
    np.array([[r[name] for name in names] for r in real_runs.records(folder)])
    for folder in (workdir, eight)
  )
  assert ours[:, 0].tolist() == [2, 4, 6, 8]
  assert not np.array_equal(ours[2:], theirs[2:])  # It was made again.
  np.testing.assert_allclose(ours, theirs, rtol=RTOL)
  assert real_runs.steps(workdir) == [4, 8]
