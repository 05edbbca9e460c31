"""What goes wrong between Orbax and the disk, as one error each."""

import contextlib
import errno
import gc
import io
import os
import re
import time
from collections.abc import Iterator

import jax

from mixer.errors import Failure

# Said somewhere in the middle of what Orbax raises.
_DISK_TROUBLE = [
    os.strerror(number)
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
]


class DamagedCheckpoint(Failure):
    """A checkpoint that cannot be read back as it was written."""


@contextlib.contextmanager
def reading(where: str) -> Iterator[None]:
    """Turns whatever Orbax raises on bad files into one `DamagedCheckpoint`."""
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            yield
        except (MemoryError, PermissionError, TimeoutError, jax.errors.JaxRuntimeError):
            raise  # the machine's trouble, not the file's
        except Exception as error:
            array = re.search(r'"([\w.]+)/(?:\.zarray|[\d.]+)"', str(error))
            named = f"array {array[1].replace('.', '/')}: " if array else ""
            lines = str(error).strip().splitlines() or [type(error).__name__]
            _let_the_others_fail()
            raise DamagedCheckpoint(
                f"{where} cannot be read: {named}{lines[0][:200]}"
            ) from error.with_traceback(None)


@contextlib.contextmanager
def writing(where: str) -> Iterator[None]:
    """Turns whatever Orbax raises on a disk that takes no more into one `Failure`."""
    try:
        yield
    except (MemoryError, TimeoutError, jax.errors.JaxRuntimeError):
        raise  # the machine's or another process's trouble, not the disk's
    except Exception as error:
        text = str(error).strip() or type(error).__name__
        known = (reason for reason in _DISK_TROUBLE if reason in text)
        reason = next(known, text.splitlines()[0][:300])
        _let_the_others_fail()
        raise Failure(
            f"a checkpoint in {where} could not be written: {reason}. Those before "
            f"it stand; when there is room again the same command goes on"
        ) from error


def _let_the_others_fail() -> None:
    """When one array fails, Orbax leaves the others to complain from their threads: before us."""
    time.sleep(0.5)
    gc.collect()
