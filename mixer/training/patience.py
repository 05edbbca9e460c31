"""Early stopping: ends a training whose best metric has not improved for some evaluations."""

import dataclasses
import math
from typing import Any


@dataclasses.dataclass(frozen=True)
class Patience:
    """How the best value of a metric stands; an equal one is no improvement, and neither is NaN.

    Attributes:
      metric: its name, such as "val/top1".
      limit: how many evaluations in a row may bring no improvement; 0: any number.
      higher_is_better: whether an improvement is a higher value, else a lower one.
      best: the best value so far; None before the first.
      step: when `best` was measured.
      since: how many evaluations there were since then.
    """

    metric: str
    limit: int
    higher_is_better: bool = True
    best: float | None = None
    step: int = 0
    since: int = 0

    def resumed(self, state: dict[str, Any]) -> "Patience":
        """Continues from `state_dict()`, unless that is of another metric."""
        same = state.get("of") == self.metric
        return dataclasses.replace(self, **state["counts"]) if same else self

    def after(self, step: int, value: float) -> "Patience":
        """What follows from the evaluation at `step`."""
        if not math.isnan(value) and (self.best is None or self._improves(value, self.best)):
            return dataclasses.replace(self, best=value, step=step, since=0)
        return dataclasses.replace(self, since=self.since + 1)

    def _improves(self, value: float, best: float) -> bool:
        return value > best if self.higher_is_better else value < best

    @property
    def is_over(self) -> bool:
        """Whether the training ends."""
        return bool(self.limit) and self.since >= self.limit

    def state_dict(self) -> dict[str, Any]:
        """What to save with a checkpoint; {} without a limit."""
        counts = {"best": self.best, "step": self.step, "since": self.since}
        return {"of": self.metric, "counts": counts} if self.limit else {}

    def rule(self) -> str:
        """One line that says which checkpoint is kept, and what ends the training."""
        extreme, further = ("highest", "higher") if self.higher_is_better else ("lowest", "lower")
        line = f"the checkpoint with the {extreme} {self.metric} is kept"
        if not self.limit:
            return line
        several = f"{self.limit} evaluations in a row" if self.limit > 1 else "one evaluation"
        ends = "ends" if self.limit == 1 else "end"
        return f"{line}; {several} without a {further} one {ends} the training"

    def __str__(self) -> str:
        way = "higher" if self.higher_is_better else "lower"
        counted = f"{self.since} evaluation{'s' * (self.since != 1)}"
        line = f"{self.metric} ({way} is better) has not improved in {counted}"
        if self.best is None:
            return f"{line}, because it is not a number"
        return f"{line} since step {self.step:,}, where it was {self.best:.4g}"
