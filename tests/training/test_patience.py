import json

import numpy as np
import pytest

from mixer.training.patience import Patience


def ends_at(values, limit):
    """The evaluation after which none of the last `limit` was above all before; None if never."""
    for n in range(1, len(values) + 1):
        seen = values[:n]
        if n > limit and max(seen[-limit:]) <= max(seen[:-limit]):
            return n
    return None


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_it_is_over_once_so_many_evaluations_brought_no_better_value(limit):
    rng = np.random.default_rng(limit)
    ends = set()
    for _ in range(50):
        values = rng.integers(0, 6, 12).astype(float).tolist()
        kept, ended = Patience("val/top1", limit), None
        for number, value in enumerate(values, 1):
            kept = kept.after(10 * number, value)
            # As a checkpoint keeps it.
            kept = Patience.resumed("val/top1", limit, json.loads(json.dumps(kept.state_dict())))
            if kept.is_over:
                ended = number
                break
        assert ended == ends_at(values, limit)
        seen = values[: ended or len(values)]
        assert (kept.best, kept.step) == (max(seen), 10 * (seen.index(max(seen)) + 1))
        ends.add(ended)
    assert len(ends) > 2


def test_without_a_limit_it_is_never_over_and_another_metric_begins_anew():
    kept = Patience("val/top1", 0)
    for step in range(9):
        kept = kept.after(step, 0.5)
    assert not kept.is_over and kept.state_dict() == {}
    state = Patience("val/top1", 1).after(1, 0.9).after(2, 0.8).state_dict()
    assert Patience.resumed("val/top1", 1, state).is_over
    assert Patience.resumed("test/top1", 1, state) == Patience("test/top1", 1)
