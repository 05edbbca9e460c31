"""File locks between the processes of one machine."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Iterator

# Errors of flock on a file system without locks, such as Lustre mounted without them.
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


@contextlib.contextmanager
def lock(path: str | os.PathLike, busy: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Holds an exclusive lock on the local file `path`, which is created if it is missing.

    The system releases it if the process dies. If the file system has no locks, it prints so and
    continues without one.

    Args:
      busy: called if another process holds the lock: may print so before we wait, or raise.

    Raises:
      OSError: the file cannot be opened, or is a symbolic link, which a lock never follows.
    """
    with contextlib.ExitStack() as stack:
        while True:
            descriptor = _open(path)
            stack.callback(os.close, descriptor)
            try:
                _wait(descriptor, busy)
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                print(f"{path}: no locks on this file system: use it with one process at a time")
                break
            # It may have been removed, or its folder renamed, while we waited.
            if _is(descriptor, path):
                break
        yield


def _open(path: str | os.PathLike) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(error.errno, "a lock may not be a symbolic link", str(path)) from None
        raise


def _wait(descriptor: int, busy: Callable[[], None]) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        busy()
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _is(descriptor: int, path: str | os.PathLike) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def make_once(
    path: str | os.PathLike,
    make: Callable[[], None],
    lock_file: str | os.PathLike,
    busy: Callable[[], None] = lambda: None,
) -> None:
    """Calls `make`, which creates `path`, if `path` is missing; only one process calls it.

    `make` must create `path` atomically, as `write_whole` and `write_whole_folder` do.

    Args:
      lock_file, busy: see `lock`.

    Raises:
      OSError: see `lock`; also whatever `make` raises.
    """
    if os.path.exists(path):
        return
    with lock(lock_file, busy):
        if not os.path.exists(path):
            make()
