# SPDX-License-Identifier: Apache-2.0
"""Prepares a folder of images once, as a TFDS data set of array_record files.

`folder_layout` says which folders are read and how splits and classes follow,
`folder_builder` what is stored. `tfds.builder_from_directory` reads the result
without this package.
"""

import contextlib
import dataclasses
import io
import pathlib
import shutil
import tempfile

import tensorflow_datasets as tfds

from simple_diffusion import folder_builder
from simple_diffusion import folder_layout

ON_BROKEN = ("error", "skip")
REPORT_FILE = "report.txt"


@dataclasses.dataclass(frozen=True)
class Report:
  """What became of the images.

  Attributes:
    num_images: number stored, by split and then by class name ("" if none).
    num_converted: number stored, by kind as in `images.conversions`.
    skipped: (path, reason) of every image left out.
    num_ignored: number of files that do not look like images.
  """

  num_images: dict
  num_converted: dict
  skipped: tuple
  num_ignored: int


def prepare(images_dir, out_dir, *, on_broken="error", min_size=None):
  """Writes the images below images_dir to out_dir as a TFDS data set.

  The work is done in a hidden folder beside out_dir and renamed at the end, so
  that out_dir is either complete or absent. The report stays in it too.

  Args:
    images_dir: folder in one of the three layouts of `folder_layout`.
    out_dir: folder to create; may exist if empty.
    on_broken: "error" stops at the first image that is broken or too small;
      "skip" leaves such images out and lists them in the report.
    min_size: least height and width in pixels, or None for any.

  Returns:
    A Report.

  Raises:
    FileNotFoundError: images_dir does not exist or holds no images.
    ValueError: unknown on_broken, no layout fits, a broken image, a split of
      which nothing is left, or an out_dir that is in use.
  """
  if on_broken not in ON_BROKEN:
    raise ValueError(
      f"unknown on_broken {on_broken!r}; use one of {', '.join(ON_BROKEN)}"
    )
  # Resolved, so that a link to the images is recognised as their folder.
  images_dir = pathlib.Path(images_dir).expanduser().resolve()
  out_dir = pathlib.Path(out_dir).expanduser().resolve()
  _check_out_dir(images_dir, out_dir)
  found = folder_layout.scan(images_dir)
  out_dir.parent.mkdir(parents=True, exist_ok=True)
  work_dir = tempfile.mkdtemp(dir=out_dir.parent, prefix=f".{out_dir.name}.")
  try:
    builder = folder_builder.PreparedImages(
      found,
      skip_broken=on_broken == "skip",
      min_size=min_size,
      data_dir=work_dir,
      file_format="array_record",
    )
    # TFDS speaks of a download and of the temporary folder: not our news.
    with contextlib.redirect_stdout(io.StringIO()):
      builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False)
      )
    report = Report(
      num_images={split: dict(n) for split, n in builder.num_images.items()},
      num_converted=dict(builder.num_converted),
      skipped=tuple(builder.skipped),
      num_ignored=found.num_ignored,
    )
    data_path = pathlib.Path(builder.data_path)
    (data_path / REPORT_FILE).write_text(
      format_report(report) + "\n", encoding="utf-8"
    )
    data_path.rename(out_dir)
  finally:
    shutil.rmtree(work_dir)
  return report


def format_report(report):
  """Returns a Report as lines of text."""
  lines = []
  for split, counts in report.num_images.items():
    lines.append(f"{split}: {sum(counts.values())} images")
    lines.extend(f"  {name}: {n}" for name, n in counts.items() if name)
  kinds = [f"{kind} {n}" for kind, n in sorted(report.num_converted.items())]
  lines.append(f"converted on reading: {', '.join(kinds) or 'none'}")
  lines.append(f"ignored, not images: {report.num_ignored} files")
  lines.append(f"skipped: {len(report.skipped)} images")
  lines.extend(f"  {reason}" for _, reason in report.skipped)
  # A file name need not be valid Unicode, but what is printed must.
  return "\n".join(lines).encode("utf-8", "replace").decode()


def _check_out_dir(images_dir, out_dir):
  """Raises ValueError unless out_dir is free and outside images_dir."""
  if out_dir.is_relative_to(images_dir):
    raise ValueError(
      f"out_dir {out_dir} lies inside images_dir {images_dir}, where it would"
      " be taken for images; choose a folder outside"
    )
  if out_dir.exists() and not (out_dir.is_dir() and not any(out_dir.iterdir())):
    raise ValueError(
      f"out_dir {out_dir} already exists and is not an empty folder; remove it"
      " or choose another"
    )
