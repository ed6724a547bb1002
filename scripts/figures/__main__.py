# SPDX-License-Identifier: Apache-2.0
"""Draws the figures of formulas, programs and results, into docs/figures.

  python -m scripts.figures
  python -m scripts.figures --check   # changes nothing, compares

The same libraries write the same bytes. Another matplotlib sets text a little
differently; a picture says which one drew it, and only the same is compared: it
is in `pip install -e .[dev]`.
"""

import functools
import pathlib
import sys
import tempfile

from absl import flags
import numpy as np
import PIL.Image

from experiments import cli
from scripts.figures import canvas
from scripts.figures import logsnr
from scripts.figures import loss_language
from scripts.figures import loss_multitask
from scripts.figures import loss_spans
from scripts.figures import loss_studies
from scripts.figures import measured
from scripts.figures import networks
from scripts.figures import noisy_photograph
from scripts.figures import numbers
from scripts.figures import photograph_schedules
from scripts.figures import samples
from scripts.figures import small_schedules
from scripts.figures import toy_exact
from scripts.figures import toy_tasks
from scripts.figures import toy_tokens
from scripts.figures import wavelet

FIGURES = pathlib.Path(__file__).parent.parent.parent / "docs" / "figures"

DRAW = {
  "logsnr": logsnr.draw,
  "noisy_photograph": noisy_photograph.draw,
  "wavelet": wavelet.draw,
  "unet": functools.partial(networks.draw, "512,unet", "U-Net"),
  "uvit": functools.partial(networks.draw, "512,uvit", "U-ViT"),
  "flowers": functools.partial(samples.draw, samples.FLOWERS),
  "clothing": functools.partial(samples.draw, samples.CLOTHING),
  "clothing_schedules": functools.partial(samples.draw, samples.SCHEDULES, 640),
  "clothing_patchings": functools.partial(samples.draw, samples.PATCHINGS),
  "clothing_multiscale": functools.partial(
    samples.draw, samples.MULTISCALE, 640
  ),
  "photograph_schedules": photograph_schedules.draw,
  "small_schedules": small_schedules.draw,
  "exact_3_points": toy_exact.draw_3_points,
  "exact_5_points": toy_exact.draw_5_points,
  "tailr_mixture": toy_tokens.draw_tailr,
  "emo_synonyms": toy_tokens.draw_emo,
  "zlpr_imbalance": toy_tasks.draw_zlpr,
  "task_directions": toy_tasks.draw_directions,
  "loss_tabular": loss_studies.draw_tabular,
  "loss_images": loss_studies.draw_images,
  "loss_label_noise": loss_studies.draw_label_noise,
  "loss_multilabel": loss_studies.draw_multilabel,
  "loss_many_way": loss_studies.draw_many_way,
  "multitask_losses": loss_multitask.draw_losses,
  "multitask_conflicts": loss_multitask.draw_conflicts,
  "loss_spans": loss_spans.draw_heads,
  "loss_r_drop": loss_spans.draw_r_drop,
  "loss_few_labels": loss_spans.draw_few_labels,
  "loss_oracle": loss_language.draw_oracle,
  "loss_adaptation": loss_language.draw_adaptation,
}

# A pixel differs if a colour does by more than this, of 256 levels.
VISIBLE = 48
# Share of the pixels that may differ. (Between matplotlib 3.9 and 3.11 it is
# 2.5 %, and a curve that is three times as high changes hardly more.)
SAME = 0.0005

_CHECK = flags.DEFINE_bool("check", False, "Compare, and change nothing.")


def _read(path):
  """int16 [H, W, 3], what drew it, and its numbers."""
  with PIL.Image.open(path) as image:
    pixels = np.asarray(image.convert("RGB"), np.int16)
    return pixels, image.info["Software"], image.info.get("Numbers", "")


def difference(committed: pathlib.Path, drawn: pathlib.Path) -> str | None:
  """What is different between two pictures, or None.

  There is neither where nothing is measured yet.
  """
  if not drawn.exists():
    return "is of results that are not there" if committed.exists() else None
  if not committed.exists():
    return "is not there"
  old, old_software, old_numbers = _read(committed)
  new, new_software, new_numbers = _read(drawn)
  if old_software != new_software:
    return (
      f"was drawn by {old_software}, and here is {new_software}, which draws "
      "otherwise: pip install -e .[dev] has the one for all"
    )
  if old.shape != new.shape:
    return f"has {old.shape[:2]} pixels, drawn again {new.shape[:2]}"
  share = np.mean(np.abs(old - new).max(axis=-1) > VISIBLE)
  if share > SAME:
    return f"differs in {share:.2%} of its pixels"
  return numbers.difference(old_numbers, new_numbers)


def draw(folder: pathlib.Path, names) -> list[str]:
  """Draws figures into a folder; returns those of which there are results."""
  folder.mkdir(parents=True, exist_ok=True)
  drawn = []
  for name in names:
    try:
      canvas.save(DRAW[name](), folder / f"{name}.png")
      drawn.append(name)
    except measured.NotYetRun as command:
      print(f"no {name}.png before: {command}", file=sys.stderr)
  return drawn


def check(folder: pathlib.Path) -> list[str]:
  """What differs between a folder's figures and those of the code."""
  with tempfile.TemporaryDirectory() as temporary:
    drawn = pathlib.Path(temporary)
    draw(drawn, DRAW)
    found = {
      name: difference(folder / f"{name}.png", drawn / f"{name}.png")
      for name in DRAW
    }
  return [f"{name}.png {how}" for name, how in found.items() if how]


def main(_):
  if not _CHECK.value:
    drawn = draw(FIGURES, DRAW)
    print(f"drawn: {FIGURES}/{{{','.join(drawn)}}}.png")
    return
  if found := check(FIGURES):
    sys.exit(f"{'; '.join(found)}: run make figures and look at them")
  print(f"{len(DRAW)} figures are those of the code")


if __name__ == "__main__":
  cli.run(main)
