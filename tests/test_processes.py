# SPDX-License-Identifier: Apache-2.0
"""Several real processes: they train as one does, and end as one does."""

import concurrent.futures
import json

import numpy as np
import PIL.Image
import pytest
import real_runs

# Sums in another order. Adam magnifies that where gradients are near zero.
RTOL = 1e-5

TINY = (
  *real_runs.TINY,
  "--config.train.batch_size=8",
  "--config.train.total_steps=10",
  "--config.train.checkpoint_every_steps=10",
  "--config.train.sample_every_steps=10",
)


def columns(records):
  names = "step", "loss", "eps_mse", "v_mse", "grad_norm"
  return np.array([[record[name] for name in names] for record in records])


@pytest.fixture(scope="module")
def one(tmp_path_factory):
  """The folder of a run in one process, on one device."""
  workdir = tmp_path_factory.mktemp("one")
  real_runs.finish([real_runs.start(*TINY, f"--workdir={workdir}")])
  return workdir


@pytest.fixture(
  scope="module",
  params=[pytest.param(n, marks=pytest.mark.slow) for n in ((2, 2), (4, 1))],
  ids=str,
)
def many(request, tmp_path_factory):
  """The folder of a run in processes of some devices, and what they printed."""
  num_processes, num_devices = request.param
  workdir = tmp_path_factory.mktemp("many")
  printed = real_runs.finish(
    real_runs.start_many(
      num_processes,
      *TINY,
      f"--workdir={workdir}",
      # Copies and parts, each over processes and within one.
      "--config.mesh.fsdp=2",
      num_devices=num_devices,
    )
  )
  return workdir, printed


def test_curve_of_one_process(one, many):
  expected = columns(real_runs.records(one))
  assert expected[:, 0].tolist() == [2, 4, 6, 8, 10]
  np.testing.assert_allclose(
    columns(real_runs.records(many[0])), expected, rtol=RTOL
  )


def test_samples_of_one_process(one, many):
  for workdir in (one, many[0]):
    (path,) = (workdir / "samples").iterdir()
    assert path.name == "step_00000010.png"
  with PIL.Image.open(path) as ours:
    with PIL.Image.open(one / "samples" / path.name) as theirs:
      difference = np.int32(ours) - np.int32(theirs)
  assert np.abs(difference).max() <= 1  # of 255: float32 that was rounded


def test_one_process_writes_and_prints(many):
  workdir, (first, *others) = many
  assert f"done: {workdir}" in first and "total" in first
  for printed in others:
    assert "done" not in printed and "total" not in printed
  assert len(list((workdir / "tensorboard").iterdir())) == 1
  environment = json.loads((workdir / "environment.json").read_text())
  assert environment["num_processes"] == len(others) + 1
  assert len(environment["devices"]) == 4
  assert not (workdir / "lock.json").exists()


# name: (what process 1 gets, what the message of process 0 says)
MISTAKES = {
  "another_config": (
    ["--config.optim.lr=0.5", "--config.model.num_heads=1"],
    "the processes disagree: config.model.num_heads is 2 in process 0, 1 in "
    "process 1; config.optim.lr is 0.001 in process 0, 0.5 in process 1.",
  ),
  "misspelt_key": (
    ["--config.optim.lrr=1"],
    "process 1: --config.optim.lrr: there is no key 'lrr'. Did you mean",
  ),
  "bad_workdir": (
    ["--workdir={tmp}/file/run"],
    "process 1: --workdir={tmp}/file/run can't be written to",
  ),
  "another_workdir": (
    ["--workdir={tmp}/another"],
    "process 1: --workdir={tmp}/another is not the folder that process 0 has",
  ),
}


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
  """Of each mistake: the folder, and how both processes ended."""
  tmp = tmp_path_factory.mktemp("mistakes")
  (tmp / "file").touch()

  def run(name):
    extra = [arg.format(tmp=tmp) for arg in MISTAKES[name][0]]
    children = real_runs.start_many(
      2, *TINY, f"--workdir={tmp}/{name}", of={1: extra}
    )
    return tmp, real_runs.end(children)

  with concurrent.futures.ThreadPoolExecutor(2) as pool:
    return dict(zip(MISTAKES, pool.map(run, MISTAKES), strict=True))


@pytest.mark.slow
def test_hosts_have_as_many_devices_each(tmp_path):
  port = real_runs.free_port()
  children = [
    real_runs.start(
      *TINY,
      f"--workdir={tmp_path / 'run'}",
      "--distributed",
      f"--coordinator_address=127.0.0.1:{port}",
      "--num_processes=2",
      f"--process_id={i}",
      num_devices=i + 1,
    )
    for i in range(2)
  ]
  for code, _, err in real_runs.end(children):
    assert code == 2 and "Traceback" not in err, err
    assert "process 0: 1 device(s), process 1: 2 device(s); give" in err


@pytest.mark.slow
@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_in_one_process_ends_all(outcomes, name):
  tmp, ended = outcomes[name]
  words = MISTAKES[name][1].format(tmp=tmp)
  assert words in ended[0][2]
  assert words.removeprefix("process 1: ") in ended[1][2]
  for code, _, err in ended:
    assert code == 2
    assert err.count("error: ") == 1 and "Traceback" not in err
  assert not real_runs.steps(tmp / name)  # before anything was trained


@pytest.mark.parametrize(
  "args, words",
  [
    (["--process_id=1"], "go together, with --distributed"),
    (
      ["--distributed", "--num_processes=2", "--process_id=1"],
      "--coordinator_address, --num_processes and --process_id go together",
    ),
    (
      [
        "--distributed",
        "--coordinator_address=127.0.0.1:9",
        "--num_processes=2",
        "--process_id=2",
      ],
      "--process_id=2 must be below --num_processes=2",
    ),
    (
      [
        "--distributed",
        "--coordinator_address=here",
        "--num_processes=2",
        "--process_id=1",
      ],
      "--coordinator_address=here must be host:port",
    ),
    (
      [
        "--distributed",
        "--coordinator_address=127.0.0.1:9",  # where nobody listens
        "--num_processes=2",
        "--process_id=1",
        "--join_timeout_s=1",
      ],
      "the other processes were not found (none for 1 seconds); start all",
    ),
  ],
)
def test_how_to_join(args, words, tmp_path):
  children = [real_runs.start(*TINY, f"--workdir={tmp_path}/run", *args)]
  ((code, _, err),) = real_runs.end(children)
  assert code == (69 if "--join_timeout_s=1" in args else 2)
  assert err.startswith("error: ") and words in err and err.count("\n") == 1
  assert not (tmp_path / "run").exists()


ROWS = """
import sys
import jax
import numpy as np
from simple_diffusion import sharding

jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
batch = np.arange(24, dtype=np.float32).reshape(8, 3) ** 2
# As the wires of a TPU would have it: processes 1, 0, 0, 1.
devices = [jax.devices()[i] for i in (2, 0, 1, 3)]
for num_data, num_fsdp in ((4, 1), (2, 2), (1, 4)):
  mesh = sharding.make_mesh(data=num_data, fsdp=num_fsdp, devices=devices)
  by_example = sharding.by_example(mesh)
  order = [device.process_index for device in mesh.devices.flat]
  assert order == [1, 0, 0, 1], order
  rows = sharding.local_rows(by_example, 8)
  expected = [[2, 3, 4, 5], [0, 1, 6, 7]][jax.process_index()]
  assert rows.tolist() == expected, rows
  array = sharding.to_devices({"image": batch[rows]}, by_example)["image"]
  assert array.shape == (8, 3)
  whole = jax.jit(lambda a: a, out_shardings=sharding.whole(mesh))(array)
  np.testing.assert_array_equal(whole, batch)
jax.distributed.shutdown()
"""


def test_batch_is_the_same_in_whatever_order_devices_are():
  address = f"127.0.0.1:{real_runs.free_port()}"
  children = [
    real_runs.start_python(["-c", ROWS, address, str(process)], num_devices=2)
    for process in (0, 1)
  ]
  real_runs.finish(children)
