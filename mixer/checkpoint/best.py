"""Which checkpoint of a run is its best one, by the metric that its JSON records."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

_LOWEST, _HIGHEST = "lowest", "highest"


class Best(NamedTuple):
    """What makes a checkpoint the best.

    Attributes:
      metric: its name, such as "val/top1"; "" for none.
      higher_is_better: whether its highest value is the best, else its lowest.
    """

    metric: str = ""
    higher_is_better: bool = True

    @classmethod
    def of(cls, meta: Mapping[str, Any]) -> "Best":
        """What the JSON of a checkpoint records."""
        return cls(meta.get("best_of", ""), meta.get("best_is") != _LOWEST)

    def recorded(self, metrics: Mapping[str, float]) -> dict[str, Any]:
        """For the JSON of a checkpoint with these metrics; {} without a metric."""
        if not self.metric:
            return {}
        way = _HIGHEST if self.higher_is_better else _LOWEST
        return {"best": metrics.get(self.metric), "best_of": self.metric, "best_is": way}

    def rank(self, meta: Mapping[str, Any]) -> float | None:
        """The best checkpoint is the one whose rank is highest; None: it has no number by this.

        Older versions of this program did not record the metric, of which higher was better.
        """
        score = meta.get("best")
        if score is None or math.isnan(score) or meta.get("best_of", self.metric) != self.metric:
            return None
        if self.higher_is_better:
            return score
        return -score if "best_of" in meta else None
