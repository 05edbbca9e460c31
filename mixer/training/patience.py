"""Early stopping: ends a training whose best metric has not improved for some evaluations."""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Patience:
    """How the best value of a metric stands; higher is better, and an equal one is no improvement.

    Attributes:
      metric: its name, such as "val/top1".
      limit: how many evaluations in a row may bring no improvement; 0: any number.
      best: the highest value so far; None before the first.
      step: when `best` was measured.
      since: how many evaluations there were since then.
    """

    metric: str
    limit: int
    best: float | None = None
    step: int = 0
    since: int = 0

    @classmethod
    def resumed(cls, metric: str, limit: int, state: dict[str, Any]) -> "Patience":
        """Continues from `state_dict()`, unless that is of another metric."""
        return (
            cls(metric, limit, **state["counts"])
            if state.get("of") == metric
            else cls(metric, limit)
        )

    def after(self, step: int, value: float) -> "Patience":
        """What follows from the evaluation at `step`."""
        if self.best is None or value > self.best:
            return dataclasses.replace(self, best=value, step=step, since=0)
        return dataclasses.replace(self, since=self.since + 1)

    @property
    def is_over(self) -> bool:
        """Whether the training ends."""
        return bool(self.limit) and self.since >= self.limit

    def state_dict(self) -> dict[str, Any]:
        """What to save with a checkpoint; {} without a limit."""
        counts = {"best": self.best, "step": self.step, "since": self.since}
        return {"of": self.metric, "counts": counts} if self.limit else {}

    def __str__(self) -> str:
        several = "s" * (self.since != 1)
        return (
            f"{self.metric} has not improved in {self.since} evaluation{several} since step "
            f"{self.step:,}, where it was {self.best:.4f}"
        )
