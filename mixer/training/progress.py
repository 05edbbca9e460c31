"""Turns the steps' device metrics into means over a window, rates and times.

Its state (`state_dict`) travels with each checkpoint, so a resumed run's log lines are those of a
run that was never stopped, the times aside.
"""

import collections
import contextlib
import math
import time
from collections.abc import Iterator

import jax

from mixer.errors import Failure


class NonFinite(Failure):
    """The loss, or a norm of the gradient or the parameters, is NaN or infinite."""

    def __init__(self, step: int, name: str, value: float):
        super().__init__(
            f"the {name} became {value} at step {step}, and nothing of that was saved. Try a lower "
            f"learning rate or a clipped gradient in another --workdir; --config.init_from takes "
            f"the weights of a checkpoint from before, and --config.skip_nonfinite=N leaves out up "
            f"to N updates in a row whose gradient is not finite"
        )


class Progress:
    """Collects metrics with a short delay, so that the host never waits for the step it has sent.

    Args:
      batch_size: of the global batch.
      devices: in the whole run.
      may_skip: so many steps in a row may have had a gradient that is not finite, where the
        optimizer leaves such updates out; they count in no mean.
      state: `state_dict()` of the checkpoint that the run goes on from.
      flops: that training on one image takes, if known.
      peak: a device's FLOP/s at best, if known.
    """

    # Steps that may be under way on the device while the host prepares the next.
    _LAG = 2

    def __init__(
        self,
        batch_size: int,
        devices: int,
        state: dict | None = None,
        *,
        may_skip: int = 0,
        flops: int | None = None,
        peak: float | None = None,
    ):
        state = state or {}
        self._batch_size, self._devices, self._flops, self._peak = batch_size, devices, flops, peak
        self._pending = collections.deque()
        self._sums: dict[str, float] = dict(state.get("sums", {}))
        self._steps: int = state.get("steps", 0)
        self._may_skip = may_skip
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
        """Of training, evaluation and saving, all sessions of the run together."""
        return self._before + time.perf_counter() - self._begin

    def waited(self, seconds: float) -> None:
        """The loop has waited so long for a batch; counts if the device had run out of steps."""
        if not self._pending or self._pending[-1][1]["loss"].is_ready():
            self._spent["data_wait"] += seconds

    @contextlib.contextmanager
    def spent_on(self, what: str) -> Iterator[None]:
        """Counts the block as "evaluation" or "checkpoint", which are left out of the rates."""
        began = time.perf_counter()
        yield
        self._spent[what] += time.perf_counter() - began

    def add(self, step: int, metrics: dict[str, jax.Array]) -> None:
        """Takes the metrics of `step`, still being computed.

        Raises:
          NonFinite: of this step or one before it.
        """
        for value in metrics.values():
            value.copy_to_host_async()
        self._pending.append((step, metrics))
        self._timed += 1
        while len(self._pending) > self._LAG:
            self._absorb()

    def drain(self) -> None:
        """Waits for all steps that were added.

        Raises:
          NonFinite: of any of them.
        """
        while self._pending:
            self._absorb()

    def _absorb(self) -> None:
        step, metrics = self._pending.popleft()
        self.last = {name: float(value) for name, value in metrics.items()}
        bad = [name for name, value in self.last.items() if not math.isfinite(value)]
        # Only what goes into an update may be bad; what comes out of it tells that it was left out.
        left_out = "grad_norm" in bad and set(bad) <= {"grad_norm", "loss"}
        self._in_a_row = self._in_a_row + 1 if left_out else 0
        if bad and not 0 < self._in_a_row <= self._may_skip:
            name = "loss" if "loss" in bad else bad[0]  # the loss says most
            raise NonFinite(step, name, self.last[name])
        if left_out:
            self._skipped += 1
            return
        for name, value in self.last.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._steps += 1

    def summary(self) -> dict[str, float]:
        """Means since the last summary (the learning rate: of the last step), rates, times.

        The `seconds/` add up to those since the last summary; `seconds/compute` is what is left
        of them: the steps, and the host's own work.
        """
        self.drain()
        now = time.perf_counter()
        busy = now - self._window_begin - self._spent["evaluation"] - self._spent["checkpoint"]
        busy = max(busy, 1e-9)
        seconds = {"compute": busy - self._spent["data_wait"]} | self._spent
        means = {f"train/{name}": total / self._steps for name, total in self._sums.items()}
        if self._may_skip:
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
        """What a checkpoint needs; JSON."""
        self.drain()
        return {
            "sums": self._sums,
            "steps": self._steps,
            "seconds": self.seconds,
            "skipped": self._skipped,
            "skipped_in_a_row": self._in_a_row,
        }
