"""Standard output and standard error may lose their reader before a run is saved.

Ctrl-C under `| tee` ends tee as well; a terminal is closed, or a run in it disowned.
"""

import contextlib
import os
import select
from collections.abc import Iterator


def to_nobody() -> bool:
    """Sends what nobody can read any more to nobody: whether there is such output.

    A file that cannot be written is no such output: what went into it was to be kept.
    """
    lost = [descriptor for descriptor in (1, 2) if _is_lost(descriptor)]
    if lost:
        nobody = os.open(os.devnull, os.O_WRONLY)
        for descriptor in lost:
            os.dup2(nobody, descriptor)
        os.close(nobody)
    return bool(lost)


def _is_lost(descriptor: int) -> bool:
    # The error number does not tell: EIO comes from a closed terminal and from a broken disk.
    question = select.poll()
    question.register(descriptor, select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in question.poll(0))


@contextlib.contextmanager
def outliving_readers() -> Iterator[None]:
    """What is printed in the block may meet output that nobody can read any more."""
    try:
        yield
    except OSError:
        if not to_nobody():
            raise
