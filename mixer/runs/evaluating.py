"""Runs the evaluations of a training when they are due."""

from collections.abc import Callable, Sequence

from mixer import errors
from mixer.runs.evaluations import AVERAGED, Evaluation
from mixer.training import durations
from mixer.training.step import TrainState


class Evaluations:
    """All evaluations of a training, of the parameters and of their averages (EMA).

    Its metrics are called `<name>/<metric>`, for the averages `<name>_ema/<metric>`.

    Args:
      best: the metric by which the best checkpoint is chosen; "" for none.
      total: the number of steps, after which all evaluations are due.
    """

    def __init__(self, evaluations: Sequence[Evaluation], best: str, total: int):
        self._evaluations, self._best, self._total = evaluations, best, total

    def due(self, at: int) -> list[Evaluation]:
        """The evaluations that are due at this step."""
        return [e for e in self._evaluations if durations.is_due(at, e.every, self._total)]

    def choose(self, at: int) -> bool:
        """Whether `best` is measured at this step."""
        chosen_by = self._best.partition("/")[0].removesuffix(AVERAGED)
        return any(evaluation.name == chosen_by for evaluation in self.due(at))

    def measure(
        self,
        at: int,
        state: TrainState,
        interrupted: Callable[[], bool],
        ends: Callable[[float], bool] = lambda value: False,
    ) -> dict[str, float] | None:
        """The metrics of this step; None if `interrupted()` became true.

        Args:
          ends: the value of `best` -> whether it ends the training. Then all evaluations are due.

        Raises:
          Failure: `best` is due at this step but was not measured.
        """
        due = self.due(at)
        metrics = _measure(due, state, interrupted)
        if metrics is None or not self.choose(at):
            return metrics
        if self._best not in metrics:
            raise errors.Failure(
                f"config.best={self._best} was not measured, see above: choose another of "
                f"{', '.join(metrics)}"
            )
        if not ends(metrics[self._best]):
            return metrics
        others = [evaluation for evaluation in self._evaluations if evaluation not in due]
        rest = _measure(others, state, interrupted)
        return None if rest is None else metrics | rest


def _measure(
    evaluations: Sequence[Evaluation], state: TrainState, interrupted: Callable[[], bool]
) -> dict[str, float] | None:
    metrics = {}
    for evaluation in evaluations:
        kinds = {evaluation.name: state.params}
        if state.ema is not None:
            kinds[f"{evaluation.name}{AVERAGED}"] = state.ema
        for name, params in kinds.items():
            measured = evaluation.measure(params, interrupted)
            if measured is None:
                return None
            metrics |= {f"{name}/{key}": value for key, value in measured.items()}
    return metrics
