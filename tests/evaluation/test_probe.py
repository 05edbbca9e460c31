import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mixer import errors
from mixer.evaluation import probe
from mixer.evaluation.features import Features
from mixer.training import meshes


@pytest.fixture(scope="module")
def digits():
    """Features [301, 64] of different scales with their labels, and 500 more to test on."""
    found = load_digits()
    x, y = (found.data * np.geomspace(0.01, 100, 64)).astype(np.float32), found.target
    return Features(x[:301], y[:301].astype(np.int32)), x[301:801]


@pytest.fixture(scope="module")
def problem(digits):
    return probe.Problem.of(digits[0], 10, meshes.make_mesh())


@pytest.mark.parametrize("l2", [1.0, 100.0])
def test_it_is_scikit_learn_s_logistic_regression(l2, digits, problem):
    train, x = digits
    theirs = make_pipeline(StandardScaler(), LogisticRegression(C=1 / l2, tol=1e-7, max_iter=9999))
    theirs.fit(*train)
    fit = problem.fit(l2, problem.rows)
    assert fit.slope <= probe.TOLERANCE
    head, scale = problem.head(fit), np.abs(theirs[-1].coef_).max()
    np.testing.assert_allclose(fit.weights["kernel"], theirs[-1].coef_.T, atol=0.01 * scale)
    logits = x @ head.kernel + head.bias
    assert (logits.argmax(1) == theirs.predict(x)).mean() >= 0.998
    probabilities = np.exp(logits - logits.max(1, keepdims=True))
    probabilities /= probabilities.sum(1, keepdims=True)
    np.testing.assert_allclose(probabilities, theirs.predict_proba(x), atol=0.02)


def test_the_start_and_rows_that_are_left_out_do_not_change_the_optimum(digits, problem):
    few = problem.rows & ~problem.held_out
    other = problem.fit(1.0, problem.rows)
    first, again = problem.fit(10.0, few), problem.fit(10.0, few, other)
    np.testing.assert_allclose(first.weights["kernel"], again.weights["kernel"], atol=2e-3)
    keep = ~problem.held_out[:301]
    z, labels = np.asarray(problem.z)[:301][keep], digits[0].labels[keep]
    theirs = LogisticRegression(C=0.1, tol=1e-7, max_iter=9999).fit(z, labels)
    np.testing.assert_allclose(first.weights["kernel"], theirs.coef_.T, atol=2e-3)


def test_every_fifth_image_of_each_class_is_held_out(digits, problem):
    labels = digits[0].labels
    held_out = problem.held_out[:301]
    assert not problem.held_out[301:].any() and len(problem.held_out) % 8 == 0
    counts, kept = np.bincount(labels), np.bincount(labels[held_out])
    np.testing.assert_array_equal(kept, counts // 5)
    first = np.flatnonzero(labels == 7)[:5]
    np.testing.assert_array_equal(held_out[first], [False] * 4 + [True])


def test_the_l2_with_the_least_nll_on_the_images_held_out_is_chosen(digits):
    train, seen, values = digits[0], {}, (1e6, 10.0, 1e-3)
    noise = np.random.default_rng(0).standard_normal(train.features.shape)
    noisy = train.features + 3 * noise * train.features.std(axis=0)
    noisy = Features(noisy.astype(np.float32), train.labels)
    problem = probe.Problem.of(noisy, 10, meshes.make_mesh())
    report = lambda l2, fit, nll, top1: seen.update({l2: nll})
    assert probe.choose(problem, values, report) == min(seen, key=seen.get) == 10.0
    assert list(seen) == [1e6, 10.0, 1e-3]
    fit = problem.fit(10.0, problem.rows & ~problem.held_out)
    nll, _ = problem.measure(fit, problem.held_out)
    assert seen[10.0] == pytest.approx(nll, abs=1e-3)
    assert probe.choose(problem, (3.0,), report) == 3.0
    assert probe.choose(problem, values, report, lambda: True) is None
    four = Features(np.eye(4, dtype=np.float32), np.arange(4, dtype=np.int32))
    with pytest.raises(errors.BadInput, match="too few images"):
        probe.choose(probe.Problem.of(four, 4, meshes.make_mesh()), values, report)
