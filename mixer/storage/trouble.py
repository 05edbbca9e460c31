"""What the system said when a disk or a file failed."""

import errno
import os
import re

# Libraries in C++ say it somewhere in the middle of what they raise.
_WORDS = {
    os.strerror(number): number
    for number in (
        *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES),
        *(errno.EPERM, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.EMFILE),
        *(errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG),
    )
}

# The modules of object stores' clients, which raise errors of their own.
_CLIENTS = re.compile(r"(aiohttp|gcsfs|google\.auth|google\.api_core|requests)\b")


def is_of_client(error: BaseException) -> bool:
    """Whether an object store's client raised it: the store does not answer, or refuses."""
    return bool(_CLIENTS.match(type(error).__module__))


def trouble(error: Exception) -> tuple[int | None, str]:
    """The number and the words of the system's answer; None and the error's own words else."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno, error.strerror or os.strerror(error.errno)
    text = " ".join(str(error).split()) or type(error).__name__
    for words, number in _WORDS.items():
        if words in text:
            return number, words
    return None, text[:300]
