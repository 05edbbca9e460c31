"""Averages of models, against NumPy and against the recipe of the paper written out again."""

import numpy as np
import pytest

from mixer.weights import soup


def models(count, seed=0):
    rng = np.random.default_rng(seed)
    draw = lambda shape: rng.standard_normal(shape).astype(np.float32)
    return [{"a": {"kernel": draw((3, 2))}, "bias": draw(4)} for _ in range(count)]


def test_a_uniform_soup_is_the_mean():
    several = models(5)
    found = soup.uniform(several)
    for of in (lambda tree: tree["a"]["kernel"], lambda tree: tree["bias"]):
        expected = sum(of(tree).astype(np.float64) for tree in several) / 5
        np.testing.assert_array_equal(of(found), expected.astype(np.float32))
        assert of(found).dtype == np.float32
    one = soup.uniform(several[:1])
    np.testing.assert_array_equal(one["bias"], several[0]["bias"])


@pytest.mark.parametrize("seed", range(4))
def test_a_greedy_soup_takes_what_does_not_lower_its_score(seed):
    several, wanted = models(6, seed), models(1, seed + 99)[0]["bias"]
    measure = lambda tree: -float(np.abs(tree["bias"] - wanted).sum().round(1))
    scores = [measure(tree) for tree in several]
    found = soup.greedy(several, scores, measure)
    # Recipe 1: for each model from the best on, keep it if the average's score does not fall.
    kept = []
    for i in np.argsort([-score for score in scores], kind="stable").tolist():
        mean = lambda of: np.mean([several[j]["bias"] for j in of], axis=0, dtype=np.float64)
        now = measure({"bias": mean(kept).astype(np.float32)}) if kept else -np.inf
        if measure({"bias": mean([*kept, i]).astype(np.float32)}) >= now:
            kept.append(i)
    assert found.kept == tuple(kept) and found.score >= max(scores)
    assert found.score == measure(found.params)
    # By a loss it is the same soup as by its negative.
    loss = lambda tree: -measure(tree)
    fell = soup.greedy(several, [-score for score in scores], loss, higher_is_better=False)
    assert (fell.kept, fell.score) == (found.kept, -found.score)


def test_a_model_that_changes_nothing_is_taken_and_one_that_harms_is_not():
    good, bad = {"x": np.ones(2, np.float32)}, {"x": np.full(2, 9, np.float32)}
    measure = lambda tree: -float(tree["x"][0])
    found = soup.greedy([bad, good, good], [-9.0, -1.0, -1.0], measure)
    assert found.kept == (1, 2) and found.score == -1.0
