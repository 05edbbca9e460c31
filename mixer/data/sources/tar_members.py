"""The members of tars, and where in the file their bytes are."""

import bz2
import contextlib
import gzip
import lzma
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from mixer import errors
from mixer.data.sources.entry import checked_name
from mixer.data.sources.image_files import ending, is_hidden, is_image

# How a compressed file begins -> what reads it and compares its checksums.
COMPRESSED: dict[bytes, Callable] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}


def images(
    path: Path, left_out: Counter, start: int = 0, end: int | None = None
) -> Iterator[tuple[str, str, int, int]]:
    """(name, file, offset, size) of the images in an uncompressed tar; reads only its headers.

    Images of a tar inside it, <class>.tar, are named <class>/x.jpg.

    Args:
      left_out: counts the members that are not images, by ending.
      start, end: the position in `path` of a tar inside another.

    Raises:
      BadInput: the tar is damaged, a member is a link, or a name leads out of its folder.
    """
    with readable(path), path.open("rb") as file:
        file.seek(start)
        with tarfile.open(fileobj=file, mode="r:", tarinfo=Strict) as tar:
            for member in each(path, tar):
                stop = member.offset_data + member.size
                if end is not None and stop > end:
                    raise tarfile.ReadError("a tar inside it is truncated")
                if is_image(member.name):
                    yield member_name(path, member), str(path), member.offset_data, member.size
                elif is_tar(member):
                    for name, *place in images(path, left_out, member.offset_data, stop):
                        yield f"{PurePosixPath(member.name).stem}/{name}", *place
                else:
                    leave_out(member, left_out)


class Strict(tarfile.TarInfo):
    """Ends only at the end mark; plain tarfile also ends silently at a damaged header."""

    @classmethod
    def frombuf(cls, buf, encoding, errors):
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:
            raise
        except tarfile.HeaderError as error:
            if buf.startswith(tuple(COMPRESSED)):
                raise tarfile.ReadError("it is compressed: unpack it to a plain tar") from None
            raise tarfile.ReadError(f"damaged or truncated: {error}") from None


def each(path: Path | str, tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """The files in a tar, without keeping a list of them."""
    while (member := tar.next()) is not None:
        tar.members.clear()  # they take a kilobyte each
        if is_image(member.name) and (member.issym() or member.islnk() or member.issparse()):
            raise errors.BadInput(f"{path}: member {member.name!r} is a link, not an image file")
        if member.isfile():
            yield member


def is_tar(member: tarfile.TarInfo) -> bool:
    """Whether a member is a tar itself."""
    return member.name.endswith(".tar") and not PurePosixPath(member.name).name.startswith(".")


@contextlib.contextmanager
def readable(path: Path | str) -> Iterator[None]:
    """Turns the errors of reading a tar into a `BadInput` that names it."""
    try:
        yield
    except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
        raise errors.BadInput(f"{path} cannot be read as a tar: {error}") from None


def drain(stream: BinaryIO) -> None:
    """Reads to the end, after which the checksum of a compressed stream comes."""
    while stream.read(2**20):
        pass


def leave_out(member: tarfile.TarInfo, left_out: Counter) -> None:
    """Counts a member that is not an image, by ending."""
    name = PurePosixPath(member.name).name
    if not is_hidden(name):
        left_out[ending(name)] += 1


def member_name(path: Path | str, member: tarfile.TarInfo) -> str:
    """The name of a member without a leading "./".

    Raises:
      BadInput: it is absolute, or leads out of its folder.
    """
    if member.name.startswith("/"):
        raise errors.BadInput(f"{path}: member {member.name!r} has an absolute name; rename it")
    return checked_name(member.name, str(path))
