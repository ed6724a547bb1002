# SPDX-License-Identifier: Apache-2.0
"""A class-conditional U-ViT on scikit-learn's digits: the demo.

1,438 scans of 8x8 pixels to train on, 359 held out; no download.

  python -m experiments.train --config=configs/digits.py --workdir=runs/digits
  python -m experiments.evaluate --workdir=runs/digits

Hardware: 2 CPU cores. Time: 2 to 4 minutes. Expected: the results table of the
README, generated from experiments/results/digits.jsonl.
"""

from configs import common
from configs import points


def get_config():
  config = common.get_config()
  config.data.update(
    name="digits",
    image_size=8,
    num_channels=1,
    random_flip=False,  # a mirrored digit is no digit
    num_threads=1,
  )
  config.model = dict(
    name="uvit",
    base_channels=32,
    emb_channels=128,
    channel_multiplier=(1, 6),  # 32 at 4x4, the transformer's 192 at 2x2
    num_res_blocks=(2,),
    num_transformer_blocks=3,
    num_heads=4,
    transformer_dropout=0.1,
    logsnr_input_type="linear",
    patching="dwt_1",
    num_classes=10,
    scan_unroll=3,  # all of them: faster on a CPU
    remat="none",
    dtype="float32",
  )
  # The plain cosine schedule: at 8x8 there is nothing to shift towards.
  config.schedule.update(ref_at_noise=8.0, ref_at_data=8.0)
  config.optim.update(lr=1e-3, warmup_steps=200)
  config.train.update(
    batch_size=64,
    total_steps=3_000,
    ema_decay=0.999,
    checkpoint_every_steps=500,
    sample_every_steps=1_500,
    num_samples=100,
  )
  config.sample.update(
    method="dpmpp_2m", num_steps=50, spacing="logsnr", guidance_scale=1.3
  )
  config.eval.update(batch_size=250, num_samples=1_000)
  return config


def sweep():
  """Learning rates, each with two seeds: what differs by chance."""
  return points.product(
    points.over("optim.lr", (3e-4, 1e-3, 3e-3)),
    points.over("train.seed", (0, 1)),
  )
