# SPDX-License-Identifier: Apache-2.0
"""A class-conditional U-Net on CIFAR-10, 32x32 pixels.

  python -m experiments.train --config=configs/cifar10.py --workdir=runs/cifar10

Prepare CIFAR-10 once with tfds build cifar10 --file_format=array_record (it
needs tensorflow). Hardware: one GPU or TPU. Time and expected FID: not yet
run. The paper has no CIFAR-10 row; the network is its U-Net, narrower, with
dropout at every resolution, since 50,000 images are few.
"""

from configs import common


def get_config():
  config = common.get_config()
  config.data.update(name="cifar10", image_size=32)
  config.model = dict(
    name="unet",
    base_channels=128,
    emb_channels=512,
    channel_multiplier=(1, 2, 2),
    num_res_blocks=(3, 3, 3),
    attn_resolutions=(8, 16),
    num_heads=4,
    dropout=0.2,
    dropout_from_resolution=32,
    logsnr_input_type="inv_cos",
    patching="none",
    num_classes=10,
    remat="none",
    dtype="bfloat16",
  )
  config.schedule.update(ref_at_noise=32.0, ref_at_data=32.0)
  # Sigmoid weighting with the bias hackable_diffusion has at 64 pixels.
  config.objective.update(weighting="sigmoid", bias=2.0)
  config.optim.update(lr=2e-4, warmup_steps=5_000)
  config.train.update(
    batch_size=256, total_steps=200_000, ema_decay=0.9998, num_samples=100
  )
  config.sample.update(method="heun", num_steps=50, spacing="logsnr")
  return config
