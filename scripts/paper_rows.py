# SPDX-License-Identifier: Apache-2.0
"""Every row of the paper's tables 2 to 7 and 9, with the command that runs it.

Numbers are those of arXiv 2301.11093: FID of 50,000 samples against training /
validation images, and Inception score; unguided, but for table 9. A dash is
what the paper does not give. Rows of other systems have no config.
"""

import pathlib
from typing import NamedTuple

from scripts.sweep import points

NOT_RECOVERED = "not recovered"


class Row(NamedTuple):
  """One row, or one cell of a table that has image sizes for columns.

  Attributes:
    table: of the paper.
    size: of the images, in pixels.
    name: of the row in the paper, or of the system.
    fid: against training / validation images.
    inception_score: with its deviation where the paper has one.
    config: what trains it; None for other people's systems.
    guidance_scale: of table 9's evaluations, else None.
  """

  table: int
  size: int
  name: str
  fid: str
  inception_score: str
  config: str | None
  guidance_scale: float | None = None


def _ablation(table, size, name, arg, fid, inception_score="-"):
  config = f"configs/imagenet_ablations.py:{table},{arg}"
  return Row(table, size, name, fid, inception_score, config)


def _headline(size, network, fid, inception_score):
  name = {"unet": "simple diffusion, U-Net", "uvit": "simple diffusion, U-ViT"}
  config = f"configs/imagenet.py:{size},{network}"
  return Row(7, size, name[network], fid, inception_score, config)


def _other(name, size, fid, inception_score="-"):
  return Row(7, size, name, fid, inception_score, None)


_TABLE_2 = (
  _ablation(2, 128, "cosine (= shift 128)", "128,cosine", "2.96 / 3.38"),
  _ablation(2, 128, "shift 64", "128,shift64", "2.41 / 3.03"),
  _ablation(2, 128, "shift 32", "128,shift32", "2.26 / 2.88"),
  _ablation(2, 256, "cosine", "256,cosine", "7.65 / 6.87"),
  _ablation(2, 256, "shift 128", "256,shift128", "5.05 / 4.74"),
  _ablation(2, 256, "shift 64", "256,shift64", "3.94 / 3.89"),
  _ablation(2, 256, "shift 32", "256,shift32", "3.76 / 3.71"),
)

_TABLE_3 = (
  _ablation(3, 128, "no dropout", "none", "3.74 / 3.91"),
  _ablation(3, 128, "from 128 down", "128", "3.19 / 3.85"),
  _ablation(3, 128, "from 64 down", "64", "2.27 / 2.85"),
  _ablation(3, 128, "from 32 down", "32", "2.31 / 2.87"),
  _ablation(3, 128, "from 16 down", "16", "2.41 / 3.03"),
)

_TABLE_4 = (
  _ablation(4, 128, "2 + 3 blocks", "2", "3.42 / 3.59"),
  _ablation(4, 128, "4 + 5 blocks", "4", "2.98 / 3.29"),
  _ablation(4, 128, "8 + 9 blocks", "8", "2.46 / 3.00"),
  _ablation(4, 128, "12 + 13 blocks", "12", "2.41 / 3.03"),
)

_TABLE_5 = (
  _ablation(5, 512, "none", "none", "5.60 / 5.23"),
  _ablation(5, 512, "DWT, 1 level", "dwt_1", "5.42 / 4.97"),
  _ablation(5, 512, "DWT, 2 levels", "dwt_2", "4.85 / 4.58"),
  _ablation(5, 512, "convolution 2 x 2", "conv_2", "5.99 / 5.33"),
  _ablation(5, 512, "convolution 4 x 4", "conv_4", "5.04 / 4.80"),
)

_TABLE_6 = (
  _ablation(6, 128, "plain", "128,plain", NOT_RECOVERED, NOT_RECOVERED),
  _ablation(
    6, 128, "multiscale", "128,multiscale", NOT_RECOVERED, NOT_RECOVERED
  ),
  _ablation(6, 256, "plain", "256,plain", "3.76 / 3.71", "171.6"),
  _ablation(6, 256, "multiscale", "256,multiscale", "4.00 / 3.89", "171.0"),
  _ablation(6, 512, "plain", "512,plain", "4.85 / 4.58", "156.1"),
  _ablation(6, 512, "multiscale", "512,multiscale", "4.30 / 4.28", "171.0"),
  _ablation(6, 1024, "plain", "1024,plain", "8.10 / -"),
  _ablation(6, 1024, "multiscale", "1024,multiscale", "6.06 / -"),
)

_TABLE_7 = (
  _headline(128, "unet", "2.26 / 2.88", "137.3 ± 2.03"),
  _headline(256, "unet", "3.76 / 3.71", "171.6 ± 3.07"),
  _headline(512, "unet", "4.30 / 4.28", "171.0 ± 3.00"),
  _headline(128, "uvit", "1.94 / 3.23", "171.9 ± 3.24"),
  _headline(256, "uvit", "2.77 / 3.75", "211.8 ± 2.93"),
  _headline(512, "uvit", "3.54 / 4.53", "205.3 ± 2.65"),
  _other("ADM", 128, "5.91 / -"),
  _other("ADM", 256, "10.94 / -", "100.98 (memory)"),
  _other("ADM", 512, "23.24 / -", "58.06 (memory)"),
  _other("CDM", 128, "3.52 / 3.76", "128.8 ± 2.51"),
  _other("CDM", 256, "4.88 / 4.63", "158.71 ± 2.26"),
  _other("RIN", 128, "2.75 / -", "144.1"),
  _other("RIN", 256, "4.51 / -", "161.0"),
  _other("BigGAN-deep", 256, "6.9 / -", "171.4 ± 2"),
  _other("MaskGIT", 256, "6.18 / -", "182.1"),
  _other("MaskGIT", 512, "7.32 / -", "156.0"),
  _other("DPC", 256, "4.45 / -", "244.8"),
  _other("DPC", 512, "3.62 / -", "249.4"),
  _other("LDM-4", 256, "10.56 / -", "103.49"),
  _other("DiT-XL/2", 256, "9.62 / -", "121.5"),
  _other("DiT-XL/2", 512, "12.03 / -", "105.3"),
)

# FID and Inception score by guidance scale (1 + eta), at each image size.
_GUIDANCE = {
  128: (
    (1.00, "1.94 / 3.23", "171.9"),
    (1.05, "2.05 / 3.57", "189.9"),
    (1.10, "2.35 / 4.10", "207.0"),
    (1.20, "3.24 / 5.36", "237.6"),
    (1.40, "5.58 / 8.26", "285.2"),
    (1.80, "9.77 / 13.06", "340.1"),
    (2.00, "11.47 / 14.96", "359.2"),
    (3.00, "15.85 / 19.75", "399.2"),
  ),
  256: (
    (1.00, "2.77 / 3.75", "211.8"),
    (1.05, "2.46 / 3.80", "235.3"),
    (1.10, "2.44 / 4.08", "256.3"),
    (1.20, "2.96 / 5.10", "289.8"),
    (1.40, "4.69 / 7.50", "342.2"),
    (1.80, "8.21 / 11.81", "398.0"),
    (2.00, "9.59 / 13.44", "416.4"),
    (3.00, "13.61 / 18.00", "455.7"),
  ),
  512: (
    (1.00, "3.54 / 4.53", "205.3"),
    (1.05, "3.14 / 4.43", "228.5"),
    (1.10, "3.02 / 4.60", "248.7"),
    (1.20, "3.33 / 5.43", "284.6"),
    (1.40, "4.97 / 7.89", "339.9"),
    (1.80, "8.38 / 12.15", "401.7"),
    (2.00, "9.68 / 13.68", "416.2"),
    (3.00, "13.79 / 18.42", "461.4"),
  ),
}

_TABLE_9 = tuple(
  Row(
    table=9,
    size=size,
    name=f"{scale:.2f}",
    fid=fid,
    inception_score=inception_score,
    config=f"configs/imagenet.py:{size},uvit",
    guidance_scale=scale,
  )
  for size, cells in _GUIDANCE.items()
  for scale, fid, inception_score in cells
)

ROWS = (
  *_TABLE_2,
  *_TABLE_3,
  *_TABLE_4,
  *_TABLE_5,
  *_TABLE_6,
  *_TABLE_7,
  *_TABLE_9,
)

# The best of each network and size; that at 1024 is table 6's last row.
HEADLINES = (
  *(row for row in _TABLE_7 if row.config and row.config.endswith("uvit")),
  *(row for row in _TABLE_7 if row.config and row.config.endswith("unet")),
  _TABLE_6[-1]._replace(config="configs/imagenet.py:1024,unet"),
)


def of_table(table: int) -> list[Row]:
  """The rows of one of the paper's tables, in its order."""
  return [row for row in ROWS if row.table == table]


def load(row: Row):
  """The row's config, locked; from the repository's root."""
  return points.parse_config(row.config, {})


def workdir(row: Row) -> str:
  """Where the row's run is kept: runs/imagenet512_uvit, for example."""
  file, _, arg = row.config.partition(":")
  name = pathlib.PurePosixPath(file).stem.replace("imagenet_ablations", "table")
  return f"runs/{name}{arg.replace(',', '_')}"


def train_command(row: Row) -> str:
  """What trains the row's network, from the repository's root."""
  return (
    f"python -m experiments.train --config={row.config} "
    f"--workdir={workdir(row)}"
  )


def evaluate_command(row: Row) -> str:
  """What takes the FID of the trained network, with the row's guidance."""
  guidance = ""
  if row.guidance_scale is not None:
    guidance = f" --guidance_scale={row.guidance_scale:g}"
  return (
    f"python -m experiments.evaluate --workdir={workdir(row)}{guidance} "
    "--feature_network=inception_fid --feature_weights=inception.safetensors"
  )
