"""Reads a JPEG's segments and decodes whole JPEGs, treating damage as an error.

libjpeg continues after damage and fills in what it cannot read, with a warning at most. Here a
warning is an error, unless no part of the picture can be missing.
"""

import dataclasses
import re
from collections.abc import Iterator

import numpy as np
import simplejpeg

from mixer.data import orientation

START, _END = b"\xff\xd8", b"\xff\xd9"
# Encoders write about ten scans of a progressive JPEG. Each costs a pass over the whole image.
MOST_SCANS = 100
# Starts a segment; matches no stuffed zero, fill byte or restart marker.
_MARKER = re.compile(rb"\xff([\x02-\xcf\xd9-\xfe])")
_JFIF, _EXIF, _SCAN = 0xE0, 0xE1, 0xDA
_FRAMES = {0xC0 + i for i in range(16)} - {0xC4, 0xC8, 0xCC}
_HUFFMAN = (0xC0, 0xC1, 0xC2)  # baseline, extended, progressive
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)
_EXTRA = re.compile(r"(\d+) extraneous bytes before marker 0xd9")
_READ_AHEAD = 8  # bytes that libjpeg may have read already and does not count
# Prefixes of libjpeg's warnings; its errors and that of a truncated file start differently.
_WARNINGS = ("Corrupt JPEG data", "Inconsistent progression", "Invalid SOS", "Unknown Adobe")


@dataclasses.dataclass(frozen=True)
class Header:
    """What is known before any pixel is decoded.

    Attributes:
      data: the file without the parts that no pixel depends on but libjpeg warns about.
      height, width: in pixels, as stored.
      orientation: EXIF's, 1 ... 8.
      complete: every bit of every coefficient is present. If a progressive JPEG lacks its last
        scans, libjpeg guesses the rest, and each version guesses differently.
    """

    data: bytes
    height: int
    width: int
    orientation: int
    complete: bool


def read_header(data: bytes) -> Header | None:
    """Reads up to the first scan, or up to the last if there are several.

    Returns:
      None if libjpeg-turbo cannot convert it to RGB or warns about its header: four colours, more
      than 8 bits, arithmetic coding, or no JPEG at all.

    Raises:
      ValueError: more than `MOST_SCANS` scans.
    """
    parts, at = [START], len(START)
    process, bits, channels, turned, scans, exact = 0, 0, 0, None, 0, 0
    for kind, start, end in _segments(data):
        if not scans:
            parts.append(_normalized(kind, data[start:end], process))
            at = end
        if kind in _FRAMES and start + 10 <= min(end, len(data)):
            process, bits, channels = kind, data[start + 4], data[start + 9]
        elif kind == _EXIF and turned is None and data[start + 4 : start + 10] == b"Exif\0\0":
            turned = orientation.of_exif(data[start + 10 : end])
        elif kind == _SCAN:
            scans += 1
            if scans > MOST_SCANS:
                raise ValueError(
                    f"a JPEG image of more than {MOST_SCANS} scans: treated as an attack"
                )
            exact += _exact_coefficients(parts[-1] if scans == 1 else data[start:end])
            if process not in _PROGRESSIVE and exact in (0, 64 * channels):
                break
    if not exact or process not in _HUFFMAN or bits != 8:
        return None
    head = b"".join(parts)  # drops the bytes between segments
    if not data.startswith(head):
        data = head + data[at:]
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    rgb = colours in ("YCbCr", "Gray", "RGB")
    complete = exact == 64 * channels
    return Header(data, height, width, turned or 1, complete) if rgb else None


def _normalized(kind: int, segment: bytes, process: int) -> bytes:
    """The segment with the usual values in fields that no pixel depends on."""
    if kind == _JFIF and segment[4:9] == b"JFIF\0":
        return segment[:9] + b"\1" + segment[10:]  # the version
    if kind == _SCAN and process not in _PROGRESSIVE:
        return segment[:-3] + bytes([0, 63, 0])  # all coefficients with all bits
    return segment


def _exact_coefficients(scan: bytes) -> int:
    """The number of coefficients per block, over all channels, whose last bit is in this scan."""
    if len(scan) < 8:
        return 0
    first, last, bits = scan[-3:]
    return scan[4] * (last - first + 1) if bits & 15 == 0 else 0


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(kind, start, end) of each segment up to the end of the image, skipping bytes in between."""
    at = len(START)
    while (marker := _MARKER.search(data, at)) and marker[0] != _END:
        at = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2])
        yield marker[1][0], marker.start(), at


def decode(data: bytes, *, forgiving: bool) -> np.ndarray:
    """Decodes the stored pixels, uint8 [height, width, 3], with the fast DCT.

    Args:
      forgiving: accept what libjpeg makes of a damaged JPEG, as TensorFlow does, unless it is
        truncated.

    Raises:
      ValueError: damaged.
    """
    try:
        return _decode_strict(data)
    except ValueError as error:
        reason = str(error)
    if forgiving and reason.startswith(_WARNINGS):
        return simplejpeg.decode_jpeg(data, fastdct=True, strict=False)
    pixels = _without_extra_bytes(data, reason)
    if pixels is None:
        raise _damaged(reason)
    return pixels


def check_four_colours(data: bytes) -> None:
    """Raises ValueError if a CMYK JPEG is damaged, which Pillow does not report."""
    try:
        if simplejpeg.decode_jpeg_header(data)[2] not in ("CMYK", "YCCK"):
            return
    except ValueError:  # cannot be checked
        return
    try:
        simplejpeg.decode_jpeg(data, "CMYK")
    except ValueError as error:
        raise _damaged(str(error)) from None


def _damaged(reason: str) -> ValueError:
    return ValueError(f"not a readable image, the JPEG is damaged: {reason}")


def _decode_strict(data: bytes) -> np.ndarray:
    return simplejpeg.decode_jpeg(data, fastdct=True)


def _without_extra_bytes(data: bytes, reason: str) -> np.ndarray | None:
    """The pixels, if libjpeg warns only about extra bytes after the last block; else None.

    Some intact files have extra bytes. But if damage has turned earlier blocks into others, the
    last blocks are left over as extra bytes, too. The bits after the last one that was read tell
    the cases apart: at the end of a picture they are ones, which pad the byte, else arbitrary.
    """
    found, end = _EXTRA.search(reason), data.rfind(_END)
    if not found:
        return None
    most = end - int(found[1])
    for stop in range(max(most - _READ_AHEAD, 2), most + 1):
        try:
            pixels = _decode_strict(data[:stop] + _END)
        except ValueError:
            continue
        if data[stop - 2 : stop] == b"\xff\0":
            return pixels
        # Then the lowest zero bit must matter: setting it must change the pixels.
        other = bytes([data[stop - 1] | (data[stop - 1] + 1)])
        other += b"\0" * (other == b"\xff")
        try:
            counts = not np.array_equal(_decode_strict(data[: stop - 1] + other + _END), pixels)
        except ValueError:
            counts = True
        return pixels if counts else None
    return None
