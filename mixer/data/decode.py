"""Decodes image files to RGB arrays: the whole image, or only a window of it."""

import dataclasses

import numpy as np
from PIL import Image

from mixer.data import jpeg, orientation, pillow, turbojpeg


@dataclasses.dataclass(frozen=True)
class Decoding:
    """How to decode an image file.

    Attributes:
      as_tensorflow: decode to TensorFlow's pixels, as for the paper's images: ignore EXIF's
        orientation, drop transparency, and accept what libjpeg makes of a JPEG that is damaged but
        has an end. Otherwise an image is decoded as people see it, turned upright and laid over
        white, and a damaged one is an error.
      fast: decode a JPEG at 1/2, 1/4 or 1/8 of its size if a window is then still as large as
        needed. This changes the pixels.
      max_pixels: an image with more is treated as damage or an attack. ImageNet's largest has 61
        million.
      max_aspect_ratio: the maximum ratio of the longer to the shorter side.
    """

    as_tensorflow: bool = False
    fast: bool = False
    max_pixels: int = 2**26
    max_aspect_ratio: float = 100.0

    def check_size(self, height: int, width: int) -> None:
        """Raises ValueError if this size is not allowed."""
        size = f"an image of {height:,} x {width:,} pixels"
        if height * width > self.max_pixels:
            raise ValueError(
                f"{size}: more than {self.max_pixels:,} are treated as damage or an attack. If the "
                f"image is fine, raise config.input.max_pixels"
            )
        if min(height, width) < 2:
            raise ValueError(f"{size}: too small to be a picture")
        if max(height, width) > self.max_aspect_ratio * min(height, width):
            raise ValueError(
                f"{size}: one side more than {self.max_aspect_ratio:g} times as long as the other "
                f"is treated as damage. If the image is fine, raise config.input.max_aspect_ratio"
            )


UPRIGHT = Decoding()


class Encoded:
    """An image file that is decoded lazily, only as far as needed.

    libjpeg-turbo decodes common JPEGs; version 3 decodes only what a window needs. The pixels are
    those of the whole image and of TensorFlow's default (fast DCT, interpolated chroma), with which
    the paper's images were decoded. Pillow decodes all other files.

    Attributes:
      height, width: in pixels.

    Args:
      data: the file's bytes.
      decoding: how to decode it.
      to_the_end: also decode what is below a window, to detect damage there. Once per file is
        enough; it takes a fifth longer.

    Raises:
      ValueError: not a readable image, truncated, damaged, or of a size that `decoding` does not
        allow; also raised by `window` and `pixels`.
    """

    def __init__(self, data: bytes, decoding: Decoding = UPRIGHT, *, to_the_end: bool = True):
        self._data, self._decoding, self._to_the_end = data, decoding, to_the_end
        self._turn, self._pixels = orientation.TURNS[1], None
        header = jpeg.read_header(data) if data.startswith(jpeg.START) else None
        if header is None:
            self._pixels = _by_pillow(data, decoding)
            self.height, self.width = self._pixels.shape[:2]
            return
        decoding.check_size(header.height, header.width)
        self._data = header.data
        self._in_parts = header.complete and turbojpeg.available()
        if not decoding.as_tensorflow:
            self._turn = orientation.TURNS[header.orientation]
        size = header.height, header.width
        self.height, self.width = size[::-1] if self._turn.transpose else size

    def pixels(self) -> np.ndarray:
        """The whole image, uint8 [height, width, 3], RGB."""
        if self._pixels is None:
            stored = jpeg.decode(self._data, forgiving=self._decoding.as_tensorflow)
            self._pixels = self._turn.upright(stored)
        return self._pixels

    def window(
        self, top: int, left: int, height: int, width: int, at_least: tuple[int, int] | None = None
    ) -> np.ndarray:
        """A part of the image, uint8 [height, width, 3].

        With `fast` and `at_least`, a (height, width), the part may be returned at 1/2, 1/4 or 1/8
        of its size, but not smaller than `at_least`.
        """
        if self._pixels is None and self._in_parts:
            shrink = 1
            if self._decoding.fast and at_least:
                ratio = min(height // at_least[0], width // at_least[1])
                shrink = max(d for d in (1, 2, 4, 8) if d <= max(ratio, 1))
            stored = self._turn.stored(top, left, height, width, self.height, self.width)
            part = turbojpeg.window(
                self._data, *(side // shrink for side in stored), shrink, self._to_the_end
            )
            if part is not None:
                return self._turn.upright(part)
        return self.pixels()[top : top + height, left : left + width]


def decode(data: bytes, decoding: Decoding = UPRIGHT) -> np.ndarray:
    """Decodes an image file into uint8 [H, W, 3].

    Grey becomes three equal channels, 16 bits become 8, CMYK and palettes are converted. Of an
    animation the first image is decoded.

    Raises:
      ValueError: see `Encoded`.
    """
    return Encoded(data, decoding).pixels()


def _by_pillow(data: bytes, decoding: Decoding) -> np.ndarray:
    pixels = pillow.decode(data, decoding.check_size, as_tensorflow=decoding.as_tensorflow)
    if data.startswith(jpeg.START) and not decoding.as_tensorflow:
        jpeg.check_four_colours(data)
    return pixels


def opened(
    image: bytes | np.ndarray | Image.Image, decoding: Decoding, channels: int = 3, **options
) -> Encoded | np.ndarray:
    """Prepares a source's image for the first transform; grey arrays become RGB.

    Args:
      channels: of the model's images. With 1 or 3, these are RGB here.
      options: for `Encoded`.

    Raises:
      ValueError: see `Encoded`.
      TypeError: neither bytes nor a uint8 array of shape [H, W, 3], [H, W] or [H, W, 1]; or with
        other `channels` C, not [H, W, C].
    """
    if channels not in (1, 3):
        return _with_channels(image, channels)
    if isinstance(image, bytes):
        return Encoded(image, decoding, **options)
    if isinstance(image, Image.Image):
        return pillow.of_image(image, decoding.check_size, as_tensorflow=decoding.as_tensorflow)
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.size:
        grey = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 1)
        if grey:
            return np.repeat(image.reshape(*image.shape[:2], 1), 3, axis=2)
        if image.ndim == 3 and image.shape[2] == 3:
            return image
    found = f"a {type(image).__name__}"
    if isinstance(image, np.ndarray):
        found = f"{image.dtype} {list(image.shape)}"
    raise TypeError(
        f"its image is {found}: expected uint8 [H, W, 3], uint8 [H, W] (grey), or the bytes of a "
        f"file{_hint(image)}"
    )


def _with_channels(image: bytes | np.ndarray, channels: int) -> np.ndarray:
    if not isinstance(image, np.ndarray):
        raise TypeError(
            f"an image file has 1 or 3 channels here, but config.model.in_chans is {channels}: "
            f"store the images as arrays (arrays:PATH)"
        )
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != channels:
        raise TypeError(
            f"its image is {image.dtype} {list(image.shape)}: expected uint8 [H, W, {channels}], "
            f"as config.model.in_chans is {channels}"
        )
    return image


def _hint(image) -> str:
    """How to convert this object to an accepted image; "" if unknown."""
    if not isinstance(image, np.ndarray):
        return ""
    if not image.size:
        return ". It has no pixels"
    if image.dtype.kind == "f":
        return ". For floats in [0, 1] pass (255 * image).round().astype('uint8')"
    if image.dtype.kind in "iu" and image.dtype != np.uint8:
        low, high = image.min(), image.max()
        if low < 0 or high > 255:
            return f". Its values are {low} to {high}: rescale them to 0 to 255"
        return ". Its values are in 0 to 255: pass image.astype('uint8')"
    if image.ndim == 3 and image.shape[0] in (1, 3):
        return ". Channels come last: pass image.transpose(1, 2, 0)"
    if image.ndim == 3 and image.shape[2] == 4:
        return (
            ". Drop the fourth channel if it is transparency, with image[..., :3], or set "
            "config.model.in_chans=4"
        )
    if image.ndim == 3:
        return f". For images of so many channels set config.model.in_chans={image.shape[2]}"
    return ""
