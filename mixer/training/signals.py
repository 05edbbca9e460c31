"""SIGTERM and Ctrl-C become a flag that the loop and the evaluators look at."""

import contextlib
import os
import signal
from types import FrameType


class StopSignal:
    """While entered, the first SIGTERM or SIGINT sets `received`; a second one interrupts.

    Must be entered in the main thread.
    """

    def __init__(self):
        self.received: str | None = None
        self._previous = {}

    def __bool__(self) -> bool:
        return self.received is not None

    def __enter__(self) -> "StopSignal":
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self:
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name
        # A handler may not print: it could interrupt a print.
        text = f"\n{self.received}: stopping after this step; once more to stop at once\n"
        with contextlib.suppress(OSError):  # Ctrl-C ends the reader of our pipe too
            os.write(1, text.encode())
