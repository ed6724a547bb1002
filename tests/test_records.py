# SPDX-License-Identifier: Apache-2.0
"""What a run leaves on disk, and the numbers that are made of it."""

import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import PIL.Image
import pytest
from tensorboardX.proto import event_pb2

from experiments import grids
from experiments import records
from experiments import workdir as workdir_lib
from simple_diffusion import checkpoints
from simple_diffusion import sharding
from simple_diffusion import train


def write_records(folder, steps, *, start_step=0):
  with records.open_records(folder, start_step=start_step) as write:
    for step in steps:
      write({"step": step, "loss": step / 8})


def read_records(folder):
  lines = (folder / "metrics.jsonl").read_text().splitlines()
  return [(r["step"], r["loss"]) for r in map(json.loads, lines)]


@pytest.mark.parametrize(
  "torn", ["", '{"step": 8, "lo', '{"step": 8', "{", "\n"]
)
def test_resumed_record_has_no_gap_and_no_duplicate(tmp_path, torn):
  write_records(tmp_path, [2, 4, 6])
  with open(tmp_path / "metrics.jsonl", "a") as file:
    file.write(torn)  # A kill in the middle of a write.
  write_records(tmp_path, [6, 8], start_step=4)
  assert read_records(tmp_path) == [(n, n / 8) for n in (2, 4, 6, 8)]


def test_new_run_drops_a_record_without_checkpoint(tmp_path):
  write_records(tmp_path, [2, 4])
  write_records(tmp_path, [2])
  assert read_records(tmp_path) == [(2, 0.25)]


def test_records_are_on_disk_at_once(tmp_path):
  with records.open_records(tmp_path, start_step=0) as write:
    write({"step": 2, "loss": 0.25})
    assert read_records(tmp_path) == [(2, 0.25)]


def test_results_are_appended_line_by_line(tmp_path):
  path = tmp_path / "new" / "folder" / "results.jsonl"
  results = [{"name": "a", "values": [1, 2.5]}, {"name": "b\n", "of": None}]
  for result in results:
    records.append_result(path, result)
  assert [json.loads(line) for line in path.read_text().splitlines()] == results
  before = path.read_text()
  with pytest.raises(TypeError, match="JSON serializable"):
    records.append_result(path, {"good": 1, "bad": np.float32(1)})
  assert path.read_text() == before


def test_tensorboard_has_the_same_numbers(tmp_path):
  write_records(tmp_path, [2, 4])
  (path,) = (tmp_path / "tensorboard").iterdir()
  assert "tfevents" in path.name
  data, scalars = path.read_bytes(), []
  while data:  # TFRecord: length, its checksum, the event, its checksum.
    (length,) = struct.unpack("<Q", data[:8])
    event = event_pb2.Event.FromString(data[12 : 12 + length])
    data = data[16 + length :]
    scalars += [
      (event.step, v.tag, v.simple_value) for v in event.summary.value
    ]
  assert scalars == [(2, "loss", 0.25), (4, "loss", 0.5)]


def test_grid(tmp_path):
  batch = np.stack([np.full((32, 32, 3), 16 * n, np.uint8) for n in range(5)])
  grids.save_grid(tmp_path / "new" / "grid.png", batch, num_columns=3)
  pixels = np.asarray(PIL.Image.open(tmp_path / "new" / "grid.png"))
  # 2 x 3 places, twice enlarged, a black pixel around each.
  assert pixels.shape == (2 * 65 + 1, 3 * 65 + 1, 3)
  values = pixels[32::65, 32::65, 0]
  np.testing.assert_array_equal(values, [[0, 16, 32], [48, 64, 0]])
  assert not pixels[::65].any() and not pixels[:, ::65].any()


@pytest.mark.parametrize("name", ["grid.png", "grid.jpg"])
def test_a_grid_is_whole_or_not_there(tmp_path, monkeypatch, name):
  save = PIL.Image.Image.save

  def cut(image, path, **options):
    save(image, path, **options)
    raise SystemExit(75)

  monkeypatch.setattr(PIL.Image.Image, "save", cut)
  with pytest.raises(SystemExit):
    grids.save_grid(
      tmp_path / name, np.zeros((1, 64, 64, 3), np.uint8), num_columns=1
    )
  assert not (tmp_path / name).exists()


def test_columns_of_a_grid():
  assert [grids.columns_of(n) for n in (0, 5, 32, 33, 1_000)] == [
    *(10, 5, 32, 10, 10)
  ]


class Momentum(NamedTuple):
  count: jax.Array
  trace: dict


def make_state(seed, width=64):
  rng = np.random.default_rng(seed)
  params = {
    "dense": {"kernel": rng.normal(size=(width, 9)), "bias": rng.normal(size=9)}
  }
  params = jax.tree.map(jnp.float32, params)
  return train.TrainState(
    seed=jnp.uint32(seed),
    step=jnp.int32(seed),
    params=params,
    ema_params=jax.tree.map(lambda a: a / 3, params),
    opt_state=(Momentum(jnp.int32(seed), jax.tree.map(jnp.exp, params)), ()),
    halted=jnp.bool_(False),
  )


def abstract(state):
  return sharding.laid_out(
    state, jax.sharding.SingleDeviceSharding(jax.devices()[0])
  )


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
  """A folder with checkpoints 1, 2 and 3, of which two are kept."""
  folder = tmp_path_factory.mktemp("saved")
  with checkpoints.open_manager(folder, keep=2) as manager:
    for step in (1, 2, 3):
      checkpoints.save(manager, step, make_state(step))
    manager.wait_until_finished()
  return folder


@pytest.fixture
def copied(saved, tmp_path):
  return shutil.copytree(saved, tmp_path / "run")


def test_newest_are_kept_bit_for_bit(saved):
  with checkpoints.open_manager(saved, keep=2) as manager:
    assert sorted(manager.all_steps()) == [2, 3]
    for step in (2, 3):
      state = make_state(step)
      restored = checkpoints.restore(manager, step, abstract(state))
      chex.assert_trees_all_equal_dtypes(restored, state)
      chex.assert_trees_all_equal(restored, state)
      assert type(restored.opt_state[0]) is Momentum


def test_save_copies_what_the_next_step_donates(tmp_path):
  state = make_state(1)
  expected = jax.tree.map(np.array, state)
  with checkpoints.open_manager(tmp_path, keep=1) as manager:
    checkpoints.save(manager, 1, state)
    jax.tree.map(lambda a: a.delete(), state)
    manager.wait_until_finished()
    restored = checkpoints.restore(manager, 1, abstract(make_state(1)))
  chex.assert_trees_all_equal(restored, expected)


def test_killed_save_leaves_the_one_before_and_can_be_repeated(copied):
  folder = copied / "checkpoints"
  shutil.copytree(folder / "3", folder / "4.orbax-checkpoint-tmp")
  with checkpoints.open_manager(copied, keep=2) as manager:
    assert manager.latest_step() == 3
    checkpoints.save(manager, 4, make_state(4))
    manager.wait_until_finished()
    assert manager.latest_step() == 4
    restored = checkpoints.restore(manager, 4, abstract(make_state(4)))
  chex.assert_trees_all_equal(restored, make_state(4))


def files_of_a_checkpoint(folder):
  root = folder / "checkpoints" / "3"
  return sorted(p for p in root.rglob("*") if p.is_file())


def outcome(read, expected):
  try:
    restored = read()
  except ValueError as error:
    return str(error)
  same = jax.tree.map(np.array_equal, restored, expected)
  return "same" if all(jax.tree.leaves(same)) else "different"


def read(folder, width=64):
  """What comes of reading step 3: the state, the averaged parameters."""
  state = make_state(3, width)
  with checkpoints.open_manager(folder, keep=2) as manager:
    whole = outcome(
      lambda: checkpoints.restore(manager, 3, abstract(state)), state
    )
  ema = outcome(
    lambda: checkpoints.restore_ema_params(folder, abstract(state).params)[0],
    state.ema_params,
  )
  return [whole, ema]


def read_damaged(saved, scratch):
  """{damage: what comes of reading it}, the damage being files cut in half."""
  saved, scratch = pathlib.Path(saved), pathlib.Path(scratch)
  files = [path.relative_to(saved) for path in files_of_a_checkpoint(saved)]
  damages = {str(path): [path] for path in files}
  damages["numbers"] = [path for path in files if path.parent.name == "d"]
  found = {"other network": read(saved, width=65)}
  for name, damaged in damages.items():
    folder = shutil.copytree(saved, scratch / name.replace("/", "_"))
    for path in damaged:
      content = (folder / path).read_bytes()
      (folder / path).write_bytes(content[: len(content) // 2])
    found[name] = read(folder)
  return found


@pytest.fixture(scope="module")
def damaged(saved, tmp_path_factory):
  """`read_damaged` in a process of its own: Orbax, failing, leaks coroutines.

  They warn whenever they are collected, be it in another test.
  """
  program = (
    "import json, sys, test_records;"
    "print(json.dumps(test_records.read_damaged(*sys.argv[1:])))"
  )
  here = pathlib.Path(__file__).parent
  done = subprocess.run(
    [sys.executable, "-c", program, saved, tmp_path_factory.mktemp("damaged")],
    env=os.environ | {"PYTHONPATH": f"{here}{os.pathsep}{here.parent}"},
    stdout=subprocess.PIPE,
    check=True,
    timeout=60,
  )
  return json.loads(done.stdout)


def test_cut_checkpoint_is_an_error_that_names_folder_and_remedy(damaged):
  for error in damaged["numbers"]:
    assert "/numbers/checkpoints/3 can't be read (" in error
    assert "move that folder away and rerun to go on from step 2" in error


def test_a_cut_file_is_noticed_or_does_not_matter(damaged):
  num_noticed = 0
  for name, outcomes in damaged.items():
    for error in outcomes:
      assert error == "same" or "checkpoints/3 can't be read (" in error, name
    num_noticed += outcomes[0] != "same"
  assert num_noticed >= 5


def test_checkpoint_of_another_network(damaged):
  for error in damaged["other network"]:
    assert "checkpoints/3 can't be read (" in error


@pytest.mark.parametrize(
  "error, words",
  [
    (ValueError("RESOURCE_EXHAUSTED: 9 GiB"), "does not fit into memory (RES"),
    (MemoryError(), "does not fit into memory (MemoryError); split it"),
    (PermissionError(13, "no"), "may not be read ([Errno 13] no); ask"),
    (KeyError(), "can't be read (KeyError); move that folder away"),
    (
      ValueError("Bad chunk. See full TensorStore details: <bound method>"),
      "can't be read (Bad chunk.); move that folder away",
    ),
  ],
)
def test_only_damage_is_a_reason_to_go_back(monkeypatch, copied, error, words):
  def fail(*args, **kwargs):
    raise error

  with checkpoints.open_manager(copied, keep=2) as manager:
    monkeypatch.setattr(manager, "restore", fail)
    with pytest.raises(ValueError) as raised:
      checkpoints.restore(manager, 3, abstract(make_state(3)))
  assert f"checkpoints/3 {words}" in str(raised.value)


def test_the_remedy_works(copied):
  folder = copied / "checkpoints" / "3"
  folder.rename(folder.parent / "3.broken")
  with checkpoints.open_manager(copied, keep=2) as manager:
    assert manager.latest_step() == 2
    restored = checkpoints.restore(manager, 2, abstract(make_state(2)))
  chex.assert_trees_all_equal(restored, make_state(2))


@pytest.mark.parametrize("asked, got", [(None, 3), (3, 3), (2, 2)])
def test_averaged_parameters_alone(saved, asked, got):
  params = abstract(make_state(0)).params
  ema, step = checkpoints.restore_ema_params(saved, params, step=asked)
  assert step == got
  chex.assert_trees_all_equal(ema, make_state(got).ema_params)


def test_missing_checkpoints(saved, tmp_path):
  params = abstract(make_state(0)).params
  with pytest.raises(FileNotFoundError, match=r"no checkpoint 1.*\[2, 3\]"):
    checkpoints.restore_ema_params(saved, params, step=1)
  with pytest.raises(FileNotFoundError, match="does not exist: train first"):
    checkpoints.restore_ema_params(tmp_path, params)
  (tmp_path / "checkpoints").mkdir()
  with pytest.raises(FileNotFoundError, match="none yet"):
    checkpoints.restore_ema_params(tmp_path, params)


def make_config(**optim):
  return ml_collections.ConfigDict(
    {
      "data": {
        "name": "digits",
        "split": "train",
        "data_dir": None,
        "num_threads": 1,
      },
      "model": {"channel_multiplier": (1, 2)},
      "optim": {"lr": 1e-3, **optim},
      "train": {"seed": 0, "total_steps": 10},
      "sample": {"method": "ddim", "guidance_interval": None},
    }
  )


def test_workdir_of_the_same_config(tmp_path):
  path = workdir_lib.check(str(tmp_path / "a" / "b"), make_config(), 9)
  workdir_lib.claim(path, make_config(), 9)
  assert workdir_lib.check(str(path), make_config(), 9) == path
  changed = make_config()
  changed.train.total_steps = 20
  changed.data.num_threads = 8
  changed.data.data_dir = "/elsewhere"
  changed.sample.method = "heun"
  assert workdir_lib.check(str(path), changed, 9) == path


def test_workdir_of_another_config(tmp_path):
  workdir_lib.claim(
    workdir_lib.check(str(tmp_path), make_config(), 9), make_config(), 9
  )
  changed = make_config(lr=2e-3, b1=0.5)
  changed.model.channel_multiplier = (1, 4)
  with pytest.raises(ValueError) as error:
    workdir_lib.check(str(tmp_path), changed, 9)
  for part in (
    str(tmp_path),
    "config.optim.lr is 0.001 there, 0.002 here",
    "config.optim.b1 is None there, 0.5 here",
    "config.model.channel_multiplier is [1, 2] there, [1, 4] here",
    "Use another --workdir",
  ):
    assert part in str(error.value)
  assert "seed" not in str(error.value)
  # Of two jobs that found a fresh folder, the second to have the lock.
  with pytest.raises(ValueError, match="holds a run of another config"):
    workdir_lib.claim(tmp_path, changed, 9)


def test_workdir_of_other_images(tmp_path):
  config = make_config()
  workdir_lib.claim(tmp_path, config, 3068)
  assert workdir_lib.check(str(tmp_path), config, 3068) == tmp_path
  message = "3,068 images.*'train' of digits has 3,069 now.*data_dir"
  with pytest.raises(ValueError, match=message):
    workdir_lib.check(str(tmp_path), config, 3069)
  with pytest.raises(ValueError, match=message):
    workdir_lib.claim(tmp_path, config, 3069)


def test_a_run_of_before_images_were_counted_passes(tmp_path):
  config = make_config()
  workdir_lib.require_images(tmp_path, config, 3068)  # nothing there
  workdir_lib.write_json(tmp_path / "environment.json", {"python": "3.11"})
  workdir_lib.require_images(tmp_path, config, 3068)


def test_config_comes_back(tmp_path):
  config = make_config()
  workdir_lib.claim(tmp_path, config, 9)
  loaded = workdir_lib.load_config(str(tmp_path))
  assert loaded.to_json(sort_keys=True) == config.to_json(sort_keys=True)
  with pytest.raises(FileNotFoundError, match="config.json.*train first"):
    workdir_lib.load_config(str(tmp_path / "nothing"))


def test_environment(tmp_path, monkeypatch):
  monkeypatch.setenv("XLA_FLAGS", "--some_flag")
  workdir_lib.claim(tmp_path, make_config(), 9)
  environment = json.loads((tmp_path / "environment.json").read_text())
  assert environment["command"][:2] == ["python", "-m"]
  assert environment["command"][3:] == sys.argv[1:]
  assert environment["versions"]["jax"] == jax.__version__
  assert environment["versions"]["numpy"] == np.__version__
  assert environment["devices"] == ["cpu"]
  assert environment["num_processes"] == 1
  assert environment["num_images"] == 9
  assert environment["xla_flags"] == "--some_flag"
  assert environment["python"].startswith("3.")


def test_git_sha_is_head(monkeypatch):
  root = pathlib.Path(workdir_lib.__file__).parent.parent
  if not (root / ".git").is_dir():
    pytest.skip("not a clone")
  head = (root / ".git" / "HEAD").read_text().strip()
  if head.startswith("ref: "):
    head = (root / ".git" / head[5:]).read_text().strip()
  assert workdir_lib.git_sha().removesuffix("-dirty") == head[:12]
  monkeypatch.setenv("PATH", "")
  assert workdir_lib.git_sha() is None


def test_appended_results_are_not_changed_code(monkeypatch, tmp_path):
  def git(*args):
    names = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    command = ["git", "-C", str(tmp_path), *names, *args]
    subprocess.run(command, check=True, capture_output=True)

  code = tmp_path / "experiments" / "workdir.py"
  lines = tmp_path / "experiments" / "results" / "some.jsonl"
  lines.parent.mkdir(parents=True)
  for path in (code, lines):
    path.write_text("1\n")
  git("init", "-q")
  git("add", ".")
  git("commit", "-qm", "all")
  monkeypatch.setattr(workdir_lib, "__file__", str(code))
  head = workdir_lib.git_sha()
  assert len(head) == 12
  lines.write_text("1\n2\n")
  assert workdir_lib.git_sha() == head
  code.write_text("2\n")
  assert workdir_lib.git_sha() == f"{head}-dirty"
