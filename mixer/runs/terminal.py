"""The lines and the progress bar that a training prints on the terminal."""

import math
import time

from etils import epath

from mixer.runs.training import Training
from mixer.training.console import Console, format_duration


class Laps:
    """A stopwatch for the phases before the first step; `times` has the seconds of each."""

    def __init__(self, times: dict[str, float]):
        self.times = times
        self._since = time.perf_counter()

    def lap(self, name: str) -> None:
        """Assigns the time since the previous lap to the phase `name`."""
        now = time.perf_counter()
        self.times[name] = now - self._since
        self._since = now


class Terminal:
    """Prints lines above a live progress bar, which is removed at the end of the context."""

    def __init__(self, training: Training, start: int):
        self._training = training
        self._console = Console(training.total, start)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_) -> None:
        self._console.close()

    def tick(self, at: int, metrics: dict[str, float]) -> None:
        """Advances the bar by a step; `metrics` may be empty."""
        self._console.tick(at, metrics)

    def first_step(self, times: dict[str, float]) -> None:
        """Prints the time that each phase took, if any; `times`: see `Laps`."""
        parts = ", ".join(f"{name} {took:.1f} s" for name, took in times.items() if took >= 0.05)
        self._console.line(f"first step after {sum(times.values()):.1f} s: {parts}")

    def progress(self, at: int, epoch: float, summary: dict[str, float]) -> None:
        """Prints the line for a window of steps."""
        training, rate = self._training, summary["images_per_second_per_device"]
        left = (training.total - at) * training.batch_size / (rate * training.mesh.size)
        accuracy = f"  accuracy {summary.get('train/accuracy', math.nan):.3f}"
        self._console.line(
            f"step {at:,}/{training.total:,}  epoch {epoch:.1f}"
            f"  loss {summary.get('train/loss', math.nan):.4f}"
            f"{'' if training.card.regression else accuracy}"
            f"  lr {summary['train/learning_rate']:.2e}"
            f"  {rate:,.0f} img/s/device"
            f"  data wait {summary['data_wait_share']:.1%}  left {format_duration(left)}"
        )

    def measured(self, at: int, metrics: dict[str, float]) -> None:
        """Prints the metrics of an evaluation."""
        shown = "  ".join(f"{name} {value:.4f}" for name, value in metrics.items())
        self._console.line(f"step {at:,}  {shown}")

    def stopped(self, by: str, reached: int) -> None:
        """Prints the last line of a stopped run."""
        where = f"saved step {reached:,} of {self._training.total:,}" if reached else "no step done"
        self._console.line(f"stopped by {by}: {where}; the same command resumes the run")

    def done(self, seconds: float, results: epath.Path, reached: int, early: str | None) -> None:
        """Prints the last line of a complete run; `early`: why it ended at step `reached`."""
        if early:
            self._console.line(
                f"ended at step {reached:,} of {self._training.total:,}: {early} "
                f"(--config.init_step=best loads it)"
            )
        self._console.line(f"done in {format_duration(seconds)}: {results}")
