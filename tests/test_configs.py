# SPDX-License-Identifier: Apache-2.0
"""Every config is complete, has the paper's numbers, and fits its images."""

import ast
import importlib
import itertools
import json
import pathlib

import chex
import jax
import jax.numpy as jnp
import ml_collections
import pytest

from configs import arguments
from configs import digits
from configs import photographs
from experiments import checks
from simple_diffusion import build
from simple_diffusion import sampler

ROOT = pathlib.Path(__file__).parent.parent

SIZES = (128, 256, 512, 1024)
IMAGENET = [f"imagenet:{n},{net}" for n in SIZES for net in ("uvit", "unet")]
IMAGES = [f"images:{size}" for size in (64, 128, 256, 512)]
# All of its rows are in test_paper_rows.py.
ABLATIONS = ["imagenet_ablations:5,dwt_1"]
PHOTOGRAPHS = [
  "photographs:128,uvit",
  "photographs:256,table2",
  "photographs:64,table4,small",
  "photographs:64,table3,sampled",
]
ALL = ["digits", "cifar10", *IMAGES, *IMAGENET, *ABLATIONS, *PHOTOGRAPHS]
# One of each kind; the rest, up to 12 s of tracing each, is for -m slow.
FAST = {"digits", "cifar10", "images:64", "imagenet:512,uvit"}


def load(name):
  """The config of "<file>" or "<file>:<argument>"."""
  name, _, arg = name.partition(":")
  get_config = importlib.import_module(f"configs.{name}").get_config
  return get_config(arg) if arg else get_config()


def test_all_configs_are_tested():
  here = {path.stem for path in (ROOT / "configs").glob("*.py")}
  # Of studies of losses, not of diffusion; tests/test_loss_*.py have them.
  here = {name for name in here if not name.startswith("loss_")}
  assert here == {name.partition(":")[0] for name in ALL} | {
    "__init__",
    "arguments",
    "common",
    "points",
  }


def test_parts_of_an_argument():
  def split(arg):
    return arguments.split("x", arg, ("a", "b"), (0, 20), variants=("tiny",))

  assert split("b,20") == ["b", "20", ""]
  assert split("a,0,tiny") == ["a", "0", "tiny"]
  for arg in ("", "a", "a,1", "20,a", "a,0,small", "a,0,tiny,tiny"):
    with pytest.raises(ValueError) as caught:
      split(arg)
    assert str(caught.value) == (
      f"configs/x.py:{arg}: the argument is <a|b>,<0|20>, or with ,tiny after "
      "it, such as configs/x.py:a,0"
    )
  assert arguments.split("x", "64", (64,)) == ["64"]
  with pytest.raises(ValueError, match="the argument is <64>, such as"):
    arguments.split("x", "64,", (64,))


@pytest.mark.parametrize("size, own", [(64, 0), (128, 0), (256, 1)])
def test_width_is_of_the_first_level(size, own):
  points = [
    point["model.channel_multiplier"]
    for point in photographs.sweep(f"{size},width")
  ]
  assert points == [(1, 2, 4, 8), (2, 2, 4, 8)] * 3
  config = photographs.get_config(f"{size},width")
  assert config.model.channel_multiplier == points[own]


def test_longer_trainings_have_no_form_of_half_the_width():
  for study, form in itertools.product(("uvit", "unet"), photographs.FORMS):
    error = f"{study},{form}: {form} is for table2"
    with pytest.raises(ValueError, match=error):
      load(f"photographs:64,{study},{form}")


def test_what_is_sampled_has_the_weighting_of_the_longest_training():
  sampled = photographs.get_config("256,table3,sampled")
  assert sampled.objective == photographs.get_config("256,uvit").objective
  small = photographs.get_config("256,table3,small")
  assert sampled.model == small.model
  assert sampled.train.total_steps * sampled.train.batch_size == 9_600
  assert sampled.eval.num_samples == 500
  assert small.objective.weighting == "constant"


def keys(config, section=""):
  return {
    f"{section}{key}"
    for section, fields in config.items()
    for key in fields
    if section != "model"
  }


@pytest.mark.parametrize("name", ALL)
def test_same_keys_everywhere(name):
  config = load(name)
  assert keys(config) == keys(load("common"))
  assert set(config) == set(load("common")) | {"model"}
  config.lock()
  with pytest.raises(AttributeError, match="batchsize"):
    config.train.batchsize = 1


@pytest.mark.parametrize(
  "name",
  [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in ALL],
)
def test_trains_and_samples(name):
  """Shapes of one training step and of sampling, at the config's own size."""
  config = load(name)
  config.lock()
  if config.model.num_classes is None:  # The data set will say.
    config.model.num_classes = 7
  # What is written down is what is built: JSON has lists for tuples.
  written = ml_collections.ConfigDict(json.loads(config.to_json()))
  network = build.make_network(config.model)
  assert build.make_network(written.model) == network
  schedule = build.make_schedule(config)
  assert build.make_schedule(written) == schedule

  shape = build.image_shape(config)
  step_fn = build.make_train_step(config, network)
  state = jax.eval_shape(lambda: build.init_state(config, network, seed=0))
  batch = {
    "image": jax.ShapeDtypeStruct((2, *shape), jnp.float32),
    "label": jax.ShapeDtypeStruct((2,), jnp.int32),
  }
  new_state, metrics = jax.eval_shape(step_fn, state, batch)
  chex.assert_trees_all_equal_shapes_and_dtypes(new_state, state)
  chex.assert_type(jax.tree.leaves((state.params, metrics)), jnp.float32)
  images = jax.eval_shape(
    build.make_sample_fn(config, network),
    state.ema_params,
    sampler.keys_for(0, jnp.arange(2)),
    jnp.zeros(2, jnp.int32),
  )
  chex.assert_shape(images, (2, *shape))
  assert images.dtype == jnp.float32


# arXiv 2301.11093, appendix B.
UVIT = dict(
  name="uvit",
  base_channels=128,
  emb_channels=1024,
  channel_multiplier=(1, 2, 4, 16),
  num_res_blocks=(2, 2, 2),
  num_transformer_blocks=36,
  num_heads=4,
  transformer_dropout=0.2,
  logsnr_input_type="linear",
)
UNET = dict(
  name="unet",
  base_channels=128,
  emb_channels=1024,
  attn_resolutions=(8, 16),
  num_heads=4,
  dropout=0.1,
  dropout_from_resolution=16,
)
OPTIM = dict(
  b1=0.9,
  b2=0.99,
  eps=1e-12,
  warmup_steps=10_000,
  weight_decay=0.0,
  max_grad_norm=1.0,
)
UVIT_TRAIN = dict(batch_size=2048, total_steps=500_000, ema_decay=0.9999)
UNET_TRAIN = dict(batch_size=512, total_steps=2_000_000, ema_decay=0.9999)


def assert_has(section, expected):
  assert {name: section[name] for name in expected} == expected


# arXiv 2301.11093, appendix B.2: U-ViT.
@pytest.mark.parametrize(
  "size, patching", [(128, "none"), (256, "dwt_1"), (512, "dwt_2")]
)
def test_paper_uvit(size, patching):
  config = load(f"imagenet:{size},uvit")
  assert_has(config.model, UVIT | dict(patching=patching, num_classes=1000))
  assert_has(config.optim, OPTIM | dict(lr=1e-4))
  assert_has(config.train, UVIT_TRAIN)
  assert_has(
    config.objective,
    dict(prediction="v", loss_space="v", weighting="constant"),
  )
  assert_has(config.data, dict(name="imagenet2012", image_size=size))


# arXiv 2301.11093, appendix B.1: U-Net; at 512 with the wavelet of two levels,
# the default of table 5. Shifts: tables 2 and 5. Multiscale: table 6.
@pytest.mark.parametrize(
  "size, patching, multiplier, blocks, ref, base",
  [
    (128, "none", (1, 2, 4, 8, 8), (3, 4, 4, 12, 4), 32, None),
    (256, "none", (1, 1, 2, 4, 8, 8), (1, 2, 2, 4, 12, 4), 32, None),
    (512, "dwt_2", (2, 3, 4, 8, 8), (3, 3, 4, 12, 4), 64, 32),
  ],
)
def test_paper_unet(size, patching, multiplier, blocks, ref, base):
  config = load(f"imagenet:{size},unet")
  model = dict(channel_multiplier=multiplier, num_res_blocks=blocks)
  assert_has(config.model, UNET | model | dict(patching=patching))
  assert config.model.num_classes == 1000
  is_128 = size == 128  # It has a b2 and a number of steps of its own.
  assert_has(config.optim, OPTIM | dict(lr=5e-5, b2=0.999 if is_128 else 0.99))
  assert_has(
    config.train,
    UNET_TRAIN | dict(total_steps=1_500_000 if is_128 else 2_000_000),
  )
  assert_has(config.schedule, dict(ref_at_noise=ref, ref_at_data=ref))
  assert_has(config.objective, dict(weighting="constant", multiscale_base=base))


# arXiv 2301.11093, section 2 and appendix B.
@pytest.mark.parametrize("name", IMAGENET)
def test_paper_sampler(name):
  assert_has(load(name).sample, dict(method="ancestral", num_steps=512))
  assert_has(load(name).sample, dict(gamma=0.2, guidance_scale=1.0))


@pytest.mark.parametrize(
  "name, options",
  [
    ("imagenet:64,uvit", "128.256.512.1024"),
    ("imagenet:512,uvitt", "uvit.unet"),
    ("imagenet:512", "uvit.unet"),
    ("images:32", "64.128.256.512"),
    ("images:64,unet", "64.128.256.512"),
  ],
)
def test_wrong_argument(name, options):
  with pytest.raises(ValueError, match=options) as error:
    load(name)
  assert name.replace(":", ".py:") in str(error.value)


@pytest.mark.parametrize("name", ["digits", "cifar10"])
def test_misspelt_model_key(name):
  config = load(name)
  config.model.num_head = config.model.num_heads
  del config.model.num_heads
  with pytest.raises(ValueError, match=r"model.*num_head\b"):
    build.make_network(config.model)


@pytest.mark.parametrize(
  "key, options", [("name", "uvit, unet"), ("dtype", "float32, bfloat16")]
)
def test_unknown_model_option(key, options):
  model = load("digits").model
  model[key] = "other"
  with pytest.raises(ValueError, match=f"model.{key}='other'.*{options}"):
    build.make_network(model)


@pytest.mark.parametrize(
  "key, value, message",
  [
    ("optim.warmup_steps", -4, "must be at least 0 and below inf"),
    ("optim.b2", 2.0, "must be at least 0 and below 1"),
    ("optim.b1", -0.1, "must be at least 0 and below 1"),
    ("train.label_dropout", 1.0, "must be at least 0 and below 1"),
    ("train.ema_decay", float("nan"), "must be at least 0 and below 1"),
    ("optim.max_grad_norm", 0.0, "must be above 0 and finite"),
    ("train.num_samples", 0, "must be at least 1"),
    ("model.num_heads", 0, "must be at least 1"),
    ("data.image_size", 0, "must be at least 1"),
    ("objective.gamma", 0.0, "must be above 0 and finite"),
    # 0 in float32, or taken for it by devices.
    ("optim.eps", 1e-50, "must be above 0 and finite in float32"),
    ("optim.eps", 1e-40, "must be above 0 and finite in float32"),
    ("objective.bias", float("nan"), "must be finite"),
    ("data.num_channels", 0, "must be 1"),
    ("model.num_transformer_blocks", -1, "must be at least 0"),
  ],
)
def test_values_out_of_range(key, value, message):
  config = digits.get_config()
  checks.check_values(config)
  config.update_from_flattened_dict({key: value})
  with pytest.raises(ValueError, match=f"{key}={value} {message}"):
    checks.check_values(config)


@pytest.mark.parametrize(
  "network, key, value, message",
  [
    (
      "uvit",
      "channel_multiplier",
      (6,),
      "must have at least 2 levels for uvit",
    ),
    ("unet", "channel_multiplier", (), "must have at least 1 level for unet"),
    ("unet", "channel_multiplier", (0, 6, 1), "must be at least 1"),
    ("unet", "num_res_blocks", (1, -1, 1), "must be at least 0"),
  ],
)
def test_levels_of_no_network(network, key, value, message):
  config = load("digits")
  config.model = dict(config.model, name=network, **{key: value})
  with pytest.raises(ValueError, match=f"model.{key}=.*{message}"):
    checks.check_values(config)


def test_guidance_needs_classes():
  config = load("digits")
  config.model.num_classes = 0
  config.sample.guidance_scale = 1.5
  with pytest.raises(ValueError, match="guidance_scale=1.5.*num_classes"):
    build.make_sample_fn(config, build.make_network(config.model))


def test_guidance_needs_a_training_without_classes():
  config = load("digits")
  config.train.label_dropout = 0.0
  with pytest.raises(ValueError, match="guidance_scale=1.3.*label_dropout"):
    build.make_sample_fn(config, build.make_network(config.model))


def test_gamma_interpolates():
  config = load("digits")
  config.sample.gamma = 5.0
  with pytest.raises(ValueError, match="sample.gamma=5.0 must be within 0 and"):
    build.make_sample_fn(config, build.make_network(config.model))


@pytest.mark.parametrize("size", [16, (16, 48)])
def test_schedule_is_of_the_shorter_side(size):
  config = load("digits").unlock()
  config.data = dict(config.data, image_size=size)
  assert build.make_schedule(config).image_size == 16


def test_docstrings_say_how_to_run():
  for path in (ROOT / "configs").glob("*.py"):
    doc = ast.get_docstring(ast.parse(path.read_text()))
    if path.stem not in ("__init__", "arguments", "common", "points"):
      assert f"--config=configs/{path.name}" in doc, path
      assert "Hardware" in doc or "hardware" in doc, path
