"""Stop signals (SIGTERM, Ctrl-C and others): the first one stops a run between two steps."""

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType

from mixer import output

# SIGINT is Ctrl-C; SIGTERM comes from schedulers and users, SIGHUP from a closed terminal; SLURM's
# --signal and submitit send SIGUSR1 or SIGUSR2 before a time limit.
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

# A second one of these means that the sender does not want to wait. The others may come twice
# without meaning that: from the kernel and the shell, or before a time limit and at the limit.
_INSISTENT = (signal.SIGINT, signal.SIGTERM)


def leave_to_parent(*signals: signal.Signals) -> None:
    """Ignores these signals in a worker process; its parent, which also gets them, handles them."""
    for number in signals:
        signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def hidden_from_children(*signals: signal.Signals) -> Iterator[None]:
    """Processes that are started in this block never get these signals, nor while they import."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def leaving_at_once() -> Iterator[None]:
    """In this block Ctrl-C ends the process with one line. It is for the imports before a run.

    A KeyboardInterrupt there would be a long traceback, which some packages even ignore.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # such as under nohup
        yield
        return
    signal.signal(signal.SIGINT, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(number: int, frame: FrameType | None) -> None:
    os.write(2, b"error: interrupted before the run began\n")
    os._exit(1)


class StopSignal:
    """A context manager that remembers the first signal of `STOPS` instead of ending the process.

    A second SIGTERM or SIGINT raises KeyboardInterrupt. Under nohup SIGHUP stays ignored. It must
    be entered in the main thread.

    Attributes:
      received: name of the signal that stops the run, once `poll` has seen it.
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
        """Whether to stop now. Only a poll changes that, in all processes of a run alike."""
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
            output.discard_if_closed()  # even if this is not the first signal
        if not self._came:
            self._came = signal.Signals(number).name
            again = "; once more to stop at once" if number in _INSISTENT else ""
            _say(f"\n{self._came}: stopping after this step{again}\n")


def _say(text: str) -> None:
    """Writes without `print`, which a signal handler may have interrupted."""
    with output.tolerate_closed():
        os.write(1, text.encode())
