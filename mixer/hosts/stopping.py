"""Stop signals with several processes: a signal to one stops all of them after the same step."""

import signal
from types import FrameType

from jax.experimental import multihost_utils

from mixer.hosts import peers
from mixer.signals import STOPS, StopSignal


class MultiProcessStopSignal(StopSignal):
    """A `StopSignal` that all processes see at the same poll, so all must poll equally often.

    JAX's preemption service handles SIGTERM, and ignores a second one.
    """

    _SIGNALS = tuple(number for number in STOPS if number != signal.SIGTERM)

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


def stop_signal() -> StopSignal:
    """The stop signal for this number of processes; use it as a context manager."""
    return StopSignal() if peers.count() == 1 else MultiProcessStopSignal()
