"""An object in a bucket as a file that is read in pieces."""

import io

from mixer.storage import bucket

_PIECE = 2**22  # bytes per request


class _Object(io.RawIOBase):
    def __init__(self, info: bucket.FileInfo):
        super().__init__()
        self._info, self._at = info, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._info.size}[whence]
        self._at = start + offset
        return self._at

    def readinto(self, buffer) -> int:
        stop = min(self._at + len(buffer), self._info.size)
        if stop <= self._at:
            return 0
        content = bucket.read(self._info.path, self._at, stop)
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)


def open_object(info: bucket.FileInfo) -> io.BufferedReader:
    """Opens an object of this size for reading, with a request for each 4 MiB or distant seek.

    Raises:
      StoreError: when it is read: the store does not respond, or has another object by now.
    """
    return io.BufferedReader(_Object(info), _PIECE)
