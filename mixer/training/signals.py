"""SIGTERM and Ctrl-C as a question that the loop and the evaluators ask between two steps."""

import contextlib
import os
import signal
from types import FrameType

from jax.experimental import multihost_utils


class StopSignal:
    """While entered, the first SIGTERM or SIGINT is remembered; a second one interrupts.

    Must be entered in the main thread.

    Attributes:
      received: what stops the run, once `poll` has seen it.
    """

    _SIGNALS = (signal.SIGTERM, signal.SIGINT)

    def __init__(self):
        self.received: str | None = None
        self._came: str | None = None
        self._previous = {}

    def __bool__(self) -> bool:
        return self.received is not None

    def poll(self) -> bool:
        """Whether to stop here. Only here does that change: in several processes, for all alike."""
        self.received = self.received or self._came
        return bool(self)

    def __enter__(self) -> "StopSignal":
        for number in self._SIGNALS:
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self._came:
            raise KeyboardInterrupt
        self._came = signal.Signals(number).name
        # A handler may not print: it could interrupt a print.
        text = f"\n{self._came}: stopping after this step; once more to stop at once\n"
        with contextlib.suppress(OSError):  # Ctrl-C ends the reader of our pipe too
            os.write(1, text.encode())


class StopTogether(StopSignal):
    """The same for several processes: a SIGTERM to one stops all after the same step.

    JAX's preemption service has taken SIGTERM over, and does not hear a second one. All processes
    have to poll equally often.
    """

    _SIGNALS = (signal.SIGINT,)

    def __init__(self):
        super().__init__()
        self._polls = 0

    def poll(self) -> bool:
        """See `StopSignal`."""
        self._polls += 1
        if not self and multihost_utils.reached_preemption_sync_point(self._polls):
            self.received = "SIGTERM to one of the processes"
        return bool(self)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        super()._handle(number, frame)
        signal.raise_signal(signal.SIGTERM)
