"""Keeps two runs from saving to one workdir at the same time."""

import contextlib
import os
import socket
import uuid
from collections.abc import Callable, Iterator

from etils import epath

from mixer import errors, storage
from mixer.hosts import exchange

# The file in a bucket that names the session which may save.
_SESSION = ".session"


@contextlib.contextmanager
def hold(workdir: epath.Path) -> Iterator[Callable[[], None]]:
    """Keeps two runs from saving to one workdir.

    On a disk a lock refuses this machine's other runs. A bucket has no lock that is freed when its
    holder dies; there the run that started last continues, and an earlier one ends.

    Yields:
      A function that raises `Failure` if a later run has taken the workdir over. Process 0 must
      call it before it writes there, above all before it saves a checkpoint.

    Raises:
      BadInput: another run on this machine uses the workdir.
    """
    if storage.is_remote(workdir):
        mine = exchange.from_first(lambda: _take_over(workdir))
        try:
            yield lambda: _check_ours(workdir, mine)
        except errors.Failure:
            with contextlib.suppress(storage.Unreadable):
                _check_ours(workdir, mine)  # explains more than an error about a missing file
            raise
        return
    with contextlib.ExitStack() as stack:
        exchange.from_first(lambda: stack.enter_context(_lock(workdir)))
        yield lambda: None


def _take_over(workdir: epath.Path) -> str:
    mine = f"{socket.gethostname()}, process {os.getpid()} ({uuid.uuid4().hex})"
    with storage.write_whole(workdir / _SESSION) as file:
        file.write(mine.encode())
    return mine


def _check_ours(workdir: epath.Path, mine: str) -> None:
    with storage.naming(workdir / _SESSION, storage.Unreadable):
        holder = (workdir / _SESSION).read_text()
    if holder != mine:
        where = holder.partition(" (")[0]
        raise errors.Failure(
            f"--workdir={workdir}: the same run was started again, on {where}; that one continues, "
            f"this one ends without saving"
        )


@contextlib.contextmanager
def _lock(workdir: epath.Path) -> Iterator[None]:
    def busy() -> None:
        raise errors.BadInput(
            f"--workdir={workdir}: another process is training there; wait for it, or stop it"
        )

    with storage.lock(workdir / ".lock", busy):
        yield
