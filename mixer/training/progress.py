"""The numbers of a log line: mean loss, throughput, MFU and times. A NaN among them ends the run.

They cover a window: the steps since the last log line. The state of a window (`state_dict`) is
saved with each checkpoint, so that a resumed run logs what an uninterrupted one would, except for
the times. How the line is printed is in mixer/runs/terminal.py.
"""

import collections
import contextlib
import math
import time
from collections.abc import Iterator

import jax

from mixer.training.nonfinite import NonFinite

# Metrics of a step that are not finite where its gradient is not.
_OF_THE_GRADIENT = {"grad_norm", "loss", "surrogate_gap", "distill_loss"}


class Progress:
    """Collects the metrics of each step two steps late, so that the host never waits for a device.

    Args:
      batch_size: size of the global batch.
      devices: number of devices of the whole run.
      state: `state_dict()` from the checkpoint that the run resumes from.
      max_skipped: how many steps in a row may have a gradient that is not finite, where the
        optimizer skips such updates (nonfinite.py). No mean counts these steps.
      flops: FLOPs of training on one image, if known.
      peak: peak FLOP/s of one device, if known.
    """

    _LAG = 2  # steps that may be running on the devices while the host prepares the next

    def __init__(
        self,
        batch_size: int,
        devices: int,
        state: dict | None = None,
        *,
        max_skipped: int = 0,
        flops: int | None = None,
        peak: float | None = None,
    ):
        state = state or {}
        self._batch_size, self._devices, self._flops, self._peak = batch_size, devices, flops, peak
        self._pending = collections.deque()
        self._sums: dict[str, float] = dict(state.get("sums", {}))
        self._steps: int = state.get("steps", 0)
        self._max_skipped = max_skipped
        self._skipped: int = state.get("skipped", 0)
        self._in_a_row: int = state.get("skipped_in_a_row", 0)
        self._before: float = state.get("seconds", 0.0)
        self._begin = time.perf_counter()
        self._start_window(self._begin)
        self.last: dict[str, float] = {}

    def _start_window(self, now: float) -> None:
        self._window_begin, self._timed = now, 0
        self._spent = dict.fromkeys(("data_wait", "evaluation", "checkpoint"), 0.0)

    @property
    def seconds(self) -> float:
        """Time spent on training, evaluating and saving, in all sessions of the run."""
        return self._before + time.perf_counter() - self._begin

    def waited(self, seconds: float) -> None:
        """Records that the loop waited for a batch. Counts only if the device was idle by then."""
        if not self._pending or self._pending[-1][1]["loss"].is_ready():
            self._spent["data_wait"] += seconds

    @contextlib.contextmanager
    def spent_on(self, what: str) -> Iterator[None]:
        """Counts the time of the block as "evaluation" or "checkpoint", not as training."""
        began = time.perf_counter()
        yield
        self._spent[what] += time.perf_counter() - began

    def add(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Takes the metrics of `step`, which the devices may still be computing.

        Raises:
          NonFinite: a metric of this or an earlier step is NaN or infinite.
        """
        for value in metrics.values():
            value.copy_to_host_async()
        self._pending.append((step, metrics))
        self._timed += 1
        while len(self._pending) > self._LAG:
            self._absorb()

    def drain(self) -> None:
        """Waits for the metrics of all steps that were added.

        Raises:
          NonFinite: a metric of one of them is NaN or infinite.
        """
        while self._pending:
            self._absorb()

    def _absorb(self) -> None:
        step, metrics = self._pending.popleft()
        self.last = {name: float(value) for name, value in metrics.items()}
        bad = [name for name, value in self.last.items() if not math.isfinite(value)]
        # A finite update and finite parameters show that the optimizer skipped the bad gradient.
        was_skipped = "grad_norm" in bad and set(bad) <= _OF_THE_GRADIENT
        self._in_a_row = self._in_a_row + 1 if was_skipped else 0
        if bad and not 0 < self._in_a_row <= self._max_skipped:
            name = "loss" if "loss" in bad else bad[0]  # the loss says most
            raise NonFinite(step, name, self.last[name])
        if was_skipped:
            self._skipped += 1
            return
        for name, value in self.last.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._steps += 1

    def summary(self) -> dict[str, float]:
        """The metrics of a log line. Starts a new window.

        Means are over the window, except the learning rate, which is the last step's. The
        `seconds/*` add up to the time since the last summary; `seconds/compute` is the part that
        is not evaluation, saving or waiting for data.
        """
        self.drain()
        now = time.perf_counter()
        busy = now - self._window_begin - self._spent["evaluation"] - self._spent["checkpoint"]
        busy = max(busy, 1e-9)
        seconds = {"compute": busy - self._spent["data_wait"]} | self._spent
        means = {f"train/{name}": total / self._steps for name, total in self._sums.items()}
        if self._max_skipped:
            means["skipped_updates"] = self._skipped
        means["train/learning_rate"] = self.last["learning_rate"]
        rate = self._timed * self._batch_size / busy / self._devices
        result = means | {
            "images_per_second_per_device": rate,
            "data_wait_share": self._spent["data_wait"] / busy,
            "device_days": self.seconds * self._devices / 86400,
        }
        result |= {f"seconds/{what}": spent for what, spent in seconds.items()}
        if self._flops:
            result["tflops_per_second_per_device"] = rate * self._flops / 1e12
            if self._peak:
                result["mfu"] = rate * self._flops / self._peak
        self._sums, self._steps = {}, 0
        self._start_window(now)
        return result

    def state_dict(self) -> dict:
        """What to save with a checkpoint; JSON-serializable."""
        self.drain()
        return {
            "sums": self._sums,
            "steps": self._steps,
            "seconds": self.seconds,
            "skipped": self._skipped,
            "skipped_in_a_row": self._in_a_row,
        }
