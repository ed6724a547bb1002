# SPDX-License-Identifier: Apache-2.0
"""From the bytes of an image file to uint8 pixels at the training size.

Images are uint8 arrays [H, W, C] with C = 1 (grey) or 3 (sRGB) until
`to_float` maps 0..255 to [-1, 1]. What a file holds is converted as follows:

  rotated by EXIF   turned upright before anything else
  grey              replicated to RGB, or kept if num_channels = 1
  colour            ITU-R 601 luminance if num_channels = 1
  palette           looked up
  transparent       composited on white
  16 bits           scaled to 8 bits, never clipped: grey as v / 257, colour by
                    Pillow, which drops the low byte
  float             0..1 scaled to 0..255; any other range is an error
  CMYK              Pillow's conversion, without colour profiles
  animated          first frame

An image is only ever made smaller: enlarging one silently would teach the
model to draw blur.
"""

import io

import numpy as np
import PIL.Image
import PIL.ImageOps

CROPS = ("center", "random", "squash")

_EXIF_ORIENTATION = 0x0112


def decode(encoded, *, num_channels, name):
  """Decodes an image file to 8-bit grey or RGB pixels.

  Args:
    encoded: bytes of the file, in any format that Pillow reads.
    num_channels: 1 for grey, 3 for RGB.
    name: what to call the image in an error, such as its path.

  Returns:
    uint8 [H, W, num_channels], writable only if copied.

  Raises:
    ValueError: the file is empty, truncated or no image; or num_channels is
      neither 1 nor 3.
  """
  _check_num_channels(num_channels)
  try:
    with PIL.Image.open(io.BytesIO(encoded)) as opened:
      image = opened
      if _is_rotated(opened):  # Else exif_transpose would copy for nothing.
        image = PIL.ImageOps.exif_transpose(opened)
      image = _to_8_bits(image)
      image = image.convert("L" if num_channels == 1 else "RGB")
  except PIL.UnidentifiedImageError as error:
    found = "an empty file" if not encoded else "no known image format"
    raise ValueError(f"cannot decode image {name}: {found}") from error
  except Exception as error:
    # Pillow's readers raise whatever their parser stumbles over (OSError,
    # SyntaxError, IndexError, struct.error ...): all mean a broken file.
    raise ValueError(f"cannot decode image {name}: {error}") from error
  return np.asarray(image).reshape(image.height, image.width, num_channels)


def conversions(encoded):
  """Names what `decode` will have to convert, from the header alone.

  Args:
    encoded: bytes of an image file that `decode` accepts.

  Returns:
    A tuple out of "grey", "palette", "transparent", "16-bit", "float",
    "cmyk", "exif-rotated" and "animated"; empty for plain RGB.
  """
  with PIL.Image.open(io.BytesIO(encoded)) as image:
    mode = image.mode
    raw_modes = str([tile[3] for tile in image.tile])
    found = {
      "grey": mode in ("1", "L", "LA", "La", "I", "F") or mode[:2] == "I;",
      "palette": mode in ("P", "PA"),
      "transparent": image.has_transparency_data,
      # A 16-bit RGB file opens as 8-bit RGB; only the raw mode tells.
      "16-bit": mode[0] == "I" or ";16" in raw_modes,
      "float": mode == "F",
      "cmyk": mode == "CMYK",
      "exif-rotated": _is_rotated(image),
      "animated": getattr(image, "n_frames", 1) > 1,
    }
  return tuple(kind for kind, present in found.items() if present)


def with_channels(image, *, num_channels):
  """Converts uint8 [H, W, 1 or 3] to uint8 [H, W, num_channels]."""
  _check_num_channels(num_channels)
  if image.shape[-1] == num_channels:
    return image
  if num_channels == 3:
    return np.repeat(image, 3, axis=-1)
  return np.asarray(PIL.Image.fromarray(image).convert("L"))[..., None]


def resize_and_crop(image, *, image_size, crop, np_rng=None, name="image"):
  """Brings an image down to the training size.

  "center" and "random" shrink the image, keeping its aspect ratio, until it
  just covers the target, and cut out the middle or a random place (along the
  longer side, the only one with room). "squash" ignores the aspect ratio.

  Shrinking is that of ADM (Dhariwal and Nichol 2021, `center_crop_arr`): box
  halvings while the image is at least twice too large, then antialiased
  bicubic. The published reference batches of ImageNet were made that way, so
  samples and references have seen the same filter.

  Args:
    image: uint8 [H, W, C], C = 1 or 3.
    image_size: target side, or (height, width).
    crop: "center", "random" or "squash".
    np_rng: numpy.random.Generator, used by "random" only.
    name: what to call the image in an error.

  Returns:
    uint8 [height, width, C].

  Raises:
    ValueError: unknown crop, or a side of the image is below the target.
  """
  height, width = size_pair(image_size)
  check_crop(crop)
  if image.shape[:2] == (height, width):
    return image
  check_size(image.shape, image_size=image_size, name=name)
  image = _halved(image, (height, width))
  if crop == "squash":
    return _resized(image, (height, width))
  rows, columns = image.shape[:2]
  # Of the halved image, as an odd side lost a pixel.
  scale = max(height / rows, width / columns)
  shape = (
    max(height, round(rows * scale)),
    max(width, round(columns * scale)),
  )
  image = _resized(image, shape)
  room = (shape[0] - height, shape[1] - width)
  if crop == "center":
    top, left = room[0] // 2, room[1] // 2
  else:
    top, left = (int(np_rng.integers(pixels + 1)) for pixels in room)
  return image[top : top + height, left : left + width]


def random_flip(images, flip):
  """Mirrors left and right those of [B, H, W, C] where flip [B] is true."""
  flipped = images.copy()
  flipped[flip] = images[flip][:, :, ::-1]
  return flipped


def to_float(images):
  """Maps uint8 0..255 to float32 [-1, 1]: x / 127.5 - 1."""
  floats = np.asarray(images).astype(np.float32)
  floats /= 127.5  # In place: this runs over every batch.
  floats -= 1
  return floats


def to_uint8(images):
  """Maps float [-1, 1] to uint8, rounding and clipping; undoes `to_float`.

  Raises:
    FloatingPointError: if a pixel is not finite, which no image can show.
  """
  scaled = (np.asarray(images, np.float32) + 1) * 127.5
  if not np.isfinite(scaled).all():
    raise FloatingPointError(
      "pixels of samples are not finite; choose an earlier checkpoint, or "
      "another sampler"
    )
  return np.clip(np.round(scaled), 0, 255).astype(np.uint8)


def size_pair(image_size):
  """Returns (height, width) of an image_size given as one or two integers."""
  if isinstance(image_size, (int, np.integer)):
    return int(image_size), int(image_size)
  height, width = image_size
  return int(height), int(width)


def check_crop(crop):
  """Raises ValueError, listing the options, if crop is none of them."""
  if crop not in CROPS:
    raise ValueError(f"unknown crop {crop!r}; use one of {', '.join(CROPS)}")


def check_size(shape, *, image_size, name):
  """Raises ValueError if an image [H, W, ...] is smaller than image_size."""
  height, width = size_pair(image_size)
  if shape[0] < height or shape[1] < width:
    raise ValueError(
      f"{name} is too small: {shape[1]} x {shape[0]} pixels (width x height),"
      f" but image_size asks for {width} x {height}, and images are never"
      " enlarged; lower image_size, or leave small images out"
      f" (scripts.prepare_images --min_size={max(height, width)}"
      " --on_broken=skip)"
    )


def _resized(image, shape, resampling=PIL.Image.Resampling.BICUBIC):
  """Resizes uint8 [H, W, C] to shape (height, width)."""
  pil_image = PIL.Image.fromarray(
    image[..., 0] if image.shape[-1] == 1 else image
  )
  pil_image = pil_image.resize((shape[1], shape[0]), resampling)
  return np.asarray(pil_image).reshape(*shape, image.shape[-1])


def _halved(image, shape):
  """Halves uint8 [H, W, C] while both sides are at least twice `shape`'s."""
  while image.shape[0] >= 2 * shape[0] and image.shape[1] >= 2 * shape[1]:
    half = image.shape[0] // 2, image.shape[1] // 2
    image = _resized(image, half, PIL.Image.Resampling.BOX)
  return image


def _is_rotated(image):
  return image.getexif().get(_EXIF_ORIENTATION, 1) != 1


def _to_8_bits(image):
  """Returns a Pillow image of a mode whose convert() is then faithful."""
  image.load()
  if image.mode[0] == "I" or image.mode == "F":
    values = np.asarray(image).astype(np.float64)
    largest = 1.0 if image.mode == "F" else 65535.0
    if not (values.min() >= 0 and values.max() <= largest):
      raise ValueError(
        f"pixel values {values.min():g}..{values.max():g} lie outside"
        f" 0..{largest:g}; convert the file to 8 or 16 bits first"
      )
    return PIL.Image.fromarray(
      np.round(values * (255.0 / largest)).astype(np.uint8)
    )
  if image.has_transparency_data:
    image = image.convert("RGBA")
    white = PIL.Image.new("RGBA", image.size, "white")
    return PIL.Image.alpha_composite(white, image)
  return image


def _check_num_channels(num_channels):
  if num_channels not in (1, 3):
    raise ValueError(f"num_channels is {num_channels}; use 1 (grey) or 3 (RGB)")
