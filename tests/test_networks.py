# SPDX-License-Identifier: Apache-2.0
"""The networks' sizes in the paper's configurations, and their behaviour."""

import functools

import chex
from flax import linen as nn
import jax
from jax.extend import core
import jax.numpy as jnp
import numpy as np
import pytest

from simple_diffusion import dropout
from simple_diffusion import group_norm
from simple_diffusion import layers
from simple_diffusion import patching
from simple_diffusion import sizes
from simple_diffusion import unet
from simple_diffusion import uvit

PATCHINGS = ("none", "space_to_depth_2", "dwt_1", "dwt_2", "conv_2", "conv_4")

# Appendix B.2 of arXiv 2301.11093.
PAPER_UVIT = uvit.SimpleUViT(
  base_channels=128,
  emb_channels=1024,
  channel_multiplier=(1, 2, 4, 16),
  num_res_blocks=(2, 2, 2),
  num_transformer_blocks=36,
  num_heads=4,
  transformer_dropout=0.2,
  logsnr_input_type="linear",
  patching="none",
  num_classes=1000,
)
# Appendix B.1, ImageNet 128.
PAPER_UNET = unet.UNet(
  base_channels=128,
  emb_channels=1024,
  channel_multiplier=(1, 2, 4, 8, 8),
  num_res_blocks=(3, 4, 4, 12, 4),
  attn_resolutions=(8, 16),
  num_heads=4,
  dropout=0.1,
  dropout_from_resolution=16,
  logsnr_input_type="inv_cos",
  patching="none",
  num_classes=1000,
)
UVIT = PAPER_UVIT.clone(
  base_channels=8,
  emb_channels=16,
  channel_multiplier=(1, 2),
  num_res_blocks=(1,),
  num_transformer_blocks=2,
  num_heads=2,
  num_classes=3,
)
UNET = PAPER_UNET.clone(
  base_channels=8,
  emb_channels=16,
  channel_multiplier=(1, 2),
  num_res_blocks=(1, 1),
  attn_resolutions=(4,),
  num_heads=2,
  dropout_from_resolution=4,
  num_classes=3,
)
ONE_LEVEL_UNET = UNET.clone(
  channel_multiplier=(1,), num_res_blocks=(1,), dropout_from_resolution=8
)
NETWORKS = {"uvit": UVIT, "unet": UNET}
every_network = pytest.mark.parametrize("name", NETWORKS)


def shapes(height=8, width=8, batch=2):
  return (
    jax.ShapeDtypeStruct((batch, height, width, 3), jnp.float32),
    jax.ShapeDtypeStruct((batch,), jnp.float32),
    jax.ShapeDtypeStruct((batch,), jnp.int32),
  )


def inputs(height=8, width=8, labels=(0, 1)):
  z = np.random.default_rng(0).standard_normal((2, height, width, 3))
  return jnp.float32(z), jnp.array([-1.0, 2.0]), jnp.array(labels)


@functools.cache
def param_shapes(network, *args):
  key = jax.eval_shape(lambda: jax.random.key(0))
  return jax.eval_shape(network.init, key, *(args or shapes()))


@functools.cache
def random_params(network, side=8):
  """Parameters without the initial zeros, so that no block is the identity."""
  variables = param_shapes(network, *shapes(side, side))
  leaves, treedef = jax.tree.flatten(variables)
  rng = np.random.default_rng(0)
  return treedef.unflatten(
    jnp.float32(0.2 * rng.standard_normal(leaf.shape)) for leaf in leaves
  )


@functools.partial(jax.jit, static_argnums=0)
def apply(network, variables, *args):
  return network.apply(variables, *args)


def eqns_in(jaxpr):
  for eqn in jaxpr.eqns:
    yield eqn
    for sub in core.jaxprs_in_params(eqn.params):
      yield from eqns_in(sub)


def traced(network, *args, train=False):
  """All equations of the forward pass."""

  def forward(variables, key, *args):
    return network.apply(variables, *args, train=train, rngs={"dropout": key})

  args = args or shapes()
  variables = param_shapes(network, *args)
  key = jax.eval_shape(lambda: jax.random.key(0))
  return list(eqns_in(jax.make_jaxpr(forward)(variables, key, *args).jaxpr))


def size(network, side):
  """(parameters, multiply-adds) of one image, in one trace."""
  num_params = None

  def forward(key, *args):
    nonlocal num_params
    output, variables = network.init_with_output(key, *args)
    num_params = sum(p.size for p in jax.tree.leaves(variables))
    return output

  key = jax.eval_shape(lambda: jax.random.key(0))
  macs = sizes.macs_by_scope(forward, key, *shapes(side, side, batch=1))
  return num_params, sum(macs.values())


# 36 * 12 * 2048^2 in the transformer, the rest convolutions and FiLM: 2.0e9
# parameters; 474 + 72 = 546 G multiply-adds, since the net always sees 128x128.
@pytest.mark.parametrize(
  "side, patching_name", [(128, "none"), (256, "dwt_1"), (512, "dwt_2")]
)
def test_uvit_size(side, patching_name):
  num_params, macs = size(PAPER_UVIT.clone(patching=patching_name), side)
  np.testing.assert_allclose(num_params, 2.0e9, rtol=0.02)
  np.testing.assert_allclose(macs, 546e9, rtol=0.02)


# An independent count of appendix B.1 (GroupNorm, 3x3 convolutions, FiLM,
# concatenated skips), good to 5 %, in M parameters and G multiply-adds; the
# paper prints neither.
@pytest.mark.parametrize(
  "side, name, multiplier, blocks, params, macs",
  [
    (128, "none", (1, 2, 4, 8, 8), (3, 4, 4, 12, 4), 1190, 372),
    (256, "none", (1, 1, 2, 4, 8, 8), (1, 2, 2, 4, 12, 4), 1190, 416),
    (512, "none", (1, 1, 1, 2, 4, 8, 8), (1, 1, 2, 2, 4, 12, 4), 1190, 742),
    (512, "dwt_1", (1, 2, 2, 4, 8, 8), (2, 2, 2, 4, 12, 4), 1190, 566),
    (512, "dwt_2", (2, 3, 4, 8, 8), (3, 3, 4, 12, 4), 1190, 546),
    # Table 4: 2, 4, 8 blocks at 16x16.
    (128, "none", (1, 2, 4, 8, 8), (3, 4, 4, 2, 4), 572, None),
    (128, "none", (1, 2, 4, 8, 8), (3, 4, 4, 4, 4), 696, None),
    (128, "none", (1, 2, 4, 8, 8), (3, 4, 4, 8, 4), 943, None),
  ],
)
def test_unet_size(side, name, multiplier, blocks, params, macs):
  network = PAPER_UNET.clone(
    channel_multiplier=multiplier, num_res_blocks=blocks, patching=name
  )
  num_params, num_macs = size(network, side)
  np.testing.assert_allclose(num_params, params * 1e6, rtol=0.05)
  if macs:
    np.testing.assert_allclose(num_macs, macs * 1e9, rtol=0.05)


@pytest.mark.parametrize(
  "side, channels, kernel_mib, features_gib, tera_macs",
  # Table 1 of the paper, batch 1024: 2.8 MB, 16 GB, 9 T and 180 MB, .5 GB,
  # 2.3 T, which are five float32 copies of a 3x3 kernel, one bfloat16 map of
  # features, and multiply-adds / 2^40 (our reading; it matches every digit).
  [(256, 128, 2.8125, 16.0, 9.0), (16, 1024, 180, 0.5, 2.25)],
)
def test_why_16x16(side, channels, kernel_mib, features_gib, tera_macs):
  conv = nn.Conv(channels, (3, 3), use_bias=False)
  features = jax.ShapeDtypeStruct((1024, side, side, channels), jnp.bfloat16)
  kernel = param_shapes(conv, features)
  (leaf,) = jax.tree.leaves(kernel)
  assert 5 * 4 * leaf.size / 2**20 == kernel_mib
  assert 2 * features.size / 2**30 == features_gib
  macs = sizes.macs_by_scope(conv.apply, kernel, features)
  assert sum(macs.values()) / 2**40 == tera_macs


def test_macs_of_scans_and_grouped_convolutions():
  def scanned(w, x):
    return jax.lax.scan(lambda x, w: (x @ w, None), x, w)[0]

  w, x = jnp.zeros((7, 4, 4)), jnp.zeros((3, 4))
  assert sum(sizes.macs_by_scope(scanned, w, x).values()) == 7 * 3 * 4 * 4
  conv = nn.Conv(8, (3, 3), feature_group_count=2, use_bias=False)
  x = jax.ShapeDtypeStruct((1, 5, 5, 4), jnp.float32)
  macs = sizes.macs_by_scope(conv.apply, param_shapes(conv, x), x)
  assert sum(macs.values()) == 25 * 8 * 9 * 2  # Two of four inputs each.


@pytest.mark.parametrize("network", [UVIT, ONE_LEVEL_UNET])
def test_zero_at_initialisation(network):
  init = jax.jit(network.init_with_output)
  output, _ = init(jax.random.key(0, impl="rbg"), *inputs())
  np.testing.assert_array_equal(output, np.zeros((2, 8, 8, 3)))


@every_network
def test_conditions_change_the_output(name):
  network = NETWORKS[name]
  variables = random_params(network)
  z, logsnr, _ = inputs()

  def run(logsnr, *labels):
    output = apply(network, variables, z, logsnr, jnp.array(labels))
    assert output.shape == z.shape
    return np.asarray(output)

  # Labels 0 to 2, and 3 for "none", a row of its own.
  rows = [run(logsnr, k, k) for k in range(4)]
  for i in range(4):
    for other in rows[:i]:
      assert np.abs(rows[i] - other).max() > 1e-3
  # Each example has its own label and log-SNR.
  np.testing.assert_allclose(run(logsnr, 1, 3)[0], rows[1][0], atol=1e-4)
  np.testing.assert_allclose(run(logsnr, 1, 3)[1], rows[3][1], atol=1e-4)
  changed = run(logsnr.at[1].set(5.0), 1, 1)
  np.testing.assert_allclose(changed[0], rows[1][0], atol=1e-4)
  assert np.abs(changed[1] - rows[1][1]).max() > 1e-3
  table = variables["params"]["conditioning"]["Embed_0"]["embedding"]
  assert table.shape[0] == 3 + 1


@every_network
def test_no_classes(name):
  network = NETWORKS[name].clone(num_classes=0)
  variables = param_shapes(network)
  assert "Embed_0" not in variables["params"]["conditioning"]
  z, logsnr, _ = shapes()
  assert (
    jax.eval_shape(network.apply, variables, z, logsnr, None).shape == z.shape
  )


@every_network
def test_bfloat16_computes_from_float32_to_float32(name):
  network = NETWORKS[name].clone(dtype=jnp.bfloat16)
  variables = param_shapes(network)
  assert {p.dtype for p in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
  *products, last = [
    {v.aval.dtype for v in eqn.invars}
    for eqn in traced(network)
    if eqn.primitive.name in ("dot_general", "conv_general_dilated")
  ]
  assert all(dtypes == {jnp.dtype("bfloat16")} for dtypes in products)
  assert last == {jnp.dtype("float32")}  # v is not rounded to 8 bits
  output = jax.eval_shape(network.apply, variables, *shapes())
  assert output.dtype == jnp.float32


def test_bfloat16_is_close_to_float32():
  args = random_params(UVIT), *inputs()
  half = apply(UVIT.clone(dtype=jnp.bfloat16), *args)
  full = apply(UVIT, *args)
  # 8 bits of mantissa over a dozen layers.
  error = np.abs(half - full).max() / np.abs(full).max()
  assert 1e-4 < error < 0.1


@functools.partial(jax.jit, static_argnums=0)
def value_and_grad(network, variables, key, *args):
  """The mean square of a training pass and its gradient."""

  def mean_square(variables):
    rngs = {"dropout": key}
    return jnp.mean(network.apply(variables, *args, train=True, rngs=rngs) ** 2)

  return jax.value_and_grad(mean_square)(variables)


@pytest.mark.parametrize(
  "network, policy",
  [
    (UVIT, "all"),
    (ONE_LEVEL_UNET, "dots"),
    pytest.param(UVIT, "dots", marks=pytest.mark.slow),
    pytest.param(ONE_LEVEL_UNET, "all", marks=pytest.mark.slow),
  ],
)
def test_remat_is_the_same_function(network, policy):
  # The values, the gradient and the dropped features.
  key, other_key = jax.random.split(jax.random.key(0, impl="rbg"))
  args = random_params(network), key, *inputs()
  value, gradient = value_and_grad(network, *args)
  remat = network.clone(remat=policy)
  chex.assert_trees_all_close(
    value_and_grad(remat, *args),
    (value, gradient),
    rtol=1e-4,
    atol=1e-4 * value,
  )
  other, _ = value_and_grad(network, args[0], other_key, *inputs())
  assert abs(other - value) > 1e-3 * value
  names = {eqn.primitive.name for eqn in traced(remat)}
  assert names & {"checkpoint", "remat", "remat2"}


def test_depth_of_the_transformer_is_scanned():
  shallow, deep = (
    traced(UVIT.clone(num_transformer_blocks=n)) for n in (2, 20)
  )
  assert len(shallow) == len(deep)


def dropout_masks(network, *args, train=True):
  """Shapes [B, ...] of the rows, all but channels, that dropout seeds."""
  return [
    eqn.outvars[0].aval.shape[1:-1]
    for eqn in traced(network, *args, train=train)
    if eqn.primitive.name == "random_bits"
  ]


def test_uvit_drops_out_in_the_transformer_only():
  # 8x8 images: 4x4 tokens, in the MLP of the one scanned block.
  assert dropout_masks(UVIT) == [(2, 16)]
  assert dropout_masks(UVIT, train=False) == []
  assert dropout_masks(UVIT.clone(transformer_dropout=0.0)) == []


def test_unet_drops_out_from_the_given_resolution():
  # One residual block down, two in the middle, two up at 4x4; one down and two
  # up at 8x8.
  low, high = [(2, 4, 4)] * 5, [(2, 8, 8)] * 3
  for resolution, masks in ((0, []), (7, low), (8, low + high)):
    network = UNET.clone(dropout_from_resolution=resolution)
    assert sorted(dropout_masks(network)) == masks
  assert dropout_masks(UNET, train=False) == []
  # After patching: 16x16 images are 8x8 maps.
  patched = UNET.clone(patching="dwt_1")
  assert sorted(dropout_masks(patched, *shapes(16, 16))) == low


def test_attention_is_at_the_given_resolutions():
  def attending(*resolutions):
    network = UNET.clone(attn_resolutions=resolutions)
    names = param_shapes(network)["params"]
    return {n.removesuffix("_attention") for n in names if "attention" in n}

  at_4 = {"down_1_0", "middle_0", "up_1_0", "up_1_1"}
  at_8 = {"down_0_0", "up_0_0", "up_0_1"}
  assert attending() == set()
  assert attending(4) == at_4
  assert attending(4, 8) == at_4 | at_8


@pytest.mark.parametrize(
  "network",
  [UVIT.clone(patching=name) for name in PATCHINGS]
  + [UNET.clone(patching="conv_4")],
  ids=lambda network: f"{type(network).__name__}-{network.patching}",
)
def test_every_patching_on_wide_images(network):
  args = shapes(16, 32)
  output = jax.eval_shape(network.apply, param_shapes(network, *args), *args)
  assert output.shape == (2, 16, 32, 3)
  for eqn in traced(network, *args):
    if eqn.primitive.name == "conv_general_dilated":
      # Dilated inputs would be a transposed convolution: checkerboards.
      assert set(eqn.params["lhs_dilation"]) == {1}


def test_network_sees_patches_and_answers_in_patches():
  # With the same parameters on patch(z) it answers patch(output).
  patched = ONE_LEVEL_UNET.clone(patching="dwt_1")
  z, *conditions = inputs(16, 16)
  variables = random_params(patched, 16)
  output = apply(patched, variables, z, *conditions)
  patches = patching.patch(z, "dwt_1")
  inner = apply(ONE_LEVEL_UNET, variables, patches, *conditions)
  np.testing.assert_allclose(
    output, patching.unpatch(inner, "dwt_1"), atol=1e-3
  )


@every_network
@pytest.mark.parametrize(
  "patching_name, side, message",
  [
    ("none", 9, "9x9 maps, .* divisible by 2.*data.image_size"),
    ("dwt_2", 12, "3x3 maps, .* divisible by 2.*data.image_size"),
    ("dwt_1", 9, "'dwt_1' .* divisible by 2, got 9x9; use 8x8"),
    ("conv_4", 10, "'conv_4' .* divisible by 4, got 10x10; use 8x8"),
    ("conv_0", 8, "'conv_0'; the options are none, .* conv_<k>"),
    ("patches", 8, "'patches'; the options are none, .* conv_<k>"),
  ],
)
def test_images_the_network_cannot_take(name, patching_name, side, message):
  with pytest.raises(ValueError, match=message):
    param_shapes(
      NETWORKS[name].clone(patching=patching_name), *shapes(side, side)
    )


@every_network
@pytest.mark.parametrize(
  "change, message",
  [
    ({"num_res_blocks": (1, 1, 1)}, "num_res_blocks=.* 3 entries; .* asks for"),
    ({"num_heads": 3}, "num_heads=3 does not divide .* width 16"),
    ({"logsnr_input_type": "log"}, "'log'; the options are linear, inv_cos"),
  ],
)
def test_wrong_settings(name, change, message):
  with pytest.raises(ValueError, match=message):
    param_shapes(NETWORKS[name].clone(**change))


def test_logsnr_features():
  # sin and cos at 1000 u, with wavelengths from 2 pi to 1e4 times that.
  t = np.array([0.02, 0.5, 0.9])
  logsnr = -2 * np.log(np.tan(np.pi * t / 2))
  frequencies = 10.0 ** -np.linspace(0, 4, 4)
  for kind, unit in (("inv_cos", t), ("linear", (logsnr + 20) / 40)):
    features = layers.logsnr_features(jnp.float32(logsnr), 8, kind)
    angles = 1000 * np.outer(unit, frequencies)
    expected = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    # Angles near 1000 are spaced 6e-5 in float32.
    np.testing.assert_allclose(features, expected, atol=5e-4)


@pytest.mark.parametrize("channels", [3, 64])  # In one group, and in 32.
def test_group_norm_is_that_of_flax(channels):
  rng = np.random.default_rng(0)
  h = jnp.float32(rng.normal(2, 3, (2, 4, 5, channels)))
  params = {
    "scale": jnp.float32(rng.normal(size=channels)),
    "bias": jnp.float32(rng.normal(size=channels)),
  }
  groups = {3: 1, 64: 32}[channels]
  theirs = nn.GroupNorm(groups, epsilon=group_norm.EPSILON)
  ours = group_norm.GroupNorm(jnp.float32)

  def total(norm):
    return lambda h: (norm.apply({"params": params}, h) ** 3).sum()

  expected = theirs.apply({"params": params}, h)
  np.testing.assert_allclose(
    ours.apply({"params": params}, h), expected, atol=2e-5
  )
  gradient = jax.jit(jax.grad(total(ours)))(h)
  expected = jax.jit(jax.grad(total(theirs)))(h)
  np.testing.assert_allclose(
    gradient, expected, atol=1e-4 * np.abs(expected).max()
  )
  film = jnp.float32(rng.normal(size=(2, 2, channels)))
  scale, shift = film[:, :, None, None]
  np.testing.assert_allclose(
    ours.apply({"params": params}, h, *film),
    theirs.apply({"params": params}, h) * (1 + scale) + shift,
    atol=5e-5,
  )
  made = ours.init(jax.random.key(0), h)["params"]
  assert jax.tree.map(jnp.shape, made) == jax.tree.map(jnp.shape, params)


def test_pooling_undoes_upsampling():
  h = jnp.arange(2 * 3 * 2 * 2.0).reshape(2, 3, 2, 2)
  up = layers.upsample(h)
  np.testing.assert_array_equal(
    up[0, 2:4, :2, 1], np.full((2, 2), h[0, 1, 0, 1])
  )
  np.testing.assert_allclose(layers.average_pool(up), h)


@pytest.mark.parametrize("rate", [0.1, 0.2, 0.5])
def test_dropout(rate):
  h = jnp.ones((200, 30, 64))
  key = jax.random.key(3)
  dropped = dropout.Dropout(rate).apply({}, h, True, rngs={"dropout": key})
  np.testing.assert_allclose(np.unique(dropped), [0, 1 / (1 - rate)], rtol=1e-6)
  # Within 4.5 standard errors, of each row and channel and over all.
  is_zero = np.asarray(dropped == 0)
  for axes in ((0, 1), (0, 2), (0, 1, 2)):
    share = is_zero.mean(axes)
    error = np.sqrt(rate * (1 - rate) * share.size / h.size)
    np.testing.assert_allclose(share, rate, atol=4.5 * error)


def test_random_words():
  """Uniform, and neither bits nor neighbours know of each other."""
  key = jax.random.key(0)
  words = np.asarray(dropout.random_words(key, (64, 16, 256)))
  bits = (words[..., None] >> np.arange(32, dtype=np.uint32)) & 1
  bits = bits.reshape(-1, 32)  # 2^18 words
  bound = 4.5 / np.sqrt(len(bits))
  assert abs(bits.mean(0) - 0.5).max() < bound / 2
  correlations = np.corrcoef(bits.T) - np.eye(32)
  assert abs(correlations).max() < bound
  unit = words / 2.0**32
  for axis in range(3):
    ahead = np.roll(unit, 1, axis)
    assert abs(np.corrcoef(unit.ravel(), ahead.ravel())[0, 1]) < bound
  # Numbers that differ in one bit: as many pairs of equal bytes as of chance.
  equal = (words[..., ::2] >> 24) == (words[..., 1::2] >> 24)
  assert abs(equal.mean() * 256 - 1) < 4.5 * np.sqrt(256 / equal.size)
  other = dropout.random_words(jax.random.key(1), words.shape)
  assert (np.asarray(other) == words).mean() < 1e-4


def test_dropout_backward_has_the_mask_and_keeps_only_the_key():
  key = jax.random.key(3)
  h = jnp.linspace(1, 2, 4 * 6 * 64).reshape(4, 6, 64).astype(jnp.bfloat16)
  out, back = jax.vjp(lambda h: dropout.dropped(key, h, 0.2), h)
  (gradient,) = back(jnp.ones_like(out))
  np.testing.assert_array_equal(gradient == 0, out == 0)
  assert all(a.size < h.size for a in jax.tree.leaves(back))


def test_random_words_are_those_of_one_device(on_four_devices):
  printed = on_four_devices("""
import jax, numpy as np
from simple_diffusion import dropout
key, shape = jax.random.key(1), (8, 4, 64)
expected = dropout.random_words(key, shape)
axis_types = (jax.sharding.AxisType.Auto,)
mesh = jax.make_mesh((4,), ("a",), axis_types=axis_types)
for axes in (("a",), (None, "a"), (None, None, "a")):
  split = jax.NamedSharding(mesh, jax.P(*axes))
  words = jax.jit(lambda: dropout.random_words(key, shape), out_shardings=split)
  assert "all-" not in words.lower().compile().as_text()
  print(np.array_equal(words(), expected), len(words().sharding.device_set))
""")
  assert printed.split() == ["True", "4"] * 3


def test_mixed_is_murmur3():
  # Written out in integers without bounds.
  def expected(x):
    x = ((x ^ x >> 16) * 0x85EBCA6B) % 2**32
    x = ((x ^ x >> 13) * 0xC2B2AE35) % 2**32
    return x ^ x >> 16

  numbers = [0, 1, 2, 12345, 2**31, 2**32 - 1]
  mixed = dropout.mixed(jnp.asarray(numbers, jnp.uint32))
  assert mixed.tolist() == [expected(x) for x in numbers]


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5])
def test_impossible_dropout(rate):
  with pytest.raises(ValueError, match=f"rate of {rate} must be in"):
    dropout.Dropout(rate).apply({}, jnp.ones((2, 4)), True)


def test_no_dropout():
  h = jnp.arange(8.0).reshape(2, 4)
  for rate, train in ((0.0, True), (0.3, False)):
    np.testing.assert_array_equal(dropout.Dropout(rate).apply({}, h, train), h)
