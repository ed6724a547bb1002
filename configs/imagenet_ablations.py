# SPDX-License-Identifier: Apache-2.0
"""The rows of the paper's ablations on ImageNet, U-Net: tables 2 to 6.

  python -m experiments.train --config=configs/imagenet_ablations.py:5,dwt_1 \
    --workdir=runs/table5_dwt_1 --config.data.data_dir=/mnt/bucket/tfds

The argument is the table and its row, such as 2,256,shift32 or 4,8 or
6,512,multiscale; a wrong one lists them all. A row is configs/imagenet.py with
the differences below. Hardware and speed: 64 TPUv2 at 1.15 steps/s for 256
pixels (paper, appendix B.1), else not known. Expected: docs/paper.md has the
paper's number of each row, and ours, or "not yet run".

What the paper's sources leave open, and what stands here: table 3 is captioned
700 k steps, but its row 16 is the number that tables 2 and 4 have after 1.5 M;
each table has its own. At 1024 pixels the network is ours, see imagenet.py.
"""

from configs import imagenet


def _shift(ref):
  return dict(ref_at_noise=float(ref), ref_at_data=float(ref))


def _schedules():
  """Table 2: plain cosine, then shifted; at 128 the first two are the same."""
  for size, refs in ((128, (64, 32)), (256, (128, 64, 32))):
    yield f"2,{size},cosine", size, dict(schedule=_shift(size))
    for ref in refs:
      yield f"2,{size},shift{ref}", size, dict(schedule=_shift(ref))


def _dropout_starts():
  """Table 3: the highest resolution with dropout, 128 pixels."""
  for start in ("none", 128, 64, 32, 16):
    resolution = 0 if start == "none" else start
    yield (
      f"3,{start}",
      128,
      dict(
        schedule=_shift(64),
        model=dict(dropout_from_resolution=resolution),
        train=dict(total_steps=700_000),
      ),
    )


def _blocks():
  """Table 4: n + (n + 1) residual blocks at 16x16, 128 pixels."""
  for n in (2, 4, 8, 12):
    model = dict(num_res_blocks=(3, 4, 4, n, 4))
    yield f"4,{n}", 128, dict(schedule=_shift(64), model=model)


# (channel_multiplier, num_res_blocks) at 512 pixels, by what patching divides
# the side by: blocks of the maps that are no more move to lower resolutions
# (appendix B.1).
LEVELS_512 = {
  1: ((1, 1, 1, 2, 4, 8, 8), (1, 1, 2, 2, 4, 12, 4)),
  2: ((1, 2, 2, 4, 8, 8), (2, 2, 2, 4, 12, 4)),
  4: imagenet.UNET_LEVELS[512][1:],
}


def _patchings():
  """Table 5: ways to a smaller map at 512 pixels, with the plain loss."""
  factors = {"none": 1, "dwt_1": 2, "dwt_2": 4, "conv_2": 2, "conv_4": 4}
  for patching, factor in factors.items():
    multiplier, blocks = LEVELS_512[factor]
    yield (
      f"5,{patching}",
      512,
      dict(
        model=dict(
          patching=patching,
          channel_multiplier=multiplier,
          num_res_blocks=blocks,
        ),
        objective=dict(multiscale_base=None),
      ),
    )


def _losses():
  """Table 6: the plain loss and the multiscale one."""
  for size in (128, 256, 512, 1024):
    for name, base in (("plain", None), ("multiscale", 32)):
      yield f"6,{size},{name}", size, dict(objective=dict(multiscale_base=base))


ROWS = {
  name: (size, differences)
  for rows in (_schedules, _dropout_starts, _blocks, _patchings, _losses)
  for name, size, differences in rows()
}


def get_config(arg="2,128,shift32"):
  if arg not in ROWS:
    raise ValueError(
      f"configs/imagenet_ablations.py:{arg}: the argument is a table and its "
      f"row, one of {' '.join(ROWS)}"
    )
  size, differences = ROWS[arg]
  config = imagenet.get_config(f"{size},unet")
  for section, fields in differences.items():
    config[section].update(fields)
  return config
