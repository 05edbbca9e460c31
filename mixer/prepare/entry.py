"""An image in a source (name, labels, location of its bytes), and the base class of readers."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mixer import errors

_MAGIC = {b"\xff\xd8\xff": "jpeg", b"\x89PNG\r\n\x1a\n": "png"}
_OTHERS = (b"GIF8", b"BM", b"RIFF", b"II*\x00", b"MM\x00*", *(b"P%d" % i for i in range(1, 7)))
_HEAD = 16  # bytes to read to recognise an image


class Entry(NamedTuple):
    """An image before it is read.

    Attributes:
      key: its unique name in the dataset; the name's hash determines its position.
      split: such as "train"; "" if the source does not name one.
      labels: class names; a plain string if the source gives exactly one.
      file: path of the file or archive with its bytes.
      offset, size: position of its bytes in an archive; offset -1 means the whole file, of any
        size.
    """

    key: str
    split: str
    labels: str | tuple[str, ...]
    file: str
    offset: int = -1
    size: int = 0


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
    """

    dataset: str = ""
    classes: Sequence[str] | None = None
    integer_labels: bool = False
    expected: Mapping[str, int] = {}
    encoding: str = ""
    unread: Iterable[str] = ()

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


def checked_name(name: str, where: str) -> str:
    """An archive member's name or a manifest's path without a leading "./".

    Raises:
      BadInput: it leads out of its folder ("..").
    """
    while name.startswith("./"):
        name = name[2:]
    if ".." in name.replace("\\", "/").split("/"):
        raise errors.BadInput(f"{where}: {name!r} leads out of its folder; rename it")
    return name


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
        with open(entry.file, "rb") as file:
            file.seek(max(entry.offset, 0))
            data = file.read(-1 if entry.offset < 0 else entry.size)
    except OSError as error:
        raise Unusable(error.strerror) from None
    if len(data) != entry.size:
        raise Unusable(f"{len(data)} bytes, but {entry.size} when it was listed")
    return data
