"""That no two runs save in one workdir."""

import contextlib
import os
import socket
import uuid
from collections.abc import Callable, Iterator

from etils import epath

from mixer import errors, storage
from mixer.hosts import exchange

# In a bucket: which session of the run may save.
_SESSION = ".session"


@contextlib.contextmanager
def hold(workdir: epath.Path) -> Iterator[Callable[[], None]]:
    """Keeps two runs from saving in one workdir.

    On a disk this machine's other runs are refused. A bucket has no lock that its holder's death
    frees: there the run that came last goes on, and the one before ends.

    Yields:
      What raises `Failure` once this run is not the last: to be called by the first process before
      it writes there, a checkpoint above all.

    Raises:
      BadInput: another run is at work there.
    """
    if storage.is_remote(workdir):
        mine = exchange.from_first(lambda: _take_over(workdir))
        try:
            yield lambda: _check_ours(workdir, mine)
        except errors.Failure:
            with contextlib.suppress(storage.Unreadable):
                _check_ours(workdir, mine)  # a better reason than files that were taken away
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
            f"--workdir={workdir}: the same run was begun once more, on {where}; that one goes on, "
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
