"""The training loop: when it logs, evaluates, saves and stops.

It knows nothing of configs, datasets or checkpoint files: its arguments stand for them.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

from mixer.batch import Batch
from mixer.signals import StopSignal
from mixer.training.progress import Progress
from mixer.training.step import TrainState


@dataclasses.dataclass(frozen=True)
class Hooks:
    """What the loop calls between steps; `step` is always the number of steps done.

    Attributes:
      log: (step, summary of the steps since the last log line).
      evaluate: (step, state) -> metrics, or None if the stop signal interrupted it.
      save: (step, state, metrics of this step's evaluation or None, whether an evaluation that
        was due at this step is still to be done).
      tick: (step, metrics of the last finished step), after every step, for the progress bar.
      log_at, evaluate_at, save_at: step -> whether it is due after this step.
      choose_at: step -> whether this step's evaluation decides which checkpoint is best, so that
        its metrics must be saved with the checkpoint.
      ended: () -> whether the last evaluation ends the training before its last step.
    """

    log: Callable[[int, dict[str, float]], None]
    evaluate: Callable[[int, TrainState], dict[str, float] | None]
    save: Callable[[int, TrainState, dict[str, float] | None, bool], None]
    tick: Callable[[int, dict[str, float]], None]
    log_at: Callable[[int], bool]
    evaluate_at: Callable[[int], bool]
    save_at: Callable[[int], bool]
    choose_at: Callable[[int], bool]
    ended: Callable[[], bool] = lambda: False


def run(
    state: TrainState,
    train_step: Callable[[TrainState, Batch], tuple[TrainState, Any]],
    batches: Iterator[Batch],
    hooks: Hooks,
    progress: Progress,
    stop: StopSignal,
    *,
    start: int,
    total: int,
    evaluation_due: bool = False,
) -> tuple[TrainState, int]:
    """Trains from step `start` to step `total`, until it has `ended`, or a stop signal is seen.

    After a step come, where due, the log line, the checkpoint and the evaluation, in this order. A
    checkpoint is also saved before every evaluation and at a stop, so that a crash during an
    evaluation loses no step.

    Args:
      evaluation_due: the checkpoint at `start` was saved before its evaluation, which is still to
        be done.

    Returns:
      The state and the number of steps done.

    Raises:
      NonFinite: the loss or a norm is NaN or infinite. Neither that step nor a later one was saved.
    """
    step = saved = start
    missing = evaluation_due

    def save(metrics: dict[str, float] | None) -> None:
        nonlocal saved
        with progress.spent_on("checkpoint"):
            hooks.save(step, state, metrics, missing)
        saved = step

    while True:
        stop.poll()
        if missing or hooks.save_at(step) or stop:
            progress.drain()
            if step != saved:
                save(None)
        if missing and not stop:
            with progress.spent_on("evaluation"):
                metrics = hooks.evaluate(step, state)
            missing = metrics is None
            if metrics is not None and hooks.choose_at(step):
                save(metrics)
        if stop or step == total or hooks.ended():
            return state, step
        began = time.perf_counter()
        batch = next(batches)
        progress.waited(time.perf_counter() - began)
        state, update_metrics = train_step(state, batch)
        step += 1
        progress.add(step, update_metrics)
        hooks.tick(step, progress.last)
        if hooks.log_at(step):
            hooks.log(step, progress.summary())
        missing = hooks.evaluate_at(step)
