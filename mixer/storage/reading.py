"""Reads, lists and copies files, given a local path or gs://BUCKET/PATH."""

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

_PIECE = 2**24  # bytes per request
_ATTEMPTS = 3  # to get a copy with the right checksum


class DamagedCopy(errors.Failure):
    """What arrives repeatedly differs from the checksum that the store records."""


def read(path: str | os.PathLike, start: int = 0, stop: int | None = None) -> bytes:
    """The bytes [start, stop) of a file; stop=None is its end.

    Raises:
      OSError: a local file cannot be read.
      BadInput, StoreError: see `bucket.read`.
    """
    if is_remote(path):
        return bucket.read(os.fspath(path), start, stop)
    with Path(path).expanduser().open("rb") as file:
        file.seek(start)
        return file.read(-1 if stop is None else stop - start)


def list_files(folder: str | os.PathLike) -> list[FileInfo]:
    """All files in a folder and its subfolders.

    Raises:
      BadInput, StoreError: the store cannot be listed.
    """
    if is_remote(folder):
        return bucket.listing(f"{os.fspath(folder).rstrip('/')}/")
    paths = (os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names)
    return [FileInfo(path, os.stat(path).st_size) for path in paths]


def copy(origin: FileInfo, target: Path, check_wanted: Callable[[], None] = lambda: None) -> str:
    """Copies a file atomically, and compares it with the best checksum available.

    Args:
      check_wanted: called between pieces of 16 MiB; raises if the copy is no longer wanted.

    Returns:
      What was compared, such as "size and md5".

    Raises:
      DamagedCopy: three copies did not match the size or the checksum.
      Unwritable: the disk refuses it.
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
        f"{origin.path}: what arrives does not match its {check}, tried {_ATTEMPTS} times. Upload "
        f"the file again"
    )


class _Differs(Exception):
    """A copy that does not match the original."""


def _checksum(origin: FileInfo) -> tuple[str, Any, bytes | None]:
    """(what is compared, the hash object to update with all bytes, the expected digest)."""
    if origin.md5:
        return "size and md5", hashlib.md5(usedforsecurity=False), base64.b64decode(origin.md5)
    if origin.crc32c:
        with contextlib.suppress(ImportError):
            import google_crc32c

            return "size and crc32c", google_crc32c.Checksum(), base64.b64decode(origin.crc32c)
    return "size alone", None, None


def sha256(path: str | os.PathLike) -> str:
    """The SHA-256 of a local file, in hexadecimal digits.

    A later call reads the file again only if its size or modification time has changed.

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
