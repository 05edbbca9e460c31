"""What one of several processes says when it is ended by another thread than its main one.

JAX's runtime ends a process whose peer is lost by abort(), from a thread of its own, while Python
may wait for ever in a collective operation. So the last line is said from a handler of SIGABRT.
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

# Seconds in which another thread has ended the process.
_ENOUGH = 60


class LastWords:
    """What is to be said when the runtime ends this process.

    Attributes:
      words: makes the line.
      checkpoints: the folder of a run that saves.
      newest: of that folder the newest whole checkpoint; None without any.
      code: with which a run exits that has said already why it ends; None before that.
    """

    def __init__(self):
        self.words: Callable[[], str] = str
        self.checkpoints: epath.Path | None = None
        self.newest: Callable[[epath.Path], epath.Path | None] = lambda folder: None
        self.code: int | None = None
        self._said = threading.Lock()

    def install(self) -> None:
        """From now on abort() ends with them."""
        # abort() raises SIGABRT in the thread that calls it. Python's own handlers would only run
        # later, in the main thread, and there is no later.
        kind = ctypes.CFUNCTYPE(None, ctypes.c_int)
        self._handler = kind(lambda _: self.leave(self.words()))
        libc = ctypes.CDLL(None)
        libc.signal.argtypes, libc.signal.restype = (ctypes.c_int, kind), ctypes.c_void_p
        libc.signal(signal.SIGABRT, self._handler)

    def withdraw(self) -> None:
        """Where there is no other process, abort() has another reason."""
        signal.signal(signal.SIGABRT, signal.SIG_DFL)

    def leave(self, words: str) -> None:
        """Says it and exits at once: JAX's own way out waits for those that are lost."""
        if not self._said.acquire(blocking=False):
            time.sleep(_ENOUGH)  # another thread is at it
        sys.stdout.flush()
        if self.code is not None:
            os._exit(self.code)
        os.write(2, f"error: {words}\n".encode())
        os._exit(1)

    def last_checkpoint(self) -> str:
        """A sentence that names it; none for a run that saves none."""
        if self.checkpoints is None:
            return ""
        with contextlib.suppress(Exception):
            if found := self.newest(self.checkpoints):
                return f"The last checkpoint is {found}."
            if not self.checkpoints.exists():
                return "No checkpoint was saved yet."
            return f"No checkpoint is in {self.checkpoints} yet."
        return f"The checkpoints are in {self.checkpoints}."
