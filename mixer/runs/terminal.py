"""What a training says on the terminal, from its first step on."""

import math
import time

from etils import epath

from mixer.runs.training import Training
from mixer.training.writers import Console, format_duration


class Laps:
    """Seconds from the command to the first step, by what they went into: `times`."""

    def __init__(self, times: dict[str, float]):
        self.times = times
        self._since = time.perf_counter()

    def lap(self, name: str) -> None:
        """What has passed since the last one went into this."""
        now = time.perf_counter()
        self.times[name] = now - self._since
        self._since = now


class Terminal:
    """Lines, and a live bar under them. As a context it removes the bar at the end."""

    def __init__(self, training: Training, start: int):
        self._training = training
        self._console = Console(training.total, start)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_) -> None:
        self._console.close()

    def tick(self, at: int, metrics: dict[str, float]) -> None:
        """One more step; `metrics` may be empty."""
        self._console.tick(at, metrics)

    def first_step(self, times: dict[str, float]) -> None:
        """How long it took to come here: see `Laps`."""
        parts = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in times.items())
        self._console.line(f"first step after {sum(times.values()):.1f} s: {parts}")

    def progress(self, at: int, epoch: float, summary: dict[str, float]) -> None:
        """The line of a window of steps."""
        training, rate = self._training, summary["images_per_second_per_device"]
        left = (training.total - at) * training.batch_size / (rate * training.mesh.size)
        self._console.line(
            f"step {at:,}/{training.total:,}  epoch {epoch:.1f}"
            f"  loss {summary.get('train/loss', math.nan):.4f}"
            f"  accuracy {summary.get('train/accuracy', math.nan):.3f}"
            f"  lr {summary['train/learning_rate']:.2e}"
            f"  {rate:,.0f} img/s/device"
            f"  data wait {summary['data_wait_share']:.1%}  left {format_duration(left)}"
        )

    def measured(self, at: int, metrics: dict[str, float]) -> None:
        """The numbers of an evaluation."""
        shown = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        self._console.line(f"step {at:,}  {shown}")

    def stopped(self, by: str, reached: int) -> None:
        """The last line of a run that is to go on."""
        where = f"saved step {reached:,} of {self._training.total:,}" if reached else "nothing done"
        self._console.line(f"stopped by {by}: {where}; the same command goes on")

    def done(self, seconds: float, results: epath.Path) -> None:
        """The last line of a run that is complete."""
        self._console.line(f"done in {format_duration(seconds)}: {results}")
