# SPDX-License-Identifier: Apache-2.0
"""A U-ViT on a folder of your own images, at 64, 128, 256 or 512 pixels.

  python -m scripts.prepare_images --images=/photos --out=/prepared \
    --min_size=128 --on_broken=skip
  python -m experiments.train --config=configs/images.py:128 \
    --config.data.data_dir=/prepared --workdir=runs/photos

With classes if the folder has them. Hardware: one GPU of 24 GB or more. Time
and expected quality: not yet run. The last 5 % of train are held out for
evaluation; if the folder has a test split, hold out that instead with
--config.data.split=train --config.data.eval_split=test.
"""

from configs import arguments
from configs import common
from configs import points

PATCHING = {64: "none", 128: "none", 256: "dwt_1", 512: "dwt_2"}


def get_config(arg="64"):
  (size,) = map(int, arguments.split("images", arg, PATCHING))
  config = common.get_config()
  config.data.update(
    name="folder",
    split="train[:95%]",
    eval_split="train[95%:]",
    image_size=size,
  )
  config.model = dict(
    name="uvit",
    base_channels=64,
    emb_channels=512,
    channel_multiplier=(1, 2, 4, 8),  # the transformer is 512 wide
    num_res_blocks=(2, 2, 2),
    num_transformer_blocks=12,
    num_heads=8,
    transformer_dropout=0.2,
    logsnr_input_type="linear",
    patching=PATCHING[size],
    num_classes=common.placeholder(int),  # None: that of the folder
    remat="none",
    dtype="bfloat16",
  )
  config.schedule.update(ref_at_noise=32.0, ref_at_data=32.0)
  if size >= 512:
    config.objective.multiscale_base = 32
  config.optim.update(lr=2e-4, warmup_steps=2_000)
  config.train.update(
    batch_size=64,
    total_steps=100_000,
    ema_decay=0.9995,
    checkpoint_every_steps=2_000,
    sample_every_steps=2_000,
  )
  config.sample.update(method="dpmpp_2m", num_steps=50, spacing="logsnr")
  config.eval.update(batch_size=64, num_samples=1_000)
  return config


def sweep(arg="64"):
  """Noise schedules (table 2 of the paper), with and without dropout."""
  references = sorted({32.0, 64.0, float(arg)})
  return points.product(
    points.zipped(
      points.over("schedule.ref_at_noise", references),
      points.over("schedule.ref_at_data", references),
    ),
    points.over("model.transformer_dropout", (0.0, 0.2)),
  )
