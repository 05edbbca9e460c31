"""Append-only files of a run: appended to on a disk, uploaded whole to an object store."""

import io
import os
import time
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Protocol

from etils import epath

from mixer.storage.whole import is_remote, naming, write_whole

# Seconds between background uploads: a store accepts one per second of the same object. Each upload
# is of the whole file, so a long one is uploaded less often: at most so many bytes a second.
_PAUSE, _RATE = 5, 20_000


class Growing(Protocol):
    """An append-only file.

    Every method may raise `Unwritable`.
    """

    def write(self, content: bytes) -> None:
        """Appends `content`."""

    def flush(self) -> None:
        """Returns once everything written would survive a power cut, or raises."""

    def close(self) -> None:
        """Flushes, and frees the file's resources."""


def grow(
    path: str | os.PathLike, content: bytes = b"", check_ours: Callable[[], None] = lambda: None
) -> Growing:
    """Opens `path` for appending; `content` replaces whatever it contained before.

    Args:
      check_ours: called before each upload to an object store, also from a thread. An upload
        replaces what another run may have written; raises if the file is now another run's.

    Raises:
      Unwritable: the disk or the object store refuses it.
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
            while content:  # a nearly full disk accepts only a part
                content = content[self._file.write(content) :]

    def flush(self) -> None:
        with naming(self._path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        with self._file:
            self.flush()


class _Uploaded:
    """Keeps all content in memory, as one cannot append to an object.

    A thread uploads, so that a slow store does not block the writer. What is written meanwhile, and
    what a failing store has not accepted, goes with the next upload: only `flush` raises its error.
    """

    def __init__(self, path: str | os.PathLike, content: bytes, check_ours: Callable[[], None]):
        self._path, self._content = epath.Path(path), bytearray(content)
        self._check_ours = check_ours
        self._stored = -1  # bytes uploaded so far
        self._thread = futures.ThreadPoolExecutor(1)
        self._begin()
        self._upload.result()

    def write(self, content: bytes) -> None:
        self._content += content
        pause = max(_PAUSE, len(self._content) / _RATE)
        if self._upload.done() and time.monotonic() > self._begun + pause:
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
