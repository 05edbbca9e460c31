"""Image files to RGB arrays: whole, or only the window that is asked for."""

import dataclasses
import io
import struct

import numpy as np
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError

from mixer.data import turbojpeg

# An image with more pixels is taken for damage or an attack: ImageNet's largest has 61 million.
MAX_PIXELS = 2**26
# ... and a thinner one for a blank that some crawler has fetched.
MIN_SIDE = 2


class Encoded:
    """An image file, decoded as far as it is looked at.

    Common JPEGs go to libjpeg-turbo, with version 3 only as much of them as a window needs; the
    pixels are those of the whole, and of TensorFlow's default (the fast DCT, interpolated chroma),
    which the paper's images went through. All other files, and what it stumbles over, go to Pillow.

    Attributes:
      height, width: in pixels, upright (EXIF orientation applied).

    Args:
      data: the file's bytes.
      fast: JPEGs may be decoded at a half, a quarter or an eighth of their size where a window is
        then still larger than it has to be: other pixels.

    Raises:
      ValueError: not an image that can be read, cut short, larger than 2**26 pixels, or thinner
        than 2; also raised by `window`.
    """

    def __init__(self, data: bytes, *, fast: bool = False):
        self._data, self._fast, self._pixels = data, fast, None
        self._turn, size = _JPEG_TURNS[1], None
        try:
            if _is_whole_jpeg(data):
                height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
                if colours in ("YCbCr", "Gray", "RGB"):
                    self._turn = _JPEG_TURNS[_orientation(data)]
                    size = (width, height) if self._turn.transpose else (height, width)
        except (ValueError, IndexError):
            pass  # whatever is wrong with it, Pillow says
        if size is None:
            self._pixels = _decode_with_pillow(data)
            size = self._pixels.shape[:2]
        self.height, self.width = size
        _check_size(self.height, self.width)

    def pixels(self) -> np.ndarray:
        """The whole image, uint8 [height, width, 3], RGB."""
        if self._pixels is None:
            try:
                self._pixels = self._turn.upright(simplejpeg.decode_jpeg(self._data, fastdct=True))
            except ValueError:
                self._pixels = _decode_with_pillow(self._data)
        return self._pixels

    def window(
        self, top: int, left: int, height: int, width: int, at_least: tuple[int, int] | None = None
    ) -> np.ndarray:
        """A part of the image, uint8 [height, width, 3].

        With `fast` and `at_least`, a (height, width), the part may come at a half, a quarter or an
        eighth of its size, but not smaller than that.
        """
        if self._pixels is None and turbojpeg.available():
            shrink = 1
            if self._fast and at_least:
                ratio = min(height // at_least[0], width // at_least[1])
                shrink = max(d for d in (1, 2, 4, 8) if d <= max(ratio, 1))
            stored = self._turn.stored(top, left, height, width, self.height, self.width)
            part = turbojpeg.window(self._data, *(side // shrink for side in stored), shrink)
            if part is not None:
                return self._turn.upright(part)
        return self.pixels()[top : top + height, left : left + width]


def decode(data: bytes) -> np.ndarray:
    """Decodes an image file into uint8 [H, W, 3], upright (EXIF orientation applied).

    Grey becomes three equal channels, 16 bits are scaled to 8, CMYK and palettes are converted,
    transparency is dropped.

    Raises:
      ValueError: see `Encoded`.
    """
    return Encoded(data).pixels()


@dataclasses.dataclass(frozen=True)
class _Turn:
    """How stored pixels become upright ones: transposed, then flipped."""

    transpose: bool
    down: bool
    across: bool

    def upright(self, stored: np.ndarray) -> np.ndarray:
        image = stored.swapaxes(0, 1) if self.transpose else stored
        image = image[::-1] if self.down else image
        return image[:, ::-1] if self.across else image

    def stored(self, top, left, height, width, full_height, full_width):
        """A window's place among the stored pixels."""
        top = full_height - top - height if self.down else top
        left = full_width - left - width if self.across else left
        return (left, top, width, height) if self.transpose else (top, left, height, width)


# By EXIF's orientation, 1 ... 8.
_JPEG_TURNS = {
    1: _Turn(False, False, False),
    2: _Turn(False, False, True),
    3: _Turn(False, True, True),
    4: _Turn(False, True, False),
    5: _Turn(True, False, False),
    6: _Turn(True, False, True),
    7: _Turn(True, True, True),
    8: _Turn(True, True, False),
}


def _is_whole_jpeg(data: bytes) -> bool:
    return data[:3] == b"\xff\xd8\xff" and b"\xff\xd9" in data[-1024:]


def _orientation(data: bytes) -> int:
    """What the EXIF segment says, 1 ... 8; 1 if there is none or it is damaged."""
    at = 2
    # The segments of applications and comments, before the picture's.
    while data[at] == 0xFF and (0xE0 <= data[at + 1] <= 0xEF or data[at + 1] == 0xFE):
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
        if data[at + 4 : at + 10] == b"Exif\0\0":
            return _orientation_of_tiff(data[at + 10 : end])
        at = end
    return 1


def _orientation_of_tiff(tiff: bytes) -> int:
    order = "<" if tiff[:2] == b"II" else ">"
    try:
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, start)
        for i in range(entries):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, start + 2 + 12 * i)
            if tag == 0x0112:
                return value if value in _JPEG_TURNS else 1
    except struct.error:
        pass
    return 1


def _check_size(height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        raise ValueError(
            f"an image of {height:,} x {width:,} pixels: more than {MAX_PIXELS:,} are taken for "
            f"damage"
        )
    if min(height, width) < MIN_SIDE:
        raise ValueError(f"an image of {height} x {width} pixels: too small to be a picture")


def _decode_with_pillow(data: bytes) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(data)) as image:
            size = image.height, image.width
            if image.height * image.width <= MAX_PIXELS:
                image.load()
                upright = ImageOps.exif_transpose(image)
                if upright.mode.startswith("I"):
                    deep = np.asarray(upright).astype(np.uint32)
                    upright = Image.fromarray((deep // 257).clip(0, 255).astype(np.uint8))
                return np.asarray(upright.convert("RGB"))
    except UnidentifiedImageError:
        raise ValueError(f"not a readable image: {len(data)} bytes of no known format") from None
    except Exception as error:  # Pillow's readers raise of many kinds on damaged files
        raise ValueError(f"not a readable image ({len(data)} bytes): {error}") from error
    _check_size(*size)
