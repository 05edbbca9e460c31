"""What goes wrong between Orbax and the disk, as one error each."""

import contextlib
import errno
import os
import re
import sys
from collections.abc import Iterator

import jax
import orbax.checkpoint as ocp

from mixer.errors import Failure
from mixer.storage import trouble

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DamagedCheckpoint(Failure):
    """A checkpoint that cannot be read back as it was written."""


@contextlib.contextmanager
def reading(where: str) -> Iterator[None]:
    """Turns whatever Orbax raises on bad files into one `DamagedCheckpoint`."""
    try:
        yield
    except (MemoryError, PermissionError, TimeoutError, jax.errors.JaxRuntimeError):
        raise  # the machine's trouble, not the file's
    except Exception as error:
        array = re.search(r'"([\w.]+)/(?:\.zarray|[\d.]+)"', str(error))
        named = f"array {array[1].replace('.', '/')}: " if array else ""
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise DamagedCheckpoint(
            f"{where} cannot be read: {named}{lines[0][:200]}"
        ) from error.with_traceback(None)


@contextlib.contextmanager
def writing(where: str) -> Iterator[None]:
    """Turns whatever Orbax raises on a disk that takes no more into one `Failure`."""
    try:
        yield
    except (MemoryError, TimeoutError, ConnectionError, jax.errors.JaxRuntimeError):
        raise  # the machine's or another process's trouble, not the disk's
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
    show, folder = sys.unraisablehook, os.path.dirname(ocp.__file__)

    def hook(unraisable) -> None:
        code = getattr(unraisable.object, "cr_code", None)
        of_orbax = code is not None and code.co_filename.startswith(folder)
        if not of_orbax and str(unraisable.exc_value) != "Event loop is closed":
            show(unraisable)

    sys.unraisablehook = hook
