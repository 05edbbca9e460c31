"""The last line and exit code of one of several processes that JAX's runtime aborts.

When another process is lost, the runtime calls abort() from a thread of its own, while the main
thread may wait forever in a collective operation. So a SIGABRT handler prints the line.
"""

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

from etils import epath

# Seconds within which another thread, once it has begun, ends the process.
_EXIT_TIMEOUT = 60


class LastWords:
    """What to print when the runtime aborts this process.

    Attributes:
      words: makes the line.
      checkpoints: checkpoint folder of a run that saves; else None.
      newest: checkpoint folder -> its newest complete checkpoint, or None.
      code: exit code of a run that has already printed why it ends; else None.
    """

    def __init__(self):
        self.words: Callable[[], str] = str
        self.checkpoints: epath.Path | None = None
        self.newest: Callable[[epath.Path], epath.Path | None] = lambda folder: None
        self.code: int | None = None
        self._said = threading.Lock()

    def install(self) -> None:
        """Makes abort() print the last words and exit."""
        # abort() raises SIGABRT in the thread that calls it. A Python signal handler would only run
        # later, in the main thread, and there is no later. Hence a C handler.
        kind = ctypes.CFUNCTYPE(None, ctypes.c_int)
        self._handler = kind(lambda _: self.leave(self.words()))
        libc = ctypes.CDLL(None)
        libc.signal.argtypes, libc.signal.restype = (ctypes.c_int, kind), ctypes.c_void_p
        libc.signal(signal.SIGABRT, self._handler)

    def uninstall(self) -> None:
        """Restores abort(). Without other processes it has another reason than a lost one."""
        signal.signal(signal.SIGABRT, signal.SIG_DFL)

    def leave(self, words: str) -> None:
        """Prints `words` and exits at once; JAX's own shutdown would wait for the lost process."""
        if not self._said.acquire(blocking=False):
            time.sleep(_EXIT_TIMEOUT)  # another thread is about to exit
        sys.stdout.flush()
        if self.code is not None:
            os._exit(self.code)
        os.write(2, f"error: {words}\n".encode())
        os._exit(1)

    def last_checkpoint(self) -> str:
        """A sentence that names the last checkpoint; "" for a run that saves none."""
        if self.checkpoints is None:
            return ""
        with contextlib.suppress(Exception):
            if found := self.newest(self.checkpoints):
                return f"The last checkpoint is {found}."
            if not self.checkpoints.exists():
                return "No checkpoint was saved yet."
            return f"No checkpoint is in {self.checkpoints} yet."
        return f"The checkpoints are in {self.checkpoints}."
