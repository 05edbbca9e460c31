"""How many images/s a computation reaches, at the batch size that suits it best."""

import dataclasses
import statistics
import time
from collections.abc import Callable, Iterator

import jax

WARM_UP = 10  # calls that are not measured


@dataclasses.dataclass(frozen=True)
class Rate:
    """Of one batch size.

    Attributes:
      batch_size: of all devices together.
      seconds: of each measured call.
    """

    batch_size: int
    seconds: list[float]

    @property
    def images_per_second(self) -> float:
        """By the median of the calls."""
        return self.batch_size / statistics.median(self.seconds)

    @property
    def spread(self) -> tuple[float, float]:
        """Images/s of the slowest and of the fastest call."""
        return self.batch_size / max(self.seconds), self.batch_size / min(self.seconds)


def rates(
    prepare: Callable[[int], Callable[[], None]],
    batch_sizes: Iterator[int],
    *,
    calls: int,
    patience: float,
) -> Iterator[Rate]:
    """Measures one batch size after the other until the devices' memory ends.

    Args:
      prepare: batch size -> a call that returns once its work is done. Its first call may compile.
      calls: that are measured of each batch size, after `WARM_UP`.
      patience: seconds; warm-up and measurement of a batch size each end after so many, with at
        least one call measured. A batch size of which one call takes longer is the last.
    """
    for batch_size in batch_sizes:
        try:
            call = prepare(batch_size)
            call()
            _timed(call, WARM_UP, patience)
            rate = Rate(batch_size, _timed(call, calls, patience))
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            return
        yield rate
        if statistics.median(rate.seconds) > patience:
            return


def _timed(call: Callable[[], None], calls: int, patience: float) -> list[float]:
    seconds = []
    while len(seconds) < calls and sum(seconds) < patience:
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return seconds
