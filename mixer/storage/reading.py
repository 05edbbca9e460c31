"""Files near and far, read alike: a path of this machine, or gs://BUCKET/PATH."""

import base64
import contextlib
import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mixer import errors
from mixer.storage import bucket
from mixer.storage.bucket import FileInfo
from mixer.storage.whole import is_remote, write_whole

_PIECE = 2**24  # bytes a request
_ATTEMPTS = 3  # at a copy whose checksum is wrong


class DamagedCopy(errors.Failure):
    """What arrives has another checksum than the store says, again and again."""


def read(path: str | os.PathLike, start: int = 0, stop: int | None = None) -> bytes:
    """The bytes of a file from `start` to before `stop`; None: to its end.

    Raises:
      OSError: a file of this machine that cannot be read.
      BadInput, StoreError: see `bucket.read`.
    """
    if is_remote(path):
        return bucket.read(os.fspath(path), start, stop)
    with Path(path).expanduser().open("rb") as file:
        file.seek(start)
        return file.read(-1 if stop is None else stop - start)


def list_files(folder: str | os.PathLike) -> list[FileInfo]:
    """The files in a folder and below it.

    Raises:
      BadInput, StoreError: a store that cannot be listed.
    """
    if is_remote(folder):
        return bucket.listing(f"{os.fspath(folder).rstrip('/')}/")
    paths = (os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names)
    return [FileInfo(path, os.stat(path).st_size) for path in paths]


def copy(origin: FileInfo, target: Path, check_wanted: Callable[[], None] = lambda: None) -> str:
    """Copies a file, whole or not at all, and compares the best checksum that there is.

    Args:
      check_wanted: called between pieces of 16 MiB; raises where the copy is not wanted any more.

    Returns:
      What was compared, such as "size and md5".

    Raises:
      DamagedCopy: three copies were other than their checksum says.
      Unwritable: the disk does not take it.
      OSError, StoreError: as `read`.
    """
    for _ in range(_ATTEMPTS):
        check, digest, expected = _checksum(origin)
        with contextlib.suppress(_Differs), write_whole(target) as file:
            for start in range(0, origin.size, _PIECE):
                check_wanted()
                piece = read(origin.path, start, min(start + _PIECE, origin.size))
                file.write(piece)
                if digest:
                    digest.update(piece)
            if file.tell() != origin.size or (digest and digest.digest() != expected):
                raise _Differs
            return check
    raise DamagedCopy(
        f"{origin.path}: what arrives is not what its {check} say, {_ATTEMPTS} times. Put the file "
        f"there anew"
    )


class _Differs(Exception):
    """A copy that is not its origin."""


def _checksum(origin: FileInfo) -> tuple[str, Any, bytes | None]:
    """What is compared, the object to update with all bytes, and what its digest must be."""
    if origin.md5:
        return "size and md5", hashlib.md5(usedforsecurity=False), base64.b64decode(origin.md5)
    if origin.crc32c:
        with contextlib.suppress(ImportError):
            import google_crc32c

            return "size and crc32c", google_crc32c.Checksum(), base64.b64decode(origin.crc32c)
    return "size alone", None, None


def sha256(path: str | os.PathLike) -> str:
    """Of the bytes of a file of this machine, in hexadecimal digits.

    Asked again, it is not read again unless its size or its time have changed.

    Raises:
      OSError: it cannot be read.
    """
    file = Path(path).expanduser()
    status = file.stat()
    return _sha256(file, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _sha256(file: Path, size: int, modified: int) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
