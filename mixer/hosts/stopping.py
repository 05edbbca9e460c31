"""A stop of several processes together: a signal to one stops all after the same step."""

import signal
from types import FrameType

from jax.experimental import multihost_utils

from mixer.hosts import peers
from mixer.signals import STOPS, StopSignal


class StopTogether(StopSignal):
    """See `StopSignal`.

    JAX's preemption service has taken SIGTERM over, and does not hear a second one. All processes
    have to poll equally often.
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
    """What stops a run after saving, to be entered."""
    return StopSignal() if peers.count() == 1 else StopTogether()
