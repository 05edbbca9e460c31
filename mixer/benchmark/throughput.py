"""The throughput of a model: images/s at each batch size until the memory is full."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator

import jax

WARM_UP = 10  # calls before the measured ones


@dataclasses.dataclass(frozen=True)
class Rate:
    """The measurement of one batch size.

    Attributes:
      batch_size: global, over all devices.
      seconds: duration of each measured call.
    """

    batch_size: int
    seconds: list[float]

    @property
    def images_per_second(self) -> float:
        """Images/s at the median duration of a call."""
        return self.batch_size / statistics.median(self.seconds)

    @property
    def spread(self) -> tuple[float, float]:
        """Images/s of the slowest and the fastest call."""
        return self.batch_size / max(self.seconds), self.batch_size / min(self.seconds)


def rates(
    prepare: Callable[[int], Callable[[], None]],
    batch_sizes: Iterator[int],
    *,
    calls: int,
    timeout: float,
) -> Iterator[Rate]:
    """Measures one batch size after the other until one does not fit into the devices' memory.

    Args:
      prepare: batch size -> function that does the work and returns when it is done. Its first call
        may compile.
      calls: number of measured calls for each batch size, after `WARM_UP`.
      timeout: seconds. The warm-up and the measurement of a batch size each end after this time,
        but at least one call is measured. A batch size whose median call takes longer is the last.
    """
    for batch_size in batch_sizes:
        try:
            call = prepare(batch_size)
            call()
            _timed(call, WARM_UP, timeout)
            rate = Rate(batch_size, _timed(call, calls, timeout))
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            return
        yield rate
        if statistics.median(rate.seconds) > timeout:
            return


def _timed(call: Callable[[], None], calls: int, timeout: float) -> list[float]:
    seconds = []
    while len(seconds) < calls and sum(seconds) < timeout:
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return seconds
