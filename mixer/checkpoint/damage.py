"""What goes wrong between Orbax and the disk, as one error each."""

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
# What a disk says of a file that is not there, or that is something else by now.
_NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG)
# What a ValueError of TensorStore's, or of gcsfs', begins with when a store does not answer.
_NO_ANSWER = re.compile(
    "(UNAVAILABLE|DEADLINE_EXCEEDED|ABORTED|CANCELLED|RESOURCE_EXHAUSTED|PERMISSION_DENIED"
    "|UNAUTHENTICATED|Bad Request):"
)


class DamagedCheckpoint(Failure):
    """A checkpoint that cannot be read back as it was written."""


class Unreachable(Failure):
    """A checkpoint of which nothing is known, for the disk or the store does not answer."""


@contextlib.contextmanager
def reading(where: str) -> Iterator[None]:
    """Turns whatever is raised on bad files into one `DamagedCheckpoint`.

    Raises:
      DamagedCheckpoint: content is missing or altered.
      Unreachable: the disk or the store failed, or refused.
    """
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError):
        raise  # the machine's trouble
    except Exception as error:
        cause = error
        while cause.__cause__:  # Orbax wraps what TensorStore says
            cause = cause.__cause__
        if _no_answer(cause):
            raise Unreachable(
                f"{where} cannot be reached now: {trouble(cause)[1]}. The same command tries "
                f"again; if that never helps, move this checkpoint away, and the one before is used"
            ) from error.with_traceback(None)
        array = re.search(r'"([\w.]+)/(?:\.zarray|[\d.]+)"', str(cause))
        named = f"array {array[1].replace('.', '/')}: " if array else ""
        lines = str(cause).strip().splitlines() or [type(cause).__name__]
        raise DamagedCheckpoint(
            f"{where} cannot be read: {named}{lines[0][:200]}"
        ) from error.with_traceback(None)


def _no_answer(error: BaseException) -> bool:
    if isinstance(error, FileNotFoundError):
        return False
    number, _ = trouble(error)
    if number is not None:
        return number not in _NO_FILE
    way = isinstance(error, OSError) or is_of_client(error)
    return way or bool(_NO_ANSWER.match(str(error)))


@contextlib.contextmanager
def writing(where: str) -> Iterator[None]:
    """Turns whatever Orbax raises on a disk that takes no more into one `Failure`."""
    try:
        yield
    except (MemoryError, TimeoutError, ConnectionError, jax.errors.JaxRuntimeError, Unreachable):
        raise  # the machine's or another process's trouble, or told already
    except Exception as error:
        number, reason = trouble(error)
        if number is None and where not in str(error) and jax.process_count() > 1:
            raise  # most likely another process was lost
        mended = "there is room" if number in _NO_ROOM else "that is mended"
        raise Failure(
            f"a checkpoint in {where} could not be written: {reason}. Those before "
            f"it stand; when {mended} the same command goes on"
        ) from error


def hush_orbax() -> None:
    """When one array fails, Orbax's readers of the others complain that nobody waits any more."""
    warnings.filterwarnings("ignore", "coroutine '.*' was never awaited", RuntimeWarning)
    show, folder = sys.unraisablehook, os.path.dirname(ocp.__file__)

    def hook(unraisable) -> None:
        code = getattr(unraisable.object, "cr_code", None)
        of_orbax = code is not None and code.co_filename.startswith(folder)
        if not of_orbax and str(unraisable.exc_value) != "Event loop is closed":
            show(unraisable)

    sys.unraisablehook = hook
