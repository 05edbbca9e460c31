"""The operating system's reason for an error, and whether an object store's client raised it."""

import errno
import os
import re

# C++ libraries have the system's words somewhere in the middle of their messages.
_WORDS = {
    os.strerror(number): number
    for number in (
        *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES),
        *(errno.EPERM, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.EMFILE),
        *(errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG),
    )
}

# Modules of the object stores' clients, which have their own error types.
_CLIENTS = re.compile(r"(aiohttp|gcsfs|google\.auth|google\.api_core|requests)\b")


def is_of_client(error: BaseException) -> bool:
    """Whether an object store's client raised it: the store does not answer, or refuses access."""
    return bool(_CLIENTS.match(type(error).__module__))


def trouble(error: Exception) -> tuple[int | None, str]:
    """(errno, the system's reason); (None, the error's own text) if the system gave none."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno, error.strerror or os.strerror(error.errno)
    text = " ".join(str(error).split()) or type(error).__name__
    for words, number in _WORDS.items():
        if words in text:
            return number, words
    return None, text[:300]
