"""EXIF's orientation, and how to turn an image upright."""

import dataclasses
import struct

import numpy as np

_TAG = 0x0112
_VALUES = {3: "H", 4: "I"}  # by EXIF's type: SHORT, LONG


@dataclasses.dataclass(frozen=True)
class Turn:
    """Turns stored pixels upright: transpose, then flip."""

    transpose: bool
    down: bool
    across: bool

    def upright(self, stored: np.ndarray) -> np.ndarray:
        """Turns stored pixels [H, W, 3]."""
        image = stored.swapaxes(0, 1) if self.transpose else stored
        image = image[::-1] if self.down else image
        return image[:, ::-1] if self.across else image

    def stored(
        self, top: int, left: int, height: int, width: int, full_height: int, full_width: int
    ) -> tuple[int, int, int, int]:
        """Maps a window of the upright image to the stored one: (top, left, height, width)."""
        top = full_height - top - height if self.down else top
        left = full_width - left - width if self.across else left
        return (left, top, width, height) if self.transpose else (top, left, height, width)


# By EXIF's orientation, 1 ... 8.
TURNS = {
    1: Turn(False, False, False),
    2: Turn(False, False, True),
    3: Turn(False, True, True),
    4: Turn(False, True, False),
    5: Turn(True, False, False),
    6: Turn(True, False, True),
    7: Turn(True, True, True),
    8: Turn(True, True, False),
}


def of_exif(tiff: bytes) -> int:
    """The orientation in EXIF's first directory, 1 ... 8; 1 if it is missing or damaged."""
    order = "<" if tiff[:2] == b"II" else ">"
    try:
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, start)
        for i in range(entries):
            at = start + 2 + 12 * i
            tag, kind = struct.unpack_from(f"{order}HH", tiff, at)
            if tag == _TAG and kind in _VALUES:
                (value,) = struct.unpack_from(order + _VALUES[kind], tiff, at + 8)
                return value if value in TURNS else 1
    except struct.error:
        pass
    return 1
