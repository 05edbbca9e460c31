import dataclasses
from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow_datasets as tfds
from sklearn.linear_model import Ridge as SklearnRidge

from mixer.evaluation import fewshot
from mixer.evaluation.features import Features

CLASSES = 6


def blobs(count, dim, seed=0, noise=3.0):
    """Correlated features in overlapping clusters, with classes of different sizes."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((CLASSES, dim))
    mixing = np.random.default_rng(98).standard_normal((dim, dim)) / np.sqrt(dim)
    labels = rng.integers(0, CLASSES, (count, 2)).min(axis=1).astype(np.int32)
    cloud = centres[labels] + noise * rng.standard_normal((count, dim))
    return Features((5 + cloud @ mixing).astype(np.float32), labels)


def textbook(data):
    """(X with the constant feature, Y) as the protocol defines them, float64."""
    x = data.features.astype(np.float64)
    x = (x - x.mean(axis=0)) / (x.std(axis=0) + 1e-5)
    x = np.concatenate([x, np.full((len(x), 1), 100.0)], axis=1)
    return x, 2.0 * np.eye(CLASSES)[data.labels] - 1.0


# More examples than features, fewer, as many, and just more.
SHAPES = [(200, 40), (30, 80), (40, 40), (41, 40)]


@pytest.mark.parametrize("count, dim", SHAPES)
@pytest.mark.parametrize("l2", [2.0**-10, 1.0, 1024.0, 2.0**19])
def test_weights_are_those_of_a_direct_solve(count, dim, l2):
    data = blobs(count, dim)
    x, y = textbook(data)
    # The regression as plain least squares, by an orthogonal factorisation of X itself.
    stacked = np.concatenate([x, np.sqrt(l2) * np.eye(dim + 1)])
    direct = np.linalg.lstsq(stacked, np.concatenate([y, np.zeros((dim + 1, CLASSES))]))[0]
    sklearn = SklearnRidge(alpha=l2, fit_intercept=False, solver="svd").fit(x, y).coef_.T
    weights, constant = fewshot.Ridge(*data, CLASSES).weights(l2)
    for want in (direct, sklearn):
        error = np.linalg.norm(weights - want[:-1]) / np.linalg.norm(want[:-1])
        assert error < 1e-6
        np.testing.assert_allclose(constant, want[-1], rtol=1e-6)


@pytest.mark.parametrize("count, dim", SHAPES)
def test_predictions_are_the_argmax_of_the_regression(count, dim):
    data, test = blobs(count, dim), blobs(9001, dim, seed=1)  # several chunks
    x, y = textbook(data)
    mean, scale = data.features.mean(axis=0), data.features.std(axis=0) + 1e-5
    ridge = fewshot.Ridge(*data, CLASSES)
    for l2 in (0.5, 1024.0):
        weights = np.linalg.solve(x.T @ x + l2 * np.eye(dim + 1), x.T @ y)
        outputs = (test.features - mean) / scale @ weights[:-1] + 100 * weights[-1]
        assert (ridge.predict(test.features, l2) == outputs.argmax(axis=1)).mean() > 0.999


def test_a_dead_feature_and_a_missing_class_change_nothing():
    data, test = blobs(60, 10), blobs(500, 10, seed=1)
    want = fewshot.Ridge(*data, CLASSES).predict(test.features, 0.01)
    dead = fewshot.Ridge(np.pad(data.features, ((0, 0), (0, 1))), data.labels, CLASSES + 1)
    # The missing class's target is always -1, so it is never the largest.
    assert (dead.predict(np.pad(test.features, ((0, 0), (0, 1))), 0.01) == want).all()


def reference_in_float32(data, test, l2):
    """The arithmetic of the released algorithm: in float32, with the constant as a feature."""
    x, y = (jnp.asarray(part, jnp.float32) for part in (data.features, data.labels))
    mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-5

    def prepared(rows):
        return jnp.pad((rows - mean) / scale, ((0, 0), (0, 1)), constant_values=100.0)

    x, y = prepared(x), 2.0 * (y[:, None] == jnp.arange(CLASSES)) - 1.0
    if x.shape[0] >= x.shape[1]:
        eigenvalues, q = jnp.linalg.eigh(x.T @ x)
        left, right = q, q.T @ (x.T @ y)
    else:
        eigenvalues, q = jnp.linalg.eigh(x @ x.T)
        left, right = x.T @ q, q.T @ y
    outputs = prepared(jnp.asarray(test.features)) @ ((left / (eigenvalues + l2)) @ right)
    return float((np.asarray(outputs).argmax(axis=1) == test.labels).mean())


@pytest.mark.parametrize("count, dim", [(600, 64), (60, 64)])
def test_accuracy_is_that_of_the_released_algorithm(count, dim):
    data, test = blobs(count, dim), blobs(20_000, dim, seed=1)
    for l2 in (32.0, 1024.0, 2.0**15):  # below, float32 loses digits of its own
        got = (fewshot.Ridge(*data, CLASSES).predict(test.features, l2) == test.labels).mean()
        want = reference_in_float32(data, test, l2)
        assert 0.25 < got < 0.99 and abs(got - want) <= 0.001


def test_the_draw_is_big_visions():
    labels = np.random.default_rng(5).integers(0, 4, 200)
    labels[labels == 2] = 3  # a class without examples
    in_order = fewshot.by_class(labels, 4, None)
    for c, indices in enumerate(in_order):
        assert indices.tolist() == [i for i, label in enumerate(labels) if label == c]
    drawn = fewshot.by_class(labels, 4, 0)
    rng = np.random.default_rng(0)  # one for all classes, one after another
    for mine, indices in zip(drawn, in_order, strict=True):
        np.testing.assert_array_equal(mine, rng.permutation(indices))
    assert any((a != b).any() for a, b in zip(drawn, fewshot.by_class(labels, 4, 1), strict=True))


def test_the_rules():
    fixed, ranked = fewshot.RULES["fixed"], fewshot.RULES["ranked"]
    assert fixed.seeds == (0, 1, 2) and fixed.l2 == (1024,)
    assert ranked.seeds == (None,) and ranked.l2 == tuple(2.0**i for i in range(-10, 20))
    for dataset, *_ in (*fixed.datasets, *ranked.datasets):
        assert dataset.split(":")[0].split("/")[0] in tfds.list_builders(
            with_community_datasets=False
        )


def test_the_fixed_rule_is_the_mean_over_three_draws():
    train, test = blobs(300, 16), blobs(1000, 16, seed=1)
    found = fewshot.accuracies(fewshot.RULES["fixed"], (1, 5), train, test, CLASSES)
    wanted = []
    for seed in (0, 1, 2):
        few = np.concatenate([part[:5] for part in fewshot.by_class(train.labels, CLASSES, seed)])
        ridge = fewshot.Ridge(train.features[few], train.labels[few], CLASSES)
        wanted.append((ridge.predict(test.features, 1024.0) == test.labels).mean())
    assert len(set(wanted)) == 3
    metrics = fewshot.summarize(fewshot.RULES["fixed"], {"blobs": found})
    assert set(metrics) == {"blobs/1shot", "blobs/5shot"}
    assert metrics["blobs/5shot"] == pytest.approx(np.mean(wanted), abs=1e-12)


def test_the_ranked_rule_chooses_one_lambda_for_all_datasets():
    rule = fewshot.Rule(seeds=(None,), l2=(0.1, 1.0, 10.0), datasets=())
    # Ranks by hand: (2, 1, 0), (0, 1, 2), (1, 2, 0): sums 3, 4, 2.
    by_lambda = {"a": [0.9, 0.5, 0.1], "b": [0.1, 0.2, 0.3], "c": [0.5, 0.6, 0.4]}
    found = {name: {5: np.array(values)} for name, values in by_lambda.items()}
    assert fewshot.summarize(rule, found) == {
        "a/5shot": 0.5,
        "b/5shot": 0.2,
        "c/5shot": 0.6,
        "l2/5shot": 1.0,
    }
    alone = fewshot.summarize(rule, {"b": found["b"]})
    assert alone == {"b/5shot": 0.3, "l2/5shot": 10.0}


def test_the_ranked_rule_takes_the_first_examples_as_stored():
    train, test = blobs(300, 16), blobs(1000, 16, seed=1)
    rule = fewshot.RULES["ranked"]
    found = fewshot.accuracies(rule, (3,), train, test, CLASSES)
    seen, few = np.zeros(CLASSES, int), []
    for i, label in enumerate(train.labels):
        seen[label] += 1
        few += [i] if seen[label] <= 3 else []
    few = Features(train.features[few], train.labels[few])
    for place in (0, 10, 29):
        want = fewshot.Ridge(*few, CLASSES).predict(test.features, rule.l2[place])
        assert found[3][place] == (want == test.labels).mean()


def test_an_interrupted_extraction_returns_none():
    data = blobs(60, 8)
    rule = fewshot.RULES["fixed"]
    assert fewshot.accuracies(rule, (1,), data, data, CLASSES, lambda: True) is None


def test_classes_with_too_few_examples():
    labels = np.repeat(np.arange(4), [30, 24, 5, 25])
    few = partial(fewshot.with_enough, "cars", labels, 4)
    assert few((1, 5), published=False) == ((1, 5), "") == few((1, 5), published=True)
    shots, remark = few((1, 5, 10, 25), published=False)
    assert shots == (1, 5) and remark == (
        "cars: 2 of 4 classes have fewer than 25 training examples, the smallest 5: "
        "10shot, 25shot not measured"
    )
    shots, remark = few((1, 5, 10, 25), published=True)
    assert shots == (1, 5, 10, 25) and remark.endswith(
        "all of theirs are used, as in the published protocol"
    )
    # A class without any.
    assert fewshot.with_enough("x", labels, 5, (1,), published=False)[0] == ()


def test_datasets_with_different_shots_are_summarized():
    rule = dataclasses.replace(fewshot.RULES["ranked"], l2=(1.0, 2.0))
    found = {
        "a": {1: np.array([0.1, 0.3]), 5: np.array([0.6, 0.5])},
        "b": {1: np.array([0.2, 0.4])},
        "c": {},
    }
    assert fewshot.summarize(rule, found) == {
        "a/1shot": 0.3,
        "b/1shot": 0.4,
        "l2/1shot": 2.0,
        "a/5shot": 0.6,
        "l2/5shot": 1.0,
    }
    assert fewshot.summarize(rule, {"c": {}}) == {}
