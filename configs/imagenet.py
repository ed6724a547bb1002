# SPDX-License-Identifier: Apache-2.0
"""The paper's runs on ImageNet, by image size and network.

  python -m experiments.train --config=configs/imagenet.py:512,uvit \
    --workdir=runs/imagenet512 --config.data.data_dir=/mnt/bucket/tfds

The argument is <128|256|512|1024>,<uvit|unet>. Prepare ImageNet once with
tfds build imagenet2012 --file_format=array_record (it needs tensorflow). A
bucket is read as a folder: mount it, e.g. with gcsfuse.

  arXiv 2301.11093, appendix B      hardware, speed (paper)   steps
  uvit  128, 256, 512               128 TPUv4, 1.5 steps/s    500 k (93 hours)
  unet  256                         64 TPUv2, 1.15 steps/s    2 M
  unet  128 / 512                   -                         1.5 M / 2 M

Expected, unguided FID train/eval (paper, tables 6 and 7):

          128          256          512          1024 (train only)
  uvit    1.94/3.23    2.77/3.75    3.54/4.53    -
  unet    2.26/2.88    3.76/3.71    4.30/4.28    6.06

Ours: not yet run, at any size. Mesh, remat and batch stand as planned for v4,
v5e, v5p and v6e in docs/plans.md (of the U-Net at 1024 on v5e alone): they
leave more than a tenth of the memory. For 8 GPUs: --config.mesh.fsdp=8.

What the paper's sources leave open, and what stands here: the U-ViT's schedule
(shift 32, the best of table 2), whether its 512 run had the multiscale loss
(no), the U-Net's loss (eps-MSE, as in the main text), how log-SNR enters the
U-Net ("inv_cos", memory). At 1024 all but the multiscale loss is ours: a third
wavelet level, so that the networks see 128x128 there too.
"""

from configs import arguments
from configs import common
from configs import points

# Patching that leaves 128x128 (U-ViT; appendix B.2).
UVIT_PATCHING = {128: "none", 256: "dwt_1", 512: "dwt_2", 1024: "dwt_3"}

# (patching, channel_multiplier, num_res_blocks), appendix B.1.
UNET_LEVELS = {
  128: ("none", (1, 2, 4, 8, 8), (3, 4, 4, 12, 4)),
  256: ("none", (1, 1, 2, 4, 8, 8), (1, 2, 2, 4, 12, 4)),
  512: ("dwt_2", (2, 3, 4, 8, 8), (3, 3, 4, 12, 4)),
  1024: ("dwt_3", (2, 3, 4, 8, 8), (3, 3, 4, 12, 4)),
}


def _parse(arg):
  size, network = arguments.split(
    "imagenet", arg, UNET_LEVELS, ("uvit", "unet")
  )
  return int(size), network


def get_config(arg="128,uvit"):
  size, network = _parse(arg)
  config = common.get_config()
  config.data.update(
    name="imagenet2012", eval_split="validation", image_size=size
  )
  config.mesh.fsdp = 16
  shared = dict(
    base_channels=128,
    emb_channels=1024,
    num_heads=4,
    num_classes=1000,
    dtype="bfloat16",
  )
  if network == "uvit":
    config.model = dict(
      name="uvit",
      channel_multiplier=(1, 2, 4, 16),  # the transformer is 2048 wide
      num_res_blocks=(2, 2, 2),
      num_transformer_blocks=36,
      transformer_dropout=0.2,
      logsnr_input_type="linear",
      remat="dots",
      patching=UVIT_PATCHING[size],
      **shared,
    )
    config.schedule.update(ref_at_noise=32.0, ref_at_data=32.0)
    if size == 1024:
      config.objective.multiscale_base = 32
    return config

  patching, channel_multiplier, num_res_blocks = UNET_LEVELS[size]
  config.model = dict(
    name="unet",
    channel_multiplier=channel_multiplier,
    num_res_blocks=num_res_blocks,
    attn_resolutions=(8, 16),
    dropout=0.1,
    dropout_from_resolution=16,
    logsnr_input_type="inv_cos",
    remat="none",  # of a batch of 512 a chip has few images
    patching=patching,
    **shared,
  )
  # Shift 32 is the headline at 128 and 256 (table 2), 64 at 512 (table 5).
  ref = 32.0 if size <= 256 else 64.0
  config.schedule.update(ref_at_noise=ref, ref_at_data=ref)
  config.objective.update(loss_space="eps")
  if size >= 512:  # where it helps (table 6)
    config.objective.multiscale_base = 32
  config.optim.update(lr=5e-5, b2=0.999 if size == 128 else 0.99)
  config.train.update(
    batch_size=512, total_steps=1_500_000 if size == 128 else 2_000_000
  )
  return config


def sweep(arg="128,uvit"):
  """Table 2's noise schedules: plain cosine, then shifted to 128, 64 and 32."""
  size, _ = _parse(arg)
  references = [float(size)]
  references += [ref for ref in (128.0, 64.0, 32.0) if ref < size]
  return points.zipped(
    points.over("schedule.ref_at_noise", references),
    points.over("schedule.ref_at_data", references),
  )
