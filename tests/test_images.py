# SPDX-License-Identifier: Apache-2.0
"""Image files of every kind against pixels worked out by hand."""

import io
import struct
import zlib

import numpy as np
import PIL.Image
import pytest

from simple_diffusion import images

# Levels 0, 1/2 and 1 with their 16-bit values and, v / 257, 8-bit values.
LEVELS_16 = np.array([[0, 32896, 65535]], np.uint16)
LEVELS_8 = np.array([[0, 128, 255]], np.uint8)


def encode(pil_image, image_format, **options):
  buffer = io.BytesIO()
  pil_image.save(buffer, image_format, **options)
  return buffer.getvalue()


def encode_png_16(pixels):
  """PNG of uint16 [H, W, 3], which Pillow can read but not write."""

  def chunk(kind, content):
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum

  height, width, _ = pixels.shape
  header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
  rows = b"".join(b"\0" + row.tobytes() for row in pixels.astype(">u2"))
  return (
    b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", header)
    + chunk(b"IDAT", zlib.compress(rows))
    + chunk(b"IEND", b"")
  )


def decode(encoded, num_channels=3):
  return images.decode(encoded, num_channels=num_channels, name="it")


def colours(height, width):
  """RGB that differs in every pixel: red counts rows, green columns."""
  pixels = np.zeros((height, width, 3), np.uint8)
  pixels[..., 0] = np.arange(height)[:, None]
  pixels[..., 1] = np.arange(width)
  return pixels


def test_rgb_is_lossless():
  pixels = colours(5, 7)
  encoded = encode(PIL.Image.fromarray(pixels), "PNG")
  np.testing.assert_array_equal(decode(encoded), pixels)
  assert images.conversions(encoded) == ()


def test_grey_is_replicated():
  encoded = encode(PIL.Image.fromarray(LEVELS_8), "PNG")
  np.testing.assert_array_equal(
    decode(encoded), np.stack([LEVELS_8] * 3, axis=-1)
  )
  np.testing.assert_array_equal(decode(encoded, 1), LEVELS_8[..., None])
  assert images.conversions(encoded) == ("grey",)


def test_colour_to_grey_is_luminance():
  for colour, weight in [("red", 0.299), ("lime", 0.587), ("blue", 0.114)]:
    encoded = encode(PIL.Image.new("RGB", (2, 2), colour), "PNG")
    np.testing.assert_allclose(decode(encoded, 1), 255 * weight, atol=0.5)


@pytest.mark.parametrize(
  "pixels, image_format",
  [
    (LEVELS_16, "PNG"),
    (LEVELS_16, "TIFF"),
    (LEVELS_16.astype(np.int32), "TIFF"),
  ],
)
def test_16_bit_grey_is_scaled_not_clipped(pixels, image_format):
  encoded = encode(PIL.Image.fromarray(pixels), image_format)
  np.testing.assert_array_equal(decode(encoded, 1)[..., 0], LEVELS_8)
  assert "16-bit" in images.conversions(encoded)


def test_16_bit_colour_is_scaled():
  encoded = encode_png_16(np.stack([LEVELS_16] * 3, axis=-1))
  np.testing.assert_array_equal(decode(encoded)[..., 1], LEVELS_8)
  assert images.conversions(encoded) == ("16-bit",)


def test_float_is_scaled_from_unit_range():
  pixels = np.array([[0.0, 0.5, 1.0]], np.float32)
  encoded = encode(PIL.Image.fromarray(pixels), "TIFF")
  np.testing.assert_array_equal(decode(encoded, 1)[..., 0], LEVELS_8)
  assert images.conversions(encoded) == ("grey", "float")
  for outside in (2.0, np.nan):
    encoded = encode(PIL.Image.fromarray(pixels * outside), "TIFF")
    with pytest.raises(ValueError, match="it: pixel values .* outside 0..1"):
      decode(encoded)


def test_bilevel():
  encoded = encode(PIL.Image.new("1", (2, 2), 1), "PNG")
  assert (decode(encoded) == 255).all()


def test_transparency_is_composited_on_white():
  rgba = np.array([[[200, 0, 0, 0], [200, 0, 0, 255], [200, 0, 0, 51]]])
  encoded = encode(PIL.Image.fromarray(rgba.astype(np.uint8)), "PNG")
  # The last is 0.2 * (200, 0, 0) + 0.8 * 255.
  expected = [[[255, 255, 255], [200, 0, 0], [244, 204, 204]]]
  np.testing.assert_array_equal(decode(encoded), expected)
  assert images.conversions(encoded) == ("transparent",)

  encoded = encode(PIL.Image.new("LA", (2, 2), (0, 51)), "PNG")
  np.testing.assert_array_equal(decode(encoded, 1), np.full((2, 2, 1), 204))
  assert images.conversions(encoded) == ("grey", "transparent")


def test_palette():
  image = PIL.Image.new("P", (2, 1))
  image.putpalette([10, 20, 30, 40, 50, 60])
  image.putpixel((1, 0), 1)
  expected = np.array([[[10, 20, 30], [40, 50, 60]]])
  encoded = encode(image, "PNG")
  np.testing.assert_array_equal(decode(encoded), expected)
  assert images.conversions(encoded) == ("palette",)

  encoded = encode(image, "PNG", transparency=0)
  expected[0, 0] = 255
  np.testing.assert_array_equal(decode(encoded), expected)
  assert images.conversions(encoded) == ("palette", "transparent")


def test_cmyk():
  image = PIL.Image.new("CMYK", (8, 8), (0, 255, 255, 0))  # Red in print.
  encoded = encode(image, "JPEG", quality=100)
  np.testing.assert_allclose(decode(encoded)[4, 4], [255, 0, 0], atol=2)
  assert images.conversions(encoded) == ("cmyk",)


# Where EXIF says the first row and column of the stored image belong.
@pytest.mark.parametrize(
  "orientation, upright",
  [
    (1, lambda x: x),
    (2, lambda x: x[:, ::-1]),
    (3, lambda x: x[::-1, ::-1]),
    (4, lambda x: x[::-1]),
    (5, lambda x: x.transpose(1, 0, 2)),
    (6, lambda x: np.rot90(x, -1)),
    (7, lambda x: x[::-1, ::-1].transpose(1, 0, 2)),
    (8, np.rot90),
  ],
)
def test_exif_orientation_is_applied(orientation, upright):
  pixels = colours(4, 6)
  exif = PIL.Image.Exif()
  exif[0x0112] = orientation
  encoded = encode(PIL.Image.fromarray(pixels), "PNG", exif=exif)
  np.testing.assert_array_equal(decode(encoded), upright(pixels))
  expected = () if orientation == 1 else ("exif-rotated",)
  assert images.conversions(encoded) == expected


def test_first_frame_of_animation():
  frames = [PIL.Image.new("L", (4, 4), level) for level in (40, 200)]
  encoded = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
  assert (decode(encoded) == 40).all()
  assert "animated" in images.conversions(encoded)


def test_broken_images_are_named():
  noise = np.random.default_rng(0).integers(256, size=(64, 64, 3))
  whole = encode(PIL.Image.fromarray(noise.astype(np.uint8)), "JPEG")
  decode(whole)
  for broken, reason in [
    (whole[: len(whole) // 2], "truncated"),
    (b"", "an empty file"),
    (b"<html>not found</html>", "no known image format"),
    (encode(PIL.Image.new("L", (9, 9)), "PNG")[:40], ""),
  ]:
    with pytest.raises(ValueError, match=f"image a/b.jpg: .*{reason}"):
      images.decode(broken, num_channels=3, name="a/b.jpg")


def test_unknown_options_are_listed():
  with pytest.raises(ValueError, match=r"is 4; use 1 \(grey\) or 3"):
    decode(b"", 4)
  with pytest.raises(ValueError, match="'top'; use one of center, random, sq"):
    images.resize_and_crop(colours(4, 4), image_size=4, crop="top")


def test_with_channels():
  grey = LEVELS_8[..., None]
  rgb = images.with_channels(grey, num_channels=3)
  np.testing.assert_array_equal(rgb, np.stack([LEVELS_8] * 3, axis=-1))
  np.testing.assert_array_equal(images.with_channels(rgb, num_channels=1), grey)


@pytest.mark.parametrize("num_channels", [1, 3])
def test_halving_is_the_mean_of_blocks(num_channels):
  np_rng = np.random.default_rng(0)
  image = np_rng.integers(256, size=(16, 16, num_channels), dtype=np.uint8)
  blocks = image.reshape(8, 2, 8, 2, num_channels).mean((1, 3))
  small = images.resize_and_crop(image, image_size=8, crop="center")
  # Pillow rounds after each of its two passes.
  np.testing.assert_allclose(small, blocks, atol=1)


def test_shrinking_is_antialiased():
  stripes = np.zeros((48, 48, 1), np.uint8)
  stripes[:, ::2] = 255  # Subsampling would keep stripes or lose one colour.
  small = images.resize_and_crop(stripes, image_size=32, crop="center")
  assert 100 < small[:, 4:-4].min() and small[:, 4:-4].max() < 155


# Sides that are odd after a halving, and a short side of twice the target.
@pytest.mark.parametrize(
  "size, image_size",
  [((333, 500), 128), ((683, 512), 256), ((513, 770), 256), ((90, 64), 64)],
)
def test_center_crop_is_adms(size, image_size):
  rows, columns = size
  pixels = np.random.default_rng(0).integers(256, size=(*size, 3), dtype="u1")
  expected = PIL.Image.fromarray(pixels)
  while min(rows, columns) >= 2 * image_size:
    rows, columns = rows // 2, columns // 2
    expected = expected.resize((columns, rows), PIL.Image.Resampling.BOX)
  scale = image_size / min(rows, columns)
  rows, columns = round(rows * scale), round(columns * scale)
  expected = expected.resize((columns, rows), PIL.Image.Resampling.BICUBIC)
  top, left = (rows - image_size) // 2, (columns - image_size) // 2
  cropped = images.resize_and_crop(pixels, image_size=image_size, crop="center")
  np.testing.assert_array_equal(
    cropped,
    np.asarray(expected)[top : top + image_size, left : left + image_size],
  )


@pytest.mark.parametrize(
  "image_size, shape", [(4, (4, 4)), ((4, 6), (4, 6)), ((2, 8), (2, 8))]
)
@pytest.mark.parametrize("crop", images.CROPS)
def test_shapes(image_size, shape, crop):
  for source_shape in [(8, 8), (9, 31), (31, 9), shape]:
    image = images.resize_and_crop(
      colours(*source_shape),
      image_size=image_size,
      crop=crop,
      np_rng=np.random.default_rng(0),
    )
    assert image.shape == (*shape, 3) and image.dtype == np.uint8


def test_center_crop_keeps_the_middle():
  image = images.resize_and_crop(colours(4, 10), image_size=4, crop="center")
  np.testing.assert_array_equal(image, colours(4, 10)[:, 3:7])


def test_random_crop_reaches_every_place():
  image = colours(4, 7)
  np_rng = np.random.default_rng(0)
  lefts = set()
  for _ in range(50):
    crop = images.resize_and_crop(
      image, image_size=4, crop="random", np_rng=np_rng
    )
    left = int(crop[0, 0, 1])
    np.testing.assert_array_equal(crop, image[:, left : left + 4])
    lefts.add(left)
  assert lefts == {0, 1, 2, 3}


def test_squash_keeps_both_ends():
  image = np.zeros((8, 32, 1), np.uint8)
  image[:, 16:] = 255
  small = images.resize_and_crop(image, image_size=8, crop="squash")
  assert small[4, 0, 0] == 0 and small[4, 7, 0] == 255
  assert 96 < small.mean() < 160


@pytest.mark.parametrize("shape", [(1, 1), (7, 64), (64, 7)])
@pytest.mark.parametrize("crop", images.CROPS)
def test_never_enlarges(shape, crop):
  with pytest.raises(ValueError) as error:
    images.resize_and_crop(colours(*shape), image_size=8, crop=crop, name="x")
  message = str(error.value)
  assert message.startswith("x is too small")
  assert f"{shape[1]} x {shape[0]}" in message and "--min_size=8" in message


def test_random_flip_flips_the_chosen():
  batch = np.stack([colours(2, 3), colours(2, 3) + 9])
  flipped = images.random_flip(batch, np.array([False, True]))
  np.testing.assert_array_equal(flipped[0], batch[0])
  np.testing.assert_array_equal(flipped[1], batch[1][:, ::-1])


def test_float_range_and_round_trip():
  levels = np.arange(256, dtype=np.uint8)
  floats = images.to_float(levels)
  assert floats.dtype == np.float32
  assert floats[0] == -1 and floats[255] == 1
  np.testing.assert_allclose(floats, np.linspace(-1, 1, 256), atol=1e-6)
  np.testing.assert_array_equal(images.to_uint8(floats), levels)


def test_to_uint8_rounds_and_clips():
  floats = np.array([-3.0, 3.0, -1 + 0.6 / 127.5, -1 + 0.4 / 127.5])
  np.testing.assert_array_equal(images.to_uint8(floats), [0, 255, 1, 0])
  with pytest.raises(FloatingPointError, match="are not finite"):
    images.to_uint8([0.5, np.nan])
