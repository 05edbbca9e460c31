"""Turns the many errors of Orbax, TensorStore and the disk into one error per cause."""

import contextlib
import errno
import os
import re
import sys
import warnings
from collections.abc import Iterator

import jax
import orbax.checkpoint as ocp

from mixer.errors import Failure
from mixer.storage import is_of_client, trouble

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# The disk's errors for a file that does not exist, or is no longer a file.
_NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG)
# How a ValueError from TensorStore or gcsfs begins when an object store does not answer.
_NO_ANSWER = re.compile(
    "(UNAVAILABLE|DEADLINE_EXCEEDED|ABORTED|CANCELLED|RESOURCE_EXHAUSTED|PERMISSION_DENIED"
    "|UNAUTHENTICATED|Bad Request):"
)


class DamagedCheckpoint(Failure):
    """A checkpoint that cannot be read back as it was written."""


class Unreachable(Failure):
    """A checkpoint that may be intact: the disk or the object store does not answer."""


@contextlib.contextmanager
def reading(where: str) -> Iterator[None]:
    """Wraps the reading of a checkpoint: whatever bad files raise becomes a `DamagedCheckpoint`.

    Raises:
      DamagedCheckpoint: content is missing or altered.
      Unreachable: the disk or the object store failed, or refused access.
    """
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError):
        raise  # the machine's fault, not the checkpoint's
    except Exception as error:
        cause = error
        while cause.__cause__:  # Orbax wraps TensorStore's error
            cause = cause.__cause__
        if _is_unreachable(cause):
            raise Unreachable(
                f"{where} cannot be reached now: {trouble(cause)[1]}. Run the same command again; "
                f"if that never helps, move this checkpoint away to use the one before it"
            ) from error.with_traceback(None)
        array = re.search(r'"([\w.]+)/(?:\.zarray|[\d.]+)"', str(cause))
        named = f"array {array[1].replace('.', '/')}: " if array else ""
        lines = str(cause).strip().splitlines() or [type(cause).__name__]
        raise DamagedCheckpoint(
            f"{where} cannot be read: {named}{lines[0][:200]}"
        ) from error.with_traceback(None)


def _is_unreachable(error: BaseException) -> bool:
    if isinstance(error, FileNotFoundError):
        return False
    number, _ = trouble(error)
    if number is not None:
        return number not in _NO_FILE
    known = isinstance(error, OSError) or is_of_client(error)
    return known or bool(_NO_ANSWER.match(str(error)))


@contextlib.contextmanager
def writing(where: str) -> Iterator[None]:
    """Wraps the writing of a checkpoint: whatever Orbax raises if it fails becomes a `Failure`."""
    try:
        yield
    except (MemoryError, TimeoutError, ConnectionError, jax.errors.JaxRuntimeError, Unreachable):
        raise  # the fault of the machine or another process, or already explained
    except Exception as error:
        number, reason = trouble(error)
        if number is None and where not in str(error) and jax.process_count() > 1:
            raise  # most likely another process was lost
        fixed = "there is room" if number in _NO_ROOM else "that is fixed"
        raise Failure(
            f"a checkpoint in {where} could not be written: {reason}. Earlier checkpoints are "
            f"intact; once {fixed}, the same command resumes the run"
        ) from error


def hush_orbax() -> None:
    """Silences complaints of Orbax's coroutines, not awaited once one array has failed."""
    warnings.filterwarnings("ignore", "coroutine '.*' was never awaited", RuntimeWarning)
    show, folder = sys.unraisablehook, os.path.dirname(ocp.__file__)

    def hook(unraisable) -> None:
        code = getattr(unraisable.object, "cr_code", None)
        of_orbax = code is not None and code.co_filename.startswith(folder)
        if not of_orbax and str(unraisable.exc_value) != "Event loop is closed":
            show(unraisable)

    sys.unraisablehook = hook
