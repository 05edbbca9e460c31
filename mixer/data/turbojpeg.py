"""Decodes a window of a JPEG with libjpeg-turbo 3, which can skip what lies outside it.

The C library is the system's if that is new enough, else the one inside the wheel `pylibjxl`:
Debian 12 and Ubuntu 22.04, and so TPU VMs, have version 2.
"""

import contextlib
import ctypes
import ctypes.util
import functools
import os
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import numpy as np

# TurboJPEG's constants: turbojpeg.h.
_DECOMPRESS, _RGB = 1, 0
_SUBSAMPLING, _WIDTH, _HEIGHT, _FAST_DCT = 4, 5, 6, 10
# {chroma subsampling: width in pixels of the unit that is decoded at once}.
_UNIT = {0: 8, 1: 16, 2: 16, 3: 8, 4: 8, 5: 32, 6: 8}


class _Region(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("x", "y", "width", "height")]


class _Scale(ctypes.Structure):
    _fields_ = [("numerator", ctypes.c_int), ("denominator", ctypes.c_int)]


@functools.cache
def _found() -> tuple[ctypes.CDLL, str] | None:
    """The library and its name; None if there is no version 3."""
    for path, name in _places():
        try:
            library = ctypes.CDLL(path)
        except OSError:
            continue
        if hasattr(library, "tj3SetCroppingRegion"):
            handle, data = ctypes.c_void_p, (ctypes.c_char_p, ctypes.c_size_t)
            library.tj3Init.restype = handle
            library.tj3Destroy.argtypes = (handle,)
            library.tj3Set.argtypes = (handle, ctypes.c_int, ctypes.c_int)
            library.tj3Get.argtypes = (handle, ctypes.c_int)
            library.tj3DecompressHeader.argtypes = (handle, *data)
            library.tj3SetScalingFactor.argtypes = (handle, _Scale)
            library.tj3SetCroppingRegion.argtypes = (handle, _Region)
            library.tj3Decompress8.argtypes = (handle, *data, handle, ctypes.c_int, ctypes.c_int)
            return library, name or _file_of("turbojpeg", path)
    return None


def _places() -> Iterator[tuple[str, str]]:
    if system := ctypes.util.find_library("turbojpeg"):
        yield system, ""
    # The wheel's only extension module contains the whole library and exports its functions.
    with contextlib.suppress(metadata.PackageNotFoundError):
        wheel = metadata.distribution("pylibjxl")
        for file in wheel.files or ():
            if file.name.startswith("_pylibjxl."):
                yield os.fspath(file.locate()), f"pylibjxl {wheel.version}"


def _file_of(name: str, path: str) -> str:
    """The name of the file loaded as `path`, with the version, such as libturbojpeg.so.0.4.0."""
    with contextlib.suppress(OSError, StopIteration):  # only Linux has this file
        mapped = Path("/proc/self/maps").read_text().splitlines()
        path = next(line.split()[-1] for line in mapped if name in line)
    return Path(path).resolve().name


def available() -> bool:
    """Whether version 3 or later of the library was found."""
    return _found() is not None


def decoder() -> str:
    """Names the JPEG decoder of this machine, and whether it decodes windows; for results.json."""
    if found := _found():
        return f"libjpeg-turbo 3, by windows ({found[1]})"
    return f"libjpeg-turbo, whole (simplejpeg {metadata.version('simplejpeg')})"


@contextlib.contextmanager
def _decompressor() -> Iterator[tuple[ctypes.CDLL, int]]:
    # Not reused: a decompressor applies the tables of one file to the next file that lacks them.
    library, _ = _found()
    handle = library.tj3Init(_DECOMPRESS)
    try:
        yield library, handle
    finally:
        library.tj3Destroy(handle)


def window(
    data: bytes,
    top: int,
    left: int,
    height: int,
    width: int,
    shrink: int = 1,
    to_the_end: bool = True,
) -> np.ndarray | None:
    """Decodes a window, bit for bit as if cropped from the whole image.

    Args:
      data: the JPEG.
      top, left, height, width: the window, in pixels of the image divided by `shrink`.
      shrink: 1, 2, 4 or 8; decode the image at 1/shrink of its size.
      to_the_end: also decode what is below the window, to detect damage there.

    Returns:
      uint8 [height, width, 3], RGB; None if anything about the file is unusual.
    """
    with _decompressor() as (library, handle):
        if library.tj3DecompressHeader(handle, data, len(data)):
            return None
        unit = _UNIT.get(library.tj3Get(handle, _SUBSAMPLING))
        if unit is None:
            return None
        full_height, full_width = (library.tj3Get(handle, side) for side in (_HEIGHT, _WIDTH))
        full_height, full_width = -(-full_height // shrink), -(-full_width // shrink)
        if top + height > full_height or left + width > full_width:
            return None
        # Chroma is interpolated across units: one more unit on each side makes the borders exact.
        unit //= min(shrink, unit)
        begin = max(left // unit - 1, 0) * unit
        end = min((-(-(left + width) // unit) + 1) * unit, full_width)
        rows = full_height - top if to_the_end else height
        pixels = np.empty((rows, end - begin, 3), np.uint8)
        failed = (
            library.tj3Set(handle, _FAST_DCT, True)
            or library.tj3SetScalingFactor(handle, _Scale(1, shrink))
            or library.tj3SetCroppingRegion(handle, _Region(begin, top, end - begin, rows))
            or library.tj3Decompress8(handle, data, len(data), pixels.ctypes.data, 0, _RGB)
        )
        return None if failed else pixels[:height, left - begin : left - begin + width]
