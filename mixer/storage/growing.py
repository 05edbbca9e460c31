"""Files that grow while a run goes on: appended to on a disk, uploaded whole to an object store."""

import io
import os
import time
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Protocol

from etils import epath

from mixer.storage.whole import is_remote, naming, write_whole

# Seconds between two uploads that nobody waits for: a store takes one a second of an object.
_PAUSE = 5


class Growing(Protocol):
    """A file that is written at its end alone.

    Every method may raise `Unwritable`.
    """

    def write(self, content: bytes) -> None:
        """Adds to the end."""

    def flush(self) -> None:
        """Returns when all that was written outlives a power cut, or raises."""

    def close(self) -> None:
        """Flushes, and frees what the file holds."""


def grow(
    path: str | os.PathLike, content: bytes = b"", check_ours: Callable[[], None] = lambda: None
) -> Growing:
    """The file `path`, from now on with this content, whatever it held before.

    Args:
      check_ours: for a file in a store, where each upload replaces what others may have written:
        raises when it is theirs. Called before each upload, also from a thread.

    Raises:
      Unwritable: the disk or the store does not take it.
    """
    return _Uploaded(path, content, check_ours) if is_remote(path) else _Appended(path, content)


class _Appended:
    def __init__(self, path: str | os.PathLike, content: bytes):
        self._path = Path(path)
        with naming(path):
            if not self._path.exists() or self._path.read_bytes() != content:
                with write_whole(path) as file:
                    file.write(content)
            self._file = io.FileIO(path, "ab")

    def write(self, content: bytes) -> None:
        with naming(self._path):
            while content:  # a disk that is almost full takes a part
                content = content[self._file.write(content) :]

    def flush(self) -> None:
        with naming(self._path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        with self._file:
            self.flush()


class _Uploaded:
    """All of it is kept here: an object has no end to write at.

    A thread uploads, so that a slow store does not hold up who writes. What comes meanwhile goes
    with the next upload, and so does what a store in trouble has not taken: only `flush` insists.
    """

    def __init__(self, path: str | os.PathLike, content: bytes, check_ours: Callable[[], None]):
        self._path, self._content = epath.Path(path), bytearray(content)
        self._check_ours = check_ours
        self._stored = -1  # so much of it has arrived
        self._thread = futures.ThreadPoolExecutor(1)
        self._begin()
        self._upload.result()

    def write(self, content: bytes) -> None:
        self._content += content
        if self._upload.done() and time.monotonic() > self._begun + _PAUSE:
            self._begin()

    def flush(self) -> None:
        futures.wait([self._upload])
        if self._stored < len(self._content):
            self._begin()
            self._upload.result()

    def close(self) -> None:
        try:
            self.flush()
        finally:
            self._thread.shutdown()

    def _begin(self) -> None:
        self._begun = time.monotonic()
        self._upload = self._thread.submit(self._store, bytes(self._content))

    def _store(self, content: bytes) -> None:
        self._check_ours()
        with naming(self._path):
            self._path.write_bytes(content)
        self._stored = len(content)
