"""The base class of readers, and the checks of what they list."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from mixer.data.sources.entry import Entry

_MAGIC = {b"\xff\xd8\xff": "jpeg", b"\x89PNG\r\n\x1a\n": "png"}
_OTHERS = (b"GIF8", b"BM", b"RIFF", b"II*\x00", b"MM\x00*", *(b"P%d" % i for i in range(1, 7)))
_HEAD = 16  # bytes to read to recognise an image


class Reader:
    """Lists the images of a source.

    Attributes:
      dataset: the default TFDS name of the result.
      classes: class names, indexed by label; None for those found, sorted.
      integer_labels: if all classes found are integers, whether these are the labels themselves.
      expected: how many examples each split must have; empty for any number.
      encoding: of TFDS's image feature, "jpeg" or "png"; "" for what is found.
      left_out: counts files that are not images, by ending, during listing.
      unread: the folders or columns that were not read.
      outputs: the names of the numbers in a label if labels are vectors, known once there is an
        entry; else ().
    """

    dataset: str = ""
    classes: Sequence[str] | None = None
    integer_labels: bool = False
    expected: Mapping[str, int] = {}
    encoding: str = ""
    unread: Iterable[str] = ()
    outputs: Sequence[str] = ()

    def __init__(self):
        self.left_out = Counter()

    def files(self) -> Iterable[Path]:
        """The files whose sizes and modification times reveal a change of the source."""
        raise NotImplementedError

    def entries(self, scratch: Path) -> Iterator[Entry]:
        """The images in any order; a stream's bytes are saved in the folder `scratch`."""
        raise NotImplementedError


class Unusable(Exception):
    """An image that cannot be used; the message says why."""


def examine(entry: Entry) -> tuple[int, str]:
    """(size in bytes, format), by the first bytes: "jpeg", "png", or "" for other image formats.

    Raises:
      Unusable: the image is missing, empty, truncated or not an image.
    """
    start = max(entry.offset, 0)
    try:
        os.fsencode(entry.key)
        with open(entry.file, "rb", buffering=0) as file:
            available = os.fstat(file.fileno()).st_size - start
            size = available if entry.offset < 0 else entry.size
            head = os.pread(file.fileno(), min(_HEAD, size), start)
    except UnicodeEncodeError:
        raise Unusable("its name is not a valid file name") from None
    except OSError as error:
        raise Unusable(error.strerror) from None
    if not size:
        raise Unusable("empty")
    if size > available:
        raise Unusable(f"only {available} of its {size} bytes are there")
    for magic, name in _MAGIC.items():
        if head.startswith(magic):
            return size, name
    if not head.startswith(_OTHERS):
        raise Unusable(f"not an image: begins with {head!r}")
    return size, ""


def read(entry: Entry) -> bytes:
    """The bytes of an examined entry.

    Raises:
      Unusable: it cannot be read, or its size has changed.
    """
    try:
        data = entry.read()
    except OSError as error:
        raise Unusable(error.strerror) from None
    if len(data) != entry.size:
        raise Unusable(f"{len(data)} bytes, but {entry.size} when it was listed")
    return data
