"""One image of a source: its name, its labels, where its bytes lie; and what lists them."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mixer import errors

_MAGIC = {b"\xff\xd8\xff": "jpeg", b"\x89PNG\r\n\x1a\n": "png"}
_OTHERS = (b"GIF8", b"BM", b"RIFF", b"II*\x00", b"MM\x00*", *(b"P%d" % i for i in range(1, 7)))
_HEAD = 16  # bytes that tell an image from other files


class Entry(NamedTuple):
    """An image before it is read.

    Attributes:
      key: its name in the dataset, unique; the hash of it gives its place.
      split: "train" and the like; "" where the source does not say.
      labels: class names; a plain string where an example has exactly one.
      file: the path that holds its bytes.
      offset, size: where they lie in an archive; offset -1: the whole file, of any size.
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
      dataset: the TFDS name that the result has unless another is given.
      classes: class names, the label is the index; None: those found, sorted.
      integer_labels: found classes that are all integers are the labels themselves.
      expected: examples that each split must have; empty: any.
      encoding: of TFDS's image feature, "jpeg" or "png"; "": as found.
      left_out: counts the files that are no images by their endings, while they are listed.
      unread: the folders or columns that were not looked at.
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
        """The files by whose sizes and times a change of the source is noticed."""
        raise NotImplementedError

    def entries(self, scratch: Path) -> Iterator[Entry]:
        """The images in any order; a stream's bytes are kept in the folder `scratch`."""
        raise NotImplementedError


class Unusable(Exception):
    """An image that cannot be used, and why."""


def checked_name(name: str, where: str) -> str:
    """The name of an archive's member or a manifest's path, without a leading "./".

    Raises:
      BadInput: it leaves its folder ("..").
    """
    while name.startswith("./"):
        name = name[2:]
    if ".." in name.replace("\\", "/").split("/"):
        raise errors.BadInput(f"{where}: {name!r} leads out of its folder; rename it")
    return name


def examine(entry: Entry) -> tuple[int, str]:
    """(bytes, format) by the first bytes: "jpeg", "png", or "" for the other image formats.

    Raises:
      Unusable: missing, empty, cut short or no image.
    """
    start = max(entry.offset, 0)
    try:
        os.fsencode(entry.key)
        with open(entry.file, "rb", buffering=0) as file:
            there = os.fstat(file.fileno()).st_size - start
            size = there if entry.offset < 0 else entry.size
            head = os.pread(file.fileno(), min(_HEAD, size), start)
    except UnicodeEncodeError:
        raise Unusable("its name cannot be that of a file") from None
    except OSError as error:
        raise Unusable(error.strerror) from None
    if not size:
        raise Unusable("empty")
    if size > there:
        raise Unusable(f"{there} of its {size} bytes are there")
    for magic, name in _MAGIC.items():
        if head.startswith(magic):
            return size, name
    if not head.startswith(_OTHERS):
        raise Unusable(f"no image: begins with {head!r}")
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
