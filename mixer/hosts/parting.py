"""How the processes of a run end: all at once, or because one fails or is lost; exit codes."""

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

# Seconds within which processes that fail for the same reason can all print it.
_FAILURE_TIMEOUT = 5
_BETWEEN_PROCESSES = re.compile(
    r"gloo|nccl|rccl|mpi|coordination|heartbeat|barrier|socket|connection|peer|"
    r"UNAVAILABLE|DEADLINE_EXCEEDED|ABORTED|CANCELLED",
    re.IGNORECASE,
)

LAST_WORDS = LastWords()


def lost() -> str:
    """What a process prints that has lost another one."""
    parts = (
        f"{name()} has lost another process, whose own output may say why.",
        last_checkpoint(),
        "The same command, for all processes, resumes the run.",
    )
    return " ".join(filter(None, parts))


def last_checkpoint() -> str:
    """A sentence that names the last checkpoint; "" for a run that saves none."""
    return LAST_WORDS.last_checkpoint()


@contextlib.contextmanager
def watch(
    checkpoints: epath.Path, newest: Callable[[epath.Path], epath.Path | None]
) -> Iterator[None]:
    """Around a run that saves: an error of several processes ends this one at once, with a line.

    Args:
      checkpoints: folder of the run's checkpoints.
      newest: see `LastWords`.
    """
    LAST_WORDS.checkpoints, LAST_WORDS.newest = checkpoints, newest
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
    """Ends this one of several processes because of an unexpected error."""
    line = str(error).strip().partition("\n")[0][:300] or type(error).__name__
    if not _BETWEEN_PROCESSES.search(str(error)):
        traceback.print_exception(error)
        LAST_WORDS.leave(f"{name()} failed: {line}. {last_checkpoint()}".strip())
    LAST_WORDS.leave(f"{lost()} ({line})")


def leave(code: int) -> int:
    """Disconnects from the other processes, if there are any, and returns the exit code.

    With a code other than 0 and other processes it exits at once instead.
    """
    try:
        if count() == 1:
            return code
    except errors.Failure:  # this JAX cannot tell; the start has failed with that error
        return code
    sys.stdout.flush()
    if code == 0:
        LAST_WORDS.words = lambda: f"{name()} is done, but another process did not finish"
        jax.distributed.shutdown()
        return 0
    # If all processes fail for the same reason, each prints it: none should exit so early that the
    # others report it as lost. But none waits long.
    LAST_WORDS.code = code
    with contextlib.suppress(Exception):
        runtime.wait_for_all("mixer/failed", _FAILURE_TIMEOUT)
    os._exit(code)
