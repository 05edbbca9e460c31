"""Keeps a run alive when standard output or standard error is closed, so that it can still save.

It happens when Ctrl-C under `| tee` also ends tee, or when the terminal of a run is closed.
"""

import contextlib
import os
import select
from collections.abc import Iterator


def discard_if_closed() -> bool:
    """Redirects closed output to /dev/null; returns whether any of it was closed.

    A file that cannot be written does not count as closed, as the user wants to keep its content.
    """
    closed = [descriptor for descriptor in (1, 2) if _is_closed(descriptor)]
    if closed:
        devnull = os.open(os.devnull, os.O_WRONLY)
        for descriptor in closed:
            os.dup2(devnull, descriptor)
        os.close(devnull)
    return bool(closed)


def _is_closed(descriptor: int) -> bool:
    # The error number does not tell: EIO comes from a closed terminal and from a broken disk.
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


@contextlib.contextmanager
def tolerate_closed() -> Iterator[None]:
    """The block may print to closed output: it is then discarded, without an error."""
    try:
        yield
    except OSError:
        if not discard_if_closed():
            raise
