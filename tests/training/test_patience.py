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


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("limit", [1, 2, 3])
def test_it_is_over_once_so_many_evaluations_brought_no_better_value(limit, sign):
    """A metric that is better when lower ends the training where its negative would."""
    rng = np.random.default_rng(limit)
    ends, begun = set(), Patience("val/x", limit, higher_is_better=sign > 0)
    for _ in range(50):
        values = rng.integers(0, 6, 12).astype(float).tolist()
        kept, ended = begun, None
        for number, value in enumerate(values, 1):
            kept = kept.after(10 * number, sign * value)
            # As a checkpoint keeps it.
            kept = begun.resumed(json.loads(json.dumps(kept.state_dict())))
            if kept.is_over:
                ended = number
                break
        assert ended == ends_at(values, limit)
        seen = values[: ended or len(values)]
        assert (kept.best, kept.step) == (sign * max(seen), 10 * (seen.index(max(seen)) + 1))
        ends.add(ended)
    assert len(ends) > 2


def test_without_a_limit_it_is_never_over_and_another_metric_begins_anew():
    kept = Patience("val/top1", 0)
    for step in range(9):
        kept = kept.after(step, 0.5)
    assert not kept.is_over and kept.state_dict() == {}
    state = Patience("val/top1", 1).after(1, 0.9).after(2, 0.8).state_dict()
    assert Patience("val/top1", 1).resumed(state).is_over
    other = Patience("val/nll", 1, higher_is_better=False)
    assert other.resumed(state) == other.resumed({}) == other


@pytest.mark.parametrize("higher", [True, False])
def test_what_is_not_a_number_is_no_improvement(higher):
    begun = Patience("val/x", 2, higher_is_better=higher)
    over = begun.after(1, np.nan).after(2, np.nan)
    assert over.is_over and str(over).endswith("in 2 evaluations, because it is not a number")
    kept = begun.after(1, np.nan).after(2, 0.5).after(3, np.nan)
    assert (kept.best, kept.step, kept.since) == (0.5, 2, 1)


def test_the_direction_is_said():
    falling = Patience("val/nll", 2, higher_is_better=False)
    assert falling.rule() == (
        "the checkpoint with the lowest val/nll is kept; "
        "2 evaluations in a row without a lower one end the training"
    )
    ended = falling.after(10, 0.5).after(20, 0.6).after(30, 0.5)
    assert str(ended) == (
        "val/nll (lower is better) has not improved in 2 evaluations since step 10, "
        "where it was 0.5"
    )
    assert Patience("val/top1", 0).rule() == "the checkpoint with the highest val/top1 is kept"
