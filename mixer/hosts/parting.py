"""How the processes of a run end: together, or when one is lost."""

import contextlib
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator

import jax
from etils import epath

from mixer import errors, storage
from mixer.hosts import runtime
from mixer.hosts.last_words import LastWords
from mixer.hosts.peers import count, name

# Seconds in which processes that fail alike can all say so.
_FAIL_ALIKE = 5
_BETWEEN_PROCESSES = re.compile(
    r"gloo|nccl|rccl|mpi|coordination|heartbeat|barrier|socket|connection|peer|"
    r"UNAVAILABLE|DEADLINE_EXCEEDED|ABORTED|CANCELLED",
    re.IGNORECASE,
)


LAST = LastWords()


def lost() -> str:
    """What one says that has lost another."""
    parts = (
        f"{name()} has lost another one, whose own output may say why.",
        last_checkpoint(),
        "The same command, for all processes, goes on.",
    )
    return " ".join(filter(None, parts))


def last_checkpoint() -> str:
    """A sentence that names it; none for a run that saves none."""
    return LAST.last_checkpoint()


@contextlib.contextmanager
def watch(
    checkpoints: epath.Path, newest: Callable[[epath.Path], epath.Path | None]
) -> Iterator[None]:
    """Where a run saves; what goes wrong between the processes ends this one at once, in a line.

    Args:
      newest: see `LastWords`.
    """
    LAST.checkpoints, LAST.newest = checkpoints, newest
    try:
        yield
    except (errors.BadInput, errors.Failure):
        raise
    except Exception as error:
        disk = isinstance(error, OSError) and not isinstance(error, TimeoutError)
        if count() > 1 and not disk and not storage.is_of_client(error):
            end(error)
        raise


def end(error: Exception) -> None:
    """Ends one of several processes by an error that it does not expect."""
    line = str(error).strip().partition("\n")[0][:300] or type(error).__name__
    if not _BETWEEN_PROCESSES.search(str(error)):
        traceback.print_exception(error)
        LAST.leave(f"{name()} failed: {line}. {last_checkpoint()}".strip())
    LAST.leave(f"{lost()} ({line})")


def leave(code: int) -> int:
    """Parts from the other processes, if there are any, and gives back the exit code."""
    try:
        if count() == 1:
            return code
    except errors.Failure:  # JAX lacks what tells: the start has said so, and nobody was met
        return code
    sys.stdout.flush()
    if code == 0:
        LAST.words = lambda: f"{name()} is done, but another one did not come to its end"
        jax.distributed.shutdown()
        return 0
    # Those that fail alike say so each by itself; nobody waits for the others. Who leaves first is
    # not lost to them.
    LAST.code = code
    with contextlib.suppress(Exception):
        runtime.wait_for_all("mixer/failed", _FAIL_ALIKE)
    os._exit(code)
