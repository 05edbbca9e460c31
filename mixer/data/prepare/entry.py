"""One image of a source: its name, its labels, and where its bytes lie."""

import os
from typing import NamedTuple

from mixer import errors

_MAGIC = {b"\xff\xd8\xff": "jpeg", b"\x89PNG\r\n\x1a\n": "png"}
_OTHERS = (b"GIF8", b"BM", b"RIFF", b"II*\x00", b"MM\x00*")
_HEAD = 16  # bytes that tell an image from other files


class Entry(NamedTuple):
    """An image before it is read.

    Attributes:
      key: its name in the dataset, unique; the hash of it gives its place.
      split: "train" and the like.
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
        entry.key.encode()
        with open(entry.file, "rb", buffering=0) as file:
            there = os.fstat(file.fileno()).st_size - start
            size = there if entry.offset < 0 else entry.size
            head = os.pread(file.fileno(), min(_HEAD, size), start)
    except UnicodeEncodeError:
        raise Unusable("its name is not UTF-8") from None
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
