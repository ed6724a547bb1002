# SPDX-License-Identifier: Apache-2.0
"""The paper's ablations on a few thousand photographs, and longer trainings.

  python -m experiments.train --config=configs/photographs.py:128,uvit \
    --config.data.data_dir=data/flowers --workdir=runs/flowers128_uvit
  python -m scripts.sweep run --config=configs/photographs.py:128,table2 \
    --config.data.data_dir=data/clothing --root=runs/table2_128

The argument is <64|128|256>,<study>. `uvit` is the class-conditional U-ViT and
`unet` the ablations' U-Net trained for 6,000 steps, for samplers and
guidance. table2 .. table6 are the paper's tables, each a `sweep()` over the
U-Net and three seeds:

  table2     noise schedule: cosine, shifted to 128, 64, 32, interpolated
  table3     where dropout starts: nowhere (0), everywhere (64), from 32, 16
  table4     residual blocks at 16x16: 1, 3, 6
  table5     patching: none, 5/3 wavelet, strided convolution
  table6     multiscale loss, without and with
  weighting  v-MSE, eps-MSE, sigmoid (arXiv 2410.19324)
  width      the first level: 32 or 64 channels, of half the width 16 or 32

Each has the U-Net's own point: a shift to 32, v-MSE, three blocks with dropout
at 16x16. (eps-MSE hardly sees what the network says where noise hides all:
after 1,200 steps its v-MSE there was up to three times the variance of the
images.) After a study ,small or ,sampled gives it a U-Net of half the width,
for one core of a CPU:

  small      6,400 images, ten to twenty-five minutes; compared by the held-out
             loss, for there is nothing to see in its samples yet
  sampled    9,600 images, in as long, with the sigmoid weighting, the best at
             full width; compared by 500 samples too, in 7 minutes more

Data: a folder that scripts.prepare_images made, with splits train and test.
Both networks see maps of 64x64 at most, whatever the image: between sizes the
task differs, and hardly the cost of a step. At 256 the U-Net's first level is
twice as wide, and a study trains twice as long. Hardware: a GPU (12.8 M
parameters of the U-Net at 64, 43.6 M of the U-ViT, in bfloat16). Numbers, as
far as they were run: docs/ablations.md and docs/samplers.md.
"""

from configs import arguments
from configs import common
from configs import points

# Patching that leaves maps of 64x64.
PATCHING = {64: "none", 128: "dwt_1", 256: "dwt_2"}

# U-Net levels by the side of its largest map, down to 8x8.
LEVELS = {
  256: dict(
    channel_multiplier=(1, 1, 1, 2, 4, 8), num_res_blocks=(1, 1, 1, 1, 3, 1)
  ),
  128: dict(channel_multiplier=(1, 1, 2, 4, 8), num_res_blocks=(1, 1, 1, 3, 1)),
  64: dict(channel_multiplier=(1, 2, 4, 8), num_res_blocks=(1, 1, 3, 1)),
  32: dict(channel_multiplier=(2, 4, 8), num_res_blocks=(1, 3, 1)),
}


def _levels(size, factor):
  """The U-Net's, where patching takes factor x factor pixels together."""
  levels = LEVELS[size // factor]
  if factor < 4:
    return levels
  # A patch has 48 numbers, most of them noise that a prediction of v repeats:
  # they do not pass through 32 channels.
  first, *others = levels["channel_multiplier"]
  return levels | dict(channel_multiplier=(max(2, first), *others))


# What a CPU can train, and the forms of studies that have it.
FORMS = ("small", "sampled")
HALF_WIDTH = dict(
  base_channels=16, emb_channels=128, num_heads=1, dtype="float32"
)

# Of a study. At 256 samples were full of noise after 1,200.
STEPS = {64: 1_200, 128: 1_200, 256: 2_400}

LONGER = ("uvit", "unet")
# Of the sigmoid weighting; the source's is 0 at 128, -1 at 256 and -3 at 512.
BIAS = {64: 0.0, 128: 0.0, 256: -1.0}

STUDIES = (
  "table2",
  "table3",
  "table4",
  "table5",
  "table6",
  "weighting",
  "width",
)
SEEDS = (0, 1, 2)


def _parse(arg):
  size, study, form = arguments.split(
    "photographs",
    arg,
    PATCHING,
    (*LONGER, *STUDIES),
    variants=FORMS,
  )
  if form and study not in STUDIES:
    raise ValueError(
      f"configs/photographs.py:{arg}: {form} is for {', '.join(STUDIES)}; "
      f"{study} has one form"
    )
  return int(size), study, form


def get_config(arg="64,uvit"):
  size, study, form = _parse(arg)
  config = common.get_config()
  config.data.update(
    name="folder",
    image_size=size,
    crop="squash",
    num_threads=2,
    in_memory=True,
  )
  shared = dict(
    emb_channels=256,
    num_heads=4,
    logsnr_input_type="linear",
    num_classes=common.placeholder(int),  # None: that of the folder
    patching=PATCHING[size],
    remat="none",
    dtype="bfloat16",
  )
  if study == "uvit":
    config.model = dict(
      name="uvit",
      base_channels=64,
      channel_multiplier=(1, 2, 8),  # the transformer is 512 wide
      num_res_blocks=(2, 2),
      num_transformer_blocks=12,
      transformer_dropout=0.1,
      **shared,
    )
  else:
    config.model = dict(
      name="unet",
      base_channels=32,
      attn_resolutions=(8, 16),
      dropout=0.1,
      dropout_from_resolution=16,
      **_levels(size, size // 64),
      **shared,
    )
  if study == "uvit" or form == "sampled":
    # The best of `weighting`.
    config.objective.update(
      loss_space="eps", weighting="sigmoid", bias=BIAS[size]
    )
  config.schedule.update(ref_at_noise=32.0, ref_at_data=32.0)
  # At 1e-3 with eps-MSE a run of table2 ended with a gradient that is not
  # finite (not recorded).
  config.optim.update(lr=4e-4, warmup_steps=200)
  config.train.update(
    batch_size=64,
    total_steps={"uvit": 10_000, "unet": 6_000}.get(study, STEPS[size]),
    ema_decay=0.999 if study in LONGER else 0.998,
    checkpoint_every_steps=1_000,
    sample_every_steps=2_000,
    # A study's grid has as many as evaluate takes at a time: one compilation.
    num_samples=50 if study in LONGER else 250,
  )
  config.sample.update(method="dpmpp_2m_sde", num_steps=32, spacing="logsnr")
  config.eval.update(batch_size=250, num_samples=1_000)
  if form:
    config.model.update(HALF_WIDTH)
    config.optim.update(lr=1e-3, warmup_steps=100)
    config.train.update(
      batch_size=16, total_steps=400, ema_decay=0.99, num_samples=20
    )
  if form == "sampled":
    config.train.total_steps = 600
    config.eval.num_samples = 500
  return config


def _table2(size):
  """Plain cosine, shifted to every reference below the size, interpolated."""
  references = [float(size)]
  references += [ref for ref in (128.0, 64.0, 32.0) if ref < size]
  return points.zipped(
    points.over("schedule.ref_at_noise", [*references, 32.0]),
    points.over("schedule.ref_at_data", [*references, float(size)]),
  )


def _table3(size):
  del size  # Resolutions are those of the maps.
  return points.over("model.dropout_from_resolution", (0, 64, 32, 16))


def _table4(size):
  del size
  return points.over("model.num_res_blocks", [(1, 1, n, 1) for n in (1, 3, 6)])


def _table5(size):
  """Patchings that leave maps of 32x32 or more.

  Those of 4 x 4 pixels have a first level twice as wide: see `_levels`.
  """
  factors = [k for k in (2, 4) if size // k >= 32]
  names = {1: ("none",), 2: ("dwt_1", "conv_2"), 4: ("dwt_2", "conv_4")}
  return points.chain(
    *(
      points.fixed(model=dict(patching=name, **_levels(size, k)))
      for k in (1, *factors)
      for name in names[k]
    )
  )


def _table6(size):
  """Without, which is what the config has, and with."""
  del size
  return [{}, *points.over("objective.multiscale_base", (32,))]


def _weighting(size):
  return points.chain(
    points.fixed(objective=dict(loss_space="v", weighting="constant")),
    points.fixed(objective=dict(loss_space="eps", weighting="constant")),
    points.fixed(
      objective=dict(loss_space="eps", weighting="sigmoid", bias=BIAS[size])
    ),
  )


def _width(size):
  """A first level of once and of twice the base channels."""
  _, *others = _levels(size, size // 64)["channel_multiplier"]
  return points.over("model.channel_multiplier", [(n, *others) for n in (1, 2)])


def sweep(arg="64,table2"):
  """A study's points, all with the first seed before any with the second."""
  size, study, _ = _parse(arg)
  if study in LONGER:
    return points.over("train.seed", SEEDS)
  found = {
    "table2": _table2,
    "table3": _table3,
    "table4": _table4,
    "table5": _table5,
    "table6": _table6,
    "weighting": _weighting,
    "width": _width,
  }[study](size)
  return points.product(points.over("train.seed", SEEDS), found)
