# SPDX-License-Identifier: Apache-2.0
"""Points of a sweep: lists in configs, checks before a launch, names."""

import importlib
import re

import pytest

from configs import digits
from configs import points as lists
from experiments import checks
from scripts.sweep import here
from scripts.sweep import names
from scripts.sweep import points as points_lib

DIGITS = "configs/digits.py"


def test_lists():
  a, b = lists.over("o.a", (1, 2)), lists.over("o.b", ("x", "y"))
  assert lists.product(a, b) == [
    {"o.a": 1, "o.b": "x"},
    {"o.a": 1, "o.b": "y"},
    {"o.a": 2, "o.b": "x"},
    {"o.a": 2, "o.b": "y"},
  ]
  assert lists.zipped(a, b) == [
    {"o.a": 1, "o.b": "x"},
    {"o.a": 2, "o.b": "y"},
  ]
  assert lists.chain(a, b) == [
    {"o.a": 1},
    {"o.a": 2},
    {"o.b": "x"},
    {"o.b": "y"},
  ]
  assert lists.fixed(optim=dict(lr=1.0), train=dict(seed=2, n=3)) == [
    {"optim.lr": 1.0, "train.seed": 2, "train.n": 3}
  ]
  assert lists.product() == [{}]
  with pytest.raises(ValueError, match="o.a is set by two"):
    lists.product(a, a)
  with pytest.raises(ValueError, match="2, 1 points"):
    lists.zipped(a, lists.over("o.c", (1,)))


@pytest.mark.parametrize(
  "file,num_points",
  [
    (DIGITS, 6),
    ("configs/images.py:64", 4),
    ("configs/images.py:128", 6),
    ("configs/imagenet.py:128,unet", 3),
    ("configs/imagenet.py:256,unet", 4),
    ("configs/imagenet.py:512,uvit", 4),
    ("configs/photographs.py:256,table2", 15),
    ("configs/photographs.py:128,table5", 15),
    ("configs/photographs.py:64,table6", 6),
    ("configs/photographs.py:64,table3,small", 12),
  ],
)
def test_sweeps_of_configs_take(file, num_points, monkeypatch):
  # Shapes are traced for digits only, here; the overrides are none of shapes.
  if file != DIGITS:
    monkeypatch.setattr(points_lib, "_trace", lambda *_: None)
  points = points_lib.load(file, {})
  assert len({point.name for point in points}) == num_points
  for point in points:
    parsed = points_lib.parse_config(
      file, {key: str(value) for key, value in point.overrides.items()}
    )
    assert parsed == point.config
    for key, value in point.overrides.items():
      section, _, field = key.partition(".")
      assert parsed[section][field] == value
    with pytest.raises(AttributeError):
      parsed.train.unknown = 1


def test_sizes_of_table_2():
  imagenet = importlib.import_module("configs.imagenet")
  references = [
    point["schedule.ref_at_noise"] for point in imagenet.sweep("256,unet")
  ]
  assert references == [256.0, 128.0, 64.0, 32.0]  # 256: the plain cosine
  with pytest.raises(ValueError, match="99,unet"):
    imagenet.sweep("99,unet")


# What a sweep() returns, and what is said of it.
MISTAKES = (
  ({"optim.lr": 1e-4}, None),
  ({"optim.lrr": 1}, "no key optim.lrr; did you mean optim.lr?"),
  ({"train.lr": 1}, "no key train.lr; did you mean optim.lr?"),
  ({"optim.lr": "fast"}, "optim.lr=fast must be a number, such as 0.001"),
  ({"optim": 1}, "optim is a section"),
  ({"optim.lr": "0.0001"}, "the same as point 1"),
  (
    {"train.batch_size": 1.5},
    "train.batch_size=1.5 must be an integer, such as 64",
  ),
  ({"data.random_flip": "x"}, "data.random_flip=x must be true or false"),
  ({"model.channel_multiplier": (1, "a")}, "=(1, 'a') must be numbers, such"),
  ({"model.num_heads": 5}, "num_heads=5 does not divide"),
  ({"model.patching": "dwt_9"}, "dwt_9"),
  ({"train.log_every_steps": 3}, "multiple of log_every_steps=3"),
  ({"objective.multiscale_base": None}, "flags cannot say None"),
  ({"optim.lr": -1.0}, "optim.lr=-1.0 must be above 0"),
  ({"train.seed": 5}, "train.seed is swept, and set for all"),
)


def write_config(folder, sweep):
  path = folder / "mine.py"
  path.write_text(
    "from configs import digits\n"
    "get_config = digits.get_config\n"
    f"def sweep():\n  return {sweep!r}\n"
  )
  return str(path)


def test_all_mistakes_at_once(tmp_path):
  path = write_config(tmp_path, [overrides for overrides, _ in MISTAKES])
  with pytest.raises(ValueError) as caught:
    points_lib.load(path, {"train.seed": 3})
  lines = str(caught.value).splitlines()
  expected = [i for i, (_, words) in enumerate(MISTAKES, 1) if words]
  assert len(lines) == len(expected)
  for line, number in zip(lines, expected, strict=True):
    assert line.startswith(f"point {number} of {len(MISTAKES)} (")
    assert MISTAKES[number - 1][1] in line


# Keys, values, and what is said of them.
OUT_OF_RANGE = (
  ("data.crop", "centre", "data.crop=centre: .*center, random, squash"),
  ("data.num_threads", 0, "data.num_threads=0 must be at least 1"),
  ("train.seed", -1, "train.seed=-1 must be within 0..2"),
  ("train.seed", 2**32, "train.seed=4294967296 must be within"),
  ("train.ema_decay", 1.0, "train.ema_decay=1.0 must be .* below 1"),
  ("train.ema_decay", -0.1, "train.ema_decay=-0.1 must be at least 0"),
  ("train.keep_checkpoints", 0, "train.keep_checkpoints=0 must be at least 1"),
  ("eval.batch_size", 0, "eval.batch_size=0 must be at least 1"),
  ("optim.lr", 0.0, "optim.lr=0.0 must be above 0"),
  ("optim.lr", float("nan"), "optim.lr=nan must be above 0"),
  ("optim.lr", float("inf"), "optim.lr=inf must be above 0 and finite"),
)


@pytest.mark.parametrize("key,value,words", OUT_OF_RANGE)
def test_values_out_of_range(key, value, words):
  config = digits.get_config()
  checks.check_values(config)
  section, _, name = key.partition(".")
  config[section][name] = value
  with pytest.raises(ValueError, match=words):
    checks.check_shapes(config)
  with pytest.raises(ValueError, match=words):
    checks.check_train(config, 1)


def test_this_machine(tmp_path, monkeypatch):
  lists_of_names = [{"data.split": s} for s in ("train", "trian", "test")]
  monkeypatch.setattr(points_lib, "_trace", lambda *_: None)
  points = points_lib.load(write_config(tmp_path, lists_of_names), {})
  with pytest.raises(ValueError) as caught:
    here.check_sources(points)
  (line,) = str(caught.value).splitlines()
  assert (
    line.startswith("point 2 of 3 (split=trian): ") and "train, test" in line
  )
  here.check_sources(points[::2])
  # What points will find, by a process like theirs.
  monkeypatch.setenv("JAX_PLATFORMS", "cpu")
  monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=3")
  assert here.visible_devices() == ("cpu", 3)
  # 128 examples do not go into 3 devices, but into one.
  with pytest.raises(ValueError, match="point 1 of 1 .* on 3 devices here: t"):
    here.check(points[:1], ())
  here.check(points[:1], ("0",))
  monkeypatch.setenv("JAX_PLATFORMS", "abacus")
  with pytest.raises(ValueError, match="no devices here: .*abacus"):
    here.visible_devices()


def test_points_in_parallel_need_a_gpu_each(tmp_path, monkeypatch):
  monkeypatch.setattr(points_lib, "_trace", lambda *_: None)
  points = points_lib.load(write_config(tmp_path, [{"train.seed": 1}]), {})
  monkeypatch.setattr(here, "visible_devices", lambda: ("gpu", 2))
  with pytest.raises(ValueError, match="--parallel=2 without .* --gpus=0,1"):
    here.check(points, (), 2)
  here.check(points, (), 1)
  here.check(points, ("0", "1"), 2)
  monkeypatch.setattr(here, "visible_devices", lambda: ("cpu", 2))
  here.check(points, (), 2)


def test_what_points_share_is_told_once():
  errors = [(1, "a", "x"), (2, "b", "y"), (3, "c", "x")]
  assert points_lib.grouped(errors, 4) == [
    ("points 1, 3 of 4", "x"),
    ("point 2 of 4 (b)", "y"),
  ]
  with pytest.raises(ValueError, match="^all 2 points here: x$"):
    points_lib.raise_all([(1, "a", "x"), (2, "b", "x")], 2, " here")
  points_lib.raise_all([], 2)


@pytest.mark.parametrize(
  "name,data_dir,words",
  [
    ("imagenet2012", None, "imagenet2012 needs a data_dir; give --config.data"),
    ("folder", None, "folder needs a data_dir"),
    ("folder", "gs://b/tfds", "data_dir gs://b/tfds must be a folder; give --"),
    ("imagenet2012", "/mnt/sweep/tfds", None),
    ("digits", None, None),
  ],
)
def test_data_of_rented_machines(name, data_dir, words):
  config = digits.get_config()
  config.data.name, config.data.data_dir = name, data_dir
  points = [points_lib.Point(n, {}, (), config) for n in "ab"]
  if words is None:  # Whether the folder is there, only they can tell.
    points_lib.check_data(points, "/mnt/sweep")
    return
  with pytest.raises(ValueError) as caught:
    points_lib.check_data(points, "/mnt/sweep")
  (line,) = str(caught.value).splitlines()
  assert line.startswith(f"all 2 points: {words}")
  assert "--config.data.data_dir=/mnt/sweep/FOLDER" in line


def test_configs_that_cannot_be_swept(tmp_path):
  with pytest.raises(ValueError, match="cifar10.py has no sweep()"):
    points_lib.load("configs/cifar10.py", {})
  with pytest.raises(ValueError, match="no such Python file"):
    points_lib.load("configs/missing.py", {})
  with pytest.raises(ValueError, match="at least one"):
    points_lib.load(write_config(tmp_path, []), {})


KEYS = (
  "optim.lr",
  "train.seed",
  "train.batch_size",
  "eval.batch_size",
  "a.b.c",
)


def test_names_are_short_and_lasting():
  assert names.short_key("optim.lr", KEYS) == "lr"
  assert names.short_key("train.batch_size", KEYS) == "train.batch_size"
  assert names.short_key("a.b.c", KEYS) == "c"
  assert names.short_key("a.b.c", (*KEYS, "x.c")) == "b.c"
  # In the order of keys, however they were written.
  one = names.point_name({"train.seed": 1, "optim.lr": 3e-4}, KEYS)
  assert one == names.point_name({"optim.lr": 3e-4, "train.seed": 1}, KEYS)
  assert one == "lr=0.0003,seed=1"
  assert names.point_name({}, KEYS) == "default"
  assert names.point_name({"a.b.c": (1, 2)}, KEYS) == "c=1-2"


def test_a_point_keeps_its_name_among_others(tmp_path, monkeypatch):
  monkeypatch.setattr(points_lib, "_trace", lambda *_: None)
  few = write_config(tmp_path, [{"train.batch_size": 8}])
  (alone,) = points_lib.load(few, {})
  many = write_config(
    tmp_path, [{"eval.batch_size": 8}, {"train.batch_size": 8}]
  )
  assert points_lib.load(many, {})[1].name == alone.name == "train.batch_size=8"


def test_hash_only_if_something_is_left_out():
  safe = re.compile(r"[A-Za-z0-9._+=,-]+")
  odd = [{"a.b.c": text} for text in ("a/b", "a_b", "a b", "", "../x")]
  odd += [{"a.b.c": ("a-b", "c")}, {"a.b.c": ("a", "b-c")}]
  odd += [{"a.b.c": "long" * 99}, {"a.b.c": "long" * 99 + "er"}]
  made = [names.point_name(overrides, KEYS) for overrides in odd]
  assert len(set(made)) == len(odd)
  for name in made:
    assert safe.fullmatch(name) and len(name) <= names.MAX_LENGTH
  assert made[1] == "c=a_b"
  has_hash = [bool(re.search("-[0-9a-f]{8}$", name)) for name in made]
  assert has_hash == [True, False] + [True] * 7


def test_names_of_resources():
  root = "gs://bucket/digits"
  first = names.resource_id("digits", root, "lr=0.0003,seed=1")
  assert re.fullmatch("digits-lr-0-0003-seed-1-[0-9a-f]{8}", first)
  # What is the same without special characters stays apart.
  assert first != names.resource_id("digits", root, "lr=0.0003,seed-1")
  # Nor is a sweep of another root of the same name.
  assert first != names.resource_id(
    "digits", "gs://b/digits", "lr=0.0003,seed=1"
  )
  long = names.resource_id("s" * 40, root, "x=" + "1" * 100)
  assert re.fullmatch("[a-z][a-z0-9-]{0,59}[a-z0-9]", long)
