"""The training loop. It knows no config, no dataset and no checkpoint: they arrive as arguments."""

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
    """What happens between steps, each called with the number of steps done.

    Attributes:
      log: (step, summary of the window).
      evaluate: (step, state) -> metrics, or None when the stop signal cut it short.
      save: (step, state, metrics of an evaluation at this step or None, whether an evaluation
        that was due at this step is still missing).
      tick: (step, metrics of the last finished step), after every step, for a live display.
      log_at, evaluate_at, save_at: whether it is due after this step.
      choose_at: whether checkpoints are chosen by the metrics of this step's evaluation, so that
        they have to be saved with it.
    """

    log: Callable[[int, dict[str, float]], None]
    evaluate: Callable[[int, TrainState], dict[str, float] | None]
    save: Callable[[int, TrainState, dict[str, float] | None, bool], None]
    tick: Callable[[int, dict[str, float]], None]
    log_at: Callable[[int], bool]
    evaluate_at: Callable[[int], bool]
    save_at: Callable[[int], bool]
    choose_at: Callable[[int], bool]


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
    """Trains from `start` steps done to `total`, or until `stop` says so when polled.

    After a step come, where due: the log line, the checkpoint, the evaluation. An evaluation and a
    stop ask for a checkpoint too: whatever ends an evaluation, the steps before it are not lost.

    Args:
      evaluation_due: the checkpoint at `start` was written before its evaluation.

    Returns:
      The state and the number of steps done.

    Raises:
      NonFinite: nothing of that step or after it has been saved.
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
        if stop or step == total:
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
