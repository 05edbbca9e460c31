"""The signals by which a machine asks a run to stop, as a question asked between two steps."""

import os
import signal
from types import FrameType

from mixer import output

# Ctrl-C; a scheduler's or a user's wish; a terminal that is closed; what SLURM's --signal and
# submitit send before the time is up.
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

# Who sends one of these again does not want to wait. The others may well come twice: from the
# kernel and from the shell, or before a time limit and at it.
_INSISTENT = (signal.SIGINT, signal.SIGTERM)


def leave_to_parent(*signals: signal.Signals) -> None:
    """In a worker process: what reaches all processes of a run is the first one's to handle."""
    for number in signals:
        signal.signal(number, signal.SIG_IGN)


class StopSignal:
    """While entered, the first of `STOPS` is remembered.

    A second SIGTERM or SIGINT interrupts. Under nohup SIGHUP stays ignored. Must be entered in the
    main thread.

    Attributes:
      received: what stops the run, once `poll` has seen it.
    """

    _SIGNALS = STOPS

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
