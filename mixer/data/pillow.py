"""Decodes with Pillow the image files that libjpeg-turbo does not read: all but common JPEGs."""

import contextlib
import io
import re
import struct
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from mixer.data import orientation

# {format, by Pillow's name: its file extensions}.
_ENDINGS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
}
FORMATS = tuple(_ENDINGS)
# Brands of the ISO base media format, in which many phones store pictures.
_ISO_BRANDS = dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1"), "HEIC")
_ISO_BRANDS |= dict.fromkeys((b"avif", b"avis"), "AVIF")
SUFFIXES = tuple(ending for endings in _ENDINGS.values() for ending in endings)

_ORIENTATION, _BITS_PER_SAMPLE, _PHOTOMETRIC = 0x0112, 258, 262  # tags of EXIF and TIFF
_PNG = b"\x89PNG\r\n\x1a\n"
_PPM = re.compile(
    rb"P[2356]" + 2 * rb"(?:\s|#.*\n)+\d+" + rb"(?:\s|#.*\n)+(\d+)"
)  # width, height, white
_TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")  # PNG chunks that no pixel depends on


def decode(
    data: bytes, check_size: Callable[[int, int], None], *, as_tensorflow: bool
) -> np.ndarray:
    """Decodes the first image of a file, uint8 [H, W, 3].

    Args:
      check_size: called with height and width before any pixel is decoded.
      as_tensorflow: keep the pixels as stored, and drop transparency. Otherwise the image is turned
        upright and laid over white.

    Raises:
      ValueError: not readable, a file that does not say which value is white, or what `check_size`
        raises.
    """
    try:
        image = _load(data, check_size)
    except ValueError:
        # Pillow refuses a PNG with long text chunks, which could fill the memory.
        plain = _without_text_chunks(data)
        if plain == data:
            raise
        image = _load(plain, check_size)
    bits = _bits(image, data)
    transparent = image.has_transparency_data and not as_tensorflow
    if image.mode.startswith(("I", "F")):
        pixels = _of_deep_grey(image, bits, transparent)
    else:
        pixels = _of_bytes(image, bits, transparent)
    if bits == 16 and pixels[..., :3].max() <= 16 and b"sBIT" not in data[: data.find(b"IDAT")]:
        raise ValueError(
            "a 16-bit image of values up to a sixteenth of white: it has 12 bits or fewer, and "
            "would be nearly black. Rescale it to 8 bits"
        )
    return pixels if as_tensorflow else _as_seen(image, pixels, transparent)


def of_image(
    image: Image.Image, check_size: Callable[[int, int], None], *, as_tensorflow: bool
) -> np.ndarray:
    """The pixels of an image that Pillow has opened or made, uint8 [H, W, 3]; see `decode`.

    Pillow decodes JPEGs a little differently from `mixer.data.decode`.

    Raises:
      ValueError: see `decode`.
    """
    check_size(image.height, image.width)
    if image.mode.startswith(("I", "F")):
        raise ValueError(
            f"a Pillow image of mode {image.mode!r}, which does not say which value is white: pass "
            f"the file, or uint8 values"
        )
    try:
        own = image.copy()
    except OSError as error:
        raise ValueError(f"Pillow cannot read the image: {error}") from error
    transparent = own.has_transparency_data and not as_tensorflow
    pixels = _of_bytes(own, 8, transparent)
    return pixels if as_tensorflow else _as_seen(image, pixels, transparent)


def _as_seen(image: Image.Image, pixels: np.ndarray, transparent: bool) -> np.ndarray:
    upright = orientation.TURNS[_orientation(image)].upright(pixels)
    return _over_white(upright) if transparent else upright


def _load(data: bytes, check_size: Callable[[int, int], None]) -> Image.Image:
    with _as_value_error(data):
        image = _open_by_signature(data)
    check_size(image.height, image.width)
    with _as_value_error(data):
        image.load()
    return image


@contextlib.contextmanager
def _as_value_error(data: bytes) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # on damaged files Pillow raises many kinds
        short = isinstance(error.__cause__ or error, struct.error)
        reason = "it is cut off" if short else error
        if str(error) == "unknown pixel mode":  # Pillow's, of a TIFF
            reason = (
                "a TIFF whose channels or bits are not those of a grey or colour image: store "
                "other channels as arrays (arrays:PATH)"
            )
        raise ValueError(f"not a readable image ({len(data)} bytes): {reason}") from error


def _open_by_signature(data: bytes) -> Image.Image:
    """`Image.open`, but only of our formats and without warnings of sizes that we allow."""
    Image.init()
    for name in FORMATS:
        reader, accepts = Image.OPEN[name]
        if accepts(data[:16]):
            return reader(io.BytesIO(data), "")
    if data[4:8] == b"ftyp" and (kind := _ISO_BRANDS.get(data[8:12])):
        raise ValueError(f"it is {kind}, which is not read: convert it to JPEG or PNG")
    if not data:
        raise ValueError("the file is empty")
    raise ValueError(f"it begins with {data[:8]!r}, like none of {', '.join(FORMATS)}")


def _without_text_chunks(data: bytes) -> bytes:
    """Drops the text chunks and colour profile of a PNG; returns other files unchanged."""
    if not data.startswith(_PNG):
        return data
    parts, at = [_PNG], len(_PNG)
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4])
        if data[at + 4 : at + 8] not in _TEXT_CHUNKS:
            parts.append(data[at:end])
        at = end
    return b"".join(parts)


def _bits(image: Image.Image, data: bytes) -> int:
    """Bits per value, as recorded in the file."""
    if image.format == "PNG":
        return data[24]
    if image.format == "TIFF":
        return max(image.tag_v2.get(_BITS_PER_SAMPLE, (1,)))
    if image.format == "PPM" and (header := _PPM.match(data)):
        return int(header[1]).bit_length()
    return 8


def _of_deep_grey(image: Image.Image, bits: int, transparent: bool) -> np.ndarray:
    """Converts one channel of more than 8 bits to uint8 [H, W, 3], or 4 with alpha."""
    if image.mode == "F" or (image.mode == "I" and image.format != "PPM"):
        raise ValueError(
            f"a {image.format} of 32-bit or floating-point values, which does not say which value "
            f"is white: save it with 8 bits"
        )
    values = np.asarray(image).astype(np.uint32)
    if image.format == "PPM":  # Pillow scaled it to 16 bits; it rounds colours to 8
        grey = ((values * 255 + 32767) // 65535).astype(np.uint8)
    else:
        grey = _high_byte(values, bits)
    if image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == 0:  # white is zero
        grey = 255 - grey
    channels = [grey] * 3
    if transparent:
        channels.append(np.where(values == image.info["transparency"], 0, 255).astype(np.uint8))
    return np.stack(channels, axis=-1)


def _of_bytes(image: Image.Image, bits: int, transparent: bool) -> np.ndarray:
    """Converts an image of 8 bits per value to uint8 [H, W, 3], or 4 with alpha."""
    colour = image.info.pop("transparency", None)
    if not transparent:
        return np.asarray(image.convert("RGB"))
    if image.mode in ("L", "RGB"):  # the one transparent colour, in the file's bits
        scaled = _high_byte(np.array(colour), bits)
        colour = int(scaled) if image.mode == "L" else tuple(map(int, scaled))
    if colour is not None:
        image.info["transparency"] = colour
    return np.asarray(image.convert("RGBA"))


def _high_byte(values: np.ndarray, bits: int) -> np.ndarray:
    """Converts to uint8; truncates more than 8 bits, as Pillow and TensorFlow do for colours."""
    return (values >> bits - 8 if bits > 8 else values * 255 // (2**bits - 1)).astype(np.uint8)


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation; 1 if it is missing or damaged."""
    if exif := image.info.get("exif"):
        return orientation.of_exif(exif.removeprefix(b"Exif\0\0"))
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # as above
        return 1
    return value if value in orientation.TURNS else 1


def _over_white(pixels: np.ndarray) -> np.ndarray:
    """Blends onto white, uint8 [H, W, 4] -> [H, W, 3]."""
    colours, alpha = pixels[..., :3].astype(np.uint16), pixels[..., 3:].astype(np.uint16)
    return ((colours * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
