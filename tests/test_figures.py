# SPDX-License-Identifier: Apache-2.0
"""Figures show what they say, and the committed ones are those of the code."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import PIL.PngImagePlugin
import pytest

from scripts.figures import __main__ as figures
from scripts.figures import canvas as canvas_lib
from scripts.figures import levels as levels_lib
from scripts.figures import noisy_photograph
from scripts.figures import numbers
from scripts.figures import photographs
from scripts.figures import plots
from scripts.figures import wavelet
from simple_diffusion import build
from simple_diffusion import sizes


@pytest.mark.parametrize("name", figures.DRAW)
def test_committed_figures_are_those_of_the_code(name, tmp_path):
  drawn = figures.draw(tmp_path, [name])
  committed = figures.FIGURES / f"{name}.png"
  assert figures.difference(committed, tmp_path / committed.name) is None
  if not drawn:  # Its study has no results.
    return
  with PIL.Image.open(committed) as image:
    assert image.width in (2 * canvas_lib.WIDTH, 2 * 640)


def test_no_figure_is_drawn_by_hand():
  names = {path.stem for path in figures.FIGURES.glob("*.png")}
  assert names == set(figures.DRAW)


def test_drawing_twice_gives_the_same_bytes(tmp_path):
  for name in ("a.png", "b.png"):
    canvas_lib.save(figures.DRAW["logsnr"](), tmp_path / name)
  first, second = (path.read_bytes() for path in tmp_path.iterdir())
  assert first == second


def picture(path, *, changed=0, software="one", side=100):
  pixels = np.full((side, side, 3), 200, np.uint8)
  pixels.reshape(-1, 3)[:changed, 1] = 100
  info = PIL.PngImagePlugin.PngInfo()
  info.add_text("Software", software)
  info.add_text("Numbers", numbers.of(canvas_lib.blank(2)))
  PIL.Image.fromarray(pixels).save(path, pnginfo=info)
  return path


@pytest.mark.parametrize(
  "options, how",
  [
    ({}, None),
    ({"changed": 4}, None),
    ({"changed": 40}, "0.40%"),
    ({"software": "two"}, "was drawn by one, and here is two"),
    ({"side": 90}, "(100, 100) pixels, drawn again (90, 90)"),
  ],
)
def test_what_counts_as_a_difference(tmp_path, options, how):
  committed = picture(tmp_path / "old.png")
  found = figures.difference(
    committed, picture(tmp_path / "new.png", **options)
  )
  assert found == how if how is None else how in found


def curve(values, *, word="loss", tick="small", entry="both"):
  figure = canvas_lib.blank(200)
  axes = plots.panel(figure, (0.2, 0.2, 0.7, 0.6), y=word)
  middles, errors = [-7.5, -4.5, -1.5], [0.01, 0.0, 0.01]
  axes.errorbar(middles, values, yerr=errors, label="shifted")
  axes.set_ylim(0, 2)
  axes.set_yticks([0, 2], labels=["none", tick])
  figure.legend([axes.containers[0]], [entry])
  return figure


@pytest.mark.parametrize(
  "changed, how",
  [
    (curve([0.9301, 0.8, 0.5]), None),  # a machine's rounding
    (curve([0.94, 0.8, 0.5]), "has a point at 0.93, drawn again at 0.94"),
    (curve([0.93, np.nan, 0.5]), "drawn again at nan"),
    (
      curve([0.93, 0.8, 0.5], word="cost"),
      "'shifted'], drawn again ['both', 'none', 'small', 'cost'",
    ),
    (curve([0.93, 0.8, 0.5], tick="large"), "'none', 'large'"),
    (curve([0.93, 0.8, 0.5], entry="one"), "drawn again ['one', "),
    (canvas_lib.blank(200), "'shifted'], drawn again []"),
  ],
)
def test_a_point_that_moves_is_a_difference(changed, how):
  """By less than the pixels tell, such as the gain that a text speaks of."""
  committed = numbers.of(curve([0.93, 0.8, 0.5]))
  found = numbers.difference(committed, numbers.of(changed))
  assert found == how if how is None else how in found


def test_a_word_on_pictures_that_changes_is_a_difference():
  """A number on a photograph is few pixels, and no point of a curve."""

  def labelled(word):
    figure = canvas_lib.blank(200)
    canvas_lib.place(figure, 0, 0, np.zeros((9, 9, 3), np.uint8))
    canvas_lib.outlined(figure.text(0, 0, word))
    return numbers.of(figure)

  assert numbers.difference(labelled("0.76"), labelled("0.76")) is None
  found = numbers.difference(labelled("0.76"), labelled("0.78"))
  assert found == "has the words ['0.76'], drawn again ['0.78']"
  assert numbers.difference("", labelled("0.76")) == "has no numbers yet"


def test_numbers_are_in_the_file(tmp_path):
  paths = [tmp_path / "old.png", tmp_path / "new.png"]
  for path, gain in zip(paths, (0.93, 0.932), strict=True):
    canvas_lib.save(curve([gain, 0.8, 0.5]), path)
  found = figures.difference(*paths)
  assert found == "has a point at 0.93, drawn again at 0.932"


def test_check_names_the_figures(tmp_path, monkeypatch):
  draw = {"a": figures.DRAW["logsnr"], "b": figures.DRAW["logsnr"]}
  monkeypatch.setattr(figures, "DRAW", draw)
  figures.draw(tmp_path, draw)
  assert figures.check(tmp_path) == []
  (tmp_path / "a.png").unlink()
  with PIL.Image.open(tmp_path / "b.png") as image:
    info = PIL.PngImagePlugin.PngInfo()
    info.add_text("Software", image.info["Software"])
    info.add_text("Numbers", image.info["Numbers"])
    image.rotate(180).save(tmp_path / "b.png", pnginfo=info)
  missing, different = figures.check(tmp_path)
  assert missing == "a.png is not there"
  assert different.startswith("b.png differs in ")


def test_images_are_placed_pixel_by_pixel(tmp_path):
  rng = np.random.default_rng(0)
  pixels = rng.integers(0, 256, (6, 10, 3), np.uint8)
  canvas = canvas_lib.blank(41, 83)
  canvas_lib.place(canvas, 7, 11, pixels)
  canvas_lib.save(canvas, tmp_path / "placed.png")
  with PIL.Image.open(tmp_path / "placed.png") as image:
    saved = np.asarray(image.convert("RGB"))
  assert saved.shape == (2 * 41, 2 * 83, 3)
  np.testing.assert_array_equal(saved[22:28, 14:24], pixels)
  assert (saved == 255).all(axis=-1).sum() == 4 * 41 * 83 - 60


def test_photographs_have_authors():
  files = {path.name for path in photographs.SOURCE.glob("*.jpg")}
  assert files == {f"{name}.jpg" for name in photographs.NAMES}
  text = (photographs.SOURCE / "ATTRIBUTION.md").read_text()
  for entry in text.split("* `")[1:]:
    name = entry.partition("`")[0]
    files.remove(name)
    assert "CC" in entry and "https://" in entry and "Changes:" in entry
  assert not files


def test_shown_is_what_was_loaded():
  image = photographs.load("daisy")
  assert image.shape == (128, 128, 3) and image.dtype == np.float32
  with PIL.Image.open(photographs.SOURCE / "daisy.jpg") as file:
    pixels = np.asarray(file)
  np.testing.assert_array_equal(photographs.shown(image, 1), pixels)
  np.testing.assert_array_equal(photographs.shown(image, 3)[1::3, 2::3], pixels)
  assert photographs.shown([[[-9.0, 0.0, 9.0]]], 1).tolist() == [
    [[0, 128, 255]]
  ]


def test_noise_shrinks_by_the_square_of_the_factor():
  # A flat picture loses nothing to pooling; SNR 1 at log-SNR 0.
  eps = np.random.default_rng(1).standard_normal((64, 64, 3), np.float32)
  x = np.ones_like(eps)
  z, before, after = noisy_photograph.pooled(x, eps, jnp.float32(0.0), 4)
  assert z.shape == (16, 16, 3)
  # One over a mean of n squares of normals: standard deviation sqrt(2 / n).
  assert before == pytest.approx(1.0, abs=4 * math.sqrt(2 / eps.size))
  assert after == pytest.approx(16.0, rel=4 * math.sqrt(2 / 768))
  # Scaled as if made at the low resolution: unit power, here of a unit picture.
  assert np.mean(np.square(z)) == pytest.approx(1.0, abs=0.1)


def test_shifted_schedule_has_the_low_resolutions_snr():
  photograph = photographs.load("hat")
  low, plain, shifted = (
    np.array([after for _, _, after in cells])
    for _, cells in noisy_photograph.rows(photograph, np.random.default_rng(2))
  )
  np.testing.assert_allclose(shifted, low, rtol=0.05)
  np.testing.assert_allclose(plain / shifted, 16, rtol=0.02)


def test_mosaic_is_of_the_bands():
  rng = np.random.default_rng(3)
  image = rng.uniform(-0.1, 0.1, (32, 32, 3)).astype(np.float32)
  mosaic, places = wavelet.mosaic(image, levels=2)
  assert mosaic.shape == image.shape
  assert {name: (row, column) for row, column, name, _ in places} == {
    "LL2": (0, 0),
    "LH2": (0, 8),
    "HL2": (8, 0),
    "HH2": (8, 8),
    "LH1": (0, 16),
    "HL1": (16, 0),
    "HH1": (16, 16),
  }
  _, lh, hl, _ = wavelet.bands(image)
  corner = mosaic[1:16, 17:] / wavelet.GAIN  # without the white lines
  np.testing.assert_allclose(corner, lh[1:, 1:], rtol=1e-5)
  stds = {name: std for _, _, name, std in places}
  assert stds["HL1"] == pytest.approx(hl.std())
  # White noise gains 1.038 in LH and HL, 1.5 in HH, standard deviations:
  # sqrt(.71875 * 1.5) and sqrt(1.5^2), the 5/3 filters' norms.
  assert stds["HH1"] / image.std() == pytest.approx(1.5, rel=0.1)
  assert stds["LH1"] / image.std() == pytest.approx(1.038, rel=0.1)


def test_flat_images_have_no_details():
  _, *details = wavelet.bands(np.full((8, 8, 3), 0.5, np.float32))
  for band in details:
    np.testing.assert_array_equal(band, 0)


UNET = dict(
  name="unet",
  base_channels=8,
  emb_channels=16,
  channel_multiplier=(1, 2, 3),
  num_res_blocks=(1, 2, 3),
  attn_resolutions=(2,),
  num_heads=2,
  dropout=0.0,
  dropout_from_resolution=0,
  logsnr_input_type="linear",
  patching="dwt_1",
  num_classes=3,
  dtype="float32",
)
UVIT = dict(
  name="uvit",
  base_channels=8,
  emb_channels=16,
  channel_multiplier=(1, 4),
  num_res_blocks=(2,),
  num_transformer_blocks=5,
  num_heads=2,
  transformer_dropout=0.0,
  logsnr_input_type="linear",
  patching="none",
  num_classes=3,
  dtype="float32",
)


def totals(network, shape):
  """Parameters and multiply-adds, of the whole and in the table of `sizes`."""
  variables = jax.eval_shape(
    network.init, jax.random.key(0), *sizes.one_image(shape)
  )
  whole = [
    sizes.num_params(variables["params"]),
    sizes.train_flops(network, shape) // 6,
  ]
  last = sizes.size_table(network, shape).splitlines()[-1]
  assert [int(cell.replace(",", "")) for cell in last.split()[1:]] == whole
  return whole


def test_levels_of_the_unet():
  network, shape = build.make_network(UNET), (16, 16, 3)
  levels, *found = levels_lib.of(network, shape)
  assert found == totals(network, shape)
  assert [level.resolution for level in levels] == [8, 4, 2]
  assert [level.channels for level in levels] == [8, 16, 24]
  assert [level.attention for level in levels] == [False, False, True]
  assert [level.blocks for level in levels] == [
    {"down": 1, "up": 2},
    {"down": 2, "up": 3},
    {"down": 3, "up": 4, "middle": 2},
  ]
  conditioning = 8 * 16 + 16 * 16  # of 8 features and 16 units
  assert sum(level.macs for level in levels) == found[1] - conditioning


def test_levels_of_the_uvit():
  network, shape = build.make_network(UVIT), (8, 8, 3)
  levels, *found = levels_lib.of(network, shape)
  assert found == totals(network, shape)
  assert [(n.resolution, n.channels, n.blocks) for n in levels] == [
    (8, 8, {"down": 2, "up": 2}),
    (4, 32, {}),
  ]
  # Attention, MLP and FiLM of each block, 16 tokens of 32, E = 16; attention's
  # logits and values, 16 x 16 x 32 each; then in, out and positions.
  blocks = 5 * (16 * 12 * 32**2 + 2 * 16 * 16 * 32 + 16 * 64)
  assert levels[1].macs == blocks + 16 * (8 * 32 + 32 * 8)
