"""A signal to stop as a question that the loop and the evaluators ask between two steps."""

import os
import signal
from types import FrameType

from jax.experimental import multihost_utils

from mixer import output, signals

# Who sends one of these again does not want to wait. The others may well come twice: from the
# kernel and from the shell, or before a time limit and at it.
_INSISTENT = (signal.SIGINT, signal.SIGTERM)


class StopSignal:
    """While entered, the first of `mixer.signals.STOPS` is remembered.

    A second SIGTERM or SIGINT interrupts. Under nohup SIGHUP stays ignored. Must be entered in the
    main thread.

    Attributes:
      received: what stops the run, once `poll` has seen it.
    """

    _SIGNALS = signals.STOPS

    def __init__(self):
        self.received: str | None = None
        self._came: str | None = None
        self._insisted = False
        self._previous = {}

    def __bool__(self) -> bool:
        return self.received is not None

    def poll(self) -> bool:
        """Whether to stop here. Only here does that change: in several processes, for all alike."""
        self.received = self.received or self._came
        return bool(self)

    def __enter__(self) -> "StopSignal":
        for number in self._SIGNALS:
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue
            self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if number in _INSISTENT:
            if self._insisted:
                raise KeyboardInterrupt
            self._insisted = True
        if number == signal.SIGHUP:
            output.to_nobody()  # the first signal may have come before
        if not self._came:
            self._came = signal.Signals(number).name
            again = "; once more to stop at once" if number in _INSISTENT else ""
            _say(f"\n{self._came}: stopping after this step{again}\n")


def _say(text: str) -> None:
    """Without `print`, which a handler could interrupt."""
    with output.outliving_readers():
        os.write(1, text.encode())


class StopTogether(StopSignal):
    """The same for several processes: a signal to one stops all after the same step.

    JAX's preemption service has taken SIGTERM over, and does not hear a second one. All processes
    have to poll equally often.
    """

    _SIGNALS = tuple(number for number in signals.STOPS if number != signal.SIGTERM)

    def __init__(self):
        super().__init__()
        self._polls = 0

    def poll(self) -> bool:
        """See `StopSignal`."""
        self._polls += 1
        if not self and multihost_utils.reached_preemption_sync_point(self._polls):
            self.received = f"{self._came or 'SIGTERM'} to one of the processes"
        return bool(self)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        super()._handle(number, frame)
        signal.raise_signal(signal.SIGTERM)
