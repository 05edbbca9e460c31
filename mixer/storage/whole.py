"""Atomic writes: files and folders that appear under their names complete, or not at all.

On a disk they are written in the same folder under an unguessable temporary name, and renamed once
they would survive a power cut. They are locked while being written. One that is not locked was left
by a killed process; whichever process writes to that folder next removes it.
"""

import contextlib
import errno
import fcntl
import io
import os
import re
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from etils import epath

from mixer import errors
from mixer.storage.trouble import trouble

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.incomplete")
# Errors of fsync on a folder if the file system does not support it.
_NO_SYNC = (errno.EINVAL, errno.EBADF, errno.EOPNOTSUPP)


class Unwritable(errors.Failure, OSError):
    """An OSError whose message names the file that could not be written, and the reason."""

    def __str__(self) -> str:
        return f"{self.filename} cannot be written: {self.strerror}"


class Unreadable(errors.Failure, OSError):
    """An OSError whose message names the file that could not be read or found, and the reason."""

    def __str__(self) -> str:
        return f"{self.filename} cannot be read: {self.strerror}"


def is_remote(path: str | os.PathLike) -> bool:
    """Whether the path is in an object store."""
    return "://" in os.fspath(path)


@contextlib.contextmanager
def naming(
    path: str | os.PathLike, kind: type[Unwritable | Unreadable] = Unwritable
) -> Iterator[None]:
    """Turns an OSError, or any error of an object store's path, into a `kind` that names `path`."""
    try:
        yield
    except errors.Failure:  # names it already
        raise
    except Exception as error:
        # Clients of object stores have their own error types.
        if not isinstance(error, OSError) and not is_remote(path):
            raise
        number, reason = trouble(error)
        raise kind(number or errno.EIO, reason, os.fspath(path)) from error


@contextlib.contextmanager
def write_whole(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Opens a binary file that replaces `path` when the block ends; readers never see a part of it.

    The folder must exist. If the block raises, nothing is changed.

    Raises:
      Unwritable: the disk or the object store refuses it.
    """
    if is_remote(path):
        content = io.BytesIO()
        yield content
        # An object appears when its upload is complete.
        with naming(path):
            epath.Path(path).write_bytes(content.getvalue())
        return
    path = Path(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with naming(path):
        new, descriptor = _begin(path, lambda new: os.open(new, flags, 0o666))
    try:
        # Renamed before it is closed, as closing releases the lock.
        with io.BufferedWriter(_File(descriptor, path)) as file:
            yield file
            with naming(path):
                file.flush()
                os.fsync(descriptor)
                new.replace(path)
                sync_folder(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def write_whole_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a local folder to fill, which is renamed to `path` if the block ends without an error.

    Raises:
      Unwritable: the disk refuses it, or `path` exists and is not empty.
    """
    path = Path(path)

    def make(new: Path) -> int:
        new.mkdir()
        return os.open(new, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)

    with naming(path):
        new, descriptor = _begin(path, make)
    try:
        yield new
        put_in_place(new, path)
    finally:
        shutil.rmtree(new, ignore_errors=True)
        os.close(descriptor)


def put_in_place(made: Path, path: Path) -> None:
    """Renames a finished file or folder to `path`, once all of it would survive a power cut.

    A file replaces an existing one.

    Raises:
      Unwritable: the disk refuses it, or `path` is a non-empty folder.
    """
    with naming(path):
        if made.is_file():
            _sync(made)
        for parent, _, files in os.walk(made):
            for name in files:
                _sync(os.path.join(parent, name))
            sync_folder(parent)
        made.rename(path)
        sync_folder(path.parent)


class _File(io.FileIO):
    """A file whose errors name its final path."""

    def __init__(self, descriptor: int, path: Path):
        super().__init__(descriptor, "wb")
        self._path = path

    def write(self, content) -> int:
        with naming(self._path):
            return super().write(content)


def _begin(path: Path, make: Callable[[Path], int]) -> tuple[Path, int]:
    """Creates and locks a temporary file or folder beside `path`: its name and descriptor."""
    remove_abandoned(path.parent)
    while True:
        new = temporary_name(path)
        descriptor = make(new)
        with contextlib.suppress(OSError):  # without locks nothing is considered abandoned
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.path.lexists(new):
            return new, descriptor
        os.close(descriptor)  # another process was faster to lock it, and removed it


def temporary_name(path: Path) -> Path:
    """An unguessable name in the same folder, for an incomplete file or folder."""
    # A name may have 255 bytes, a character up to four.
    return path.with_name(f".{path.name[:50]}.{uuid.uuid4().hex}.incomplete")


def remove_abandoned(folder: str | os.PathLike) -> None:
    """Removes what killed processes left in a local folder, as far as possible."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        names = [entry.path for entry in entries if _TEMPORARY.fullmatch(entry.name)]
        for name in names:
            with contextlib.suppress(OSError):
                _remove_unlocked(name)


def _remove_unlocked(name: str) -> None:
    flags = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(name, os.O_RDWR | flags)  # NFS locks no file opened read-only
    except IsADirectoryError:
        descriptor = os.open(name, os.O_RDONLY | flags)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            shutil.rmtree(name)
        else:
            os.unlink(name)
    finally:
        os.close(descriptor)


def _sync(path: str | os.PathLike) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(folder: str | os.PathLike) -> None:
    """Makes a folder's entries survive a power cut, if the file system supports it."""
    try:
        _sync(folder)
    except OSError as error:
        if error.errno not in _NO_SYNC:
            raise
