import jax
import numpy as np
import pytest
from sklearn.metrics import log_loss, mean_absolute_error, mean_squared_error, r2_score

from mixer.evaluation.answers import extract
from mixer.evaluation.classification import Classification
from mixer.evaluation.multilabel import MultiLabel
from mixer.evaluation.registry import evaluate
from mixer.evaluation.regression import Numbers, Regression, Sums

COUNT, SIZE = 53, 16


def batches(outputs, labels, size=SIZE):
    """The outputs stand in for the images; the padding would be far off."""
    pad = -len(outputs) % size
    outputs = np.concatenate([outputs, np.full((pad, outputs.shape[1]), 1e6, np.float32)])
    labels = np.concatenate([labels, np.zeros((pad, labels.shape[1]), np.float32)])
    mask = np.arange(len(outputs)) < len(outputs) - pad
    for first in range(0, len(outputs), size):
        rows = slice(first, first + size)
        yield {"image": outputs[rows], "label": labels[rows], "mask": mask[rows]}


def measure(evaluator, made):
    with jax.numpy_dtype_promotion("strict"):
        return evaluate(evaluator, jax.jit(evaluator.update), {}, made)


def regression(count, names=()):
    return Regression(lambda params, images: images, count).named(names)


@pytest.fixture(scope="module")
def case():
    """Targets far from 0, one of them with little spread, and predictions of them."""
    rng = np.random.default_rng(0)
    spread = np.array([0.3, 20.0, 1e-2])
    targets = np.array([1.0, 1990.0, -5.0]) + spread * rng.standard_normal((COUNT, 3))
    outputs = targets + spread * np.array([0.1, 0.7, 2.0]) * rng.standard_normal((COUNT, 3))
    return outputs.astype(np.float32), targets.astype(np.float32)


@pytest.mark.parametrize("size", [1, 16, 64])
def test_against_scikit_learn_whatever_the_batch_size(case, size):
    outputs, targets = case
    got = measure(regression(3, ("a", "b", "c")), batches(*case, size))
    for name, function in (
        ("mse", mean_squared_error),
        ("mae", mean_absolute_error),
        ("r2", r2_score),
    ):
        of_each = function(targets, outputs, multioutput="raw_values")
        assert got[name] == pytest.approx(of_each.mean(), rel=1e-4)
        for k, output in enumerate("abc"):
            assert got[f"{name}/{output}"] == pytest.approx(of_each[k], rel=1e-3, abs=1e-4)


def test_sharded_batches_give_the_same_metrics(case):
    mesh = jax.make_mesh((8,), ("data",), (jax.sharding.AxisType.Auto,))
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    spread = measure(regression(3), (jax.device_put(b, place) for b in batches(*case)))
    assert spread == pytest.approx(measure(regression(3), batches(*case)), rel=1e-4)
    assert set(spread) == {"mse", "mae", "r2"}


def test_every_image_is_answered_once_and_in_order(case):
    evaluator = regression(3)
    sums, found = extract(jax.jit(evaluator.answer), {}, batches(*case), evaluator.answers)
    assert isinstance(found, Numbers) and found.index.tolist() == list(range(COUNT))
    np.testing.assert_array_equal(found.target, case[1])
    np.testing.assert_array_equal(found.predicted, case[0])
    assert evaluator.summarize(sums)["mse"] == pytest.approx(
        np.square(found.predicted - found.target).mean(), rel=1e-5
    )


@pytest.mark.parametrize("size", [16, 70])
@pytest.mark.parametrize("value", [3.0, 0.1, -1e-3, 1999.9])
def test_equal_targets_have_no_spread_left_by_rounding(value, size):
    rng = np.random.default_rng(0)
    targets = np.full((70, 1), value, np.float32)
    outputs = targets + rng.standard_normal((70, 1)).astype(np.float32)
    got = measure(regression(1), batches(outputs, targets, size))
    assert got["r2"] == 0


def test_r2_of_a_constant_is_scikit_learns():
    constant = np.full((4, 2), 3.0, np.float32)
    outputs = constant + np.array([0, 1], np.float32)
    found = Sums.of(outputs, constant, np.ones(4, bool)).compute()["r2"]
    assert found.tolist() == r2_score(constant, outputs, multioutput="raw_values").tolist()


@pytest.fixture(scope="module")
def soft():
    """Logits [N, 5] and distributions over 5 classes."""
    rng = np.random.default_rng(1)
    logits = 2 * rng.standard_normal((COUNT, 5)).astype(np.float32)
    return logits, rng.dirichlet(np.ones(5), COUNT).astype(np.float32)


def test_classification_of_distributions(soft):
    logits, targets = soft
    evaluator = Classification(lambda params, images: images, 5)
    got = measure(evaluator, batches(*soft))
    p = np.exp(logits.astype(np.float64))
    p /= p.sum(1, keepdims=True)
    assert got["top1"] == pytest.approx((logits.argmax(1) == targets.argmax(1)).mean())
    assert got["nll"] == pytest.approx(-(targets * np.log(p)).sum(1).mean(), rel=1e-5)
    # The cross-entropy with a distribution is the mean over labels that are drawn from it.
    every = np.repeat(np.arange(5)[None], COUNT, 0).ravel()
    expected = log_loss(every, p.repeat(5, 0), sample_weight=targets.ravel(), labels=range(5))
    assert got["nll"] == pytest.approx(expected, rel=1e-4)
    _, answers = extract(jax.jit(evaluator.answer), {}, batches(*soft))
    np.testing.assert_array_equal(answers.label, targets.argmax(1))


def test_one_hot_vectors_are_measured_as_their_classes(soft):
    logits, targets = soft
    classes = targets.argmax(1).astype(np.int32)
    for factory in (Classification, MultiLabel):
        evaluator = factory(lambda params, images: images, 5)
        as_classes = (
            b | {"label": c} for b, c in zip(batches(*soft), chunks(classes), strict=True)
        )
        hot = np.eye(5, dtype=np.float32)[classes]
        got = measure(evaluator, batches(logits, hot))
        assert got == pytest.approx(measure(evaluator, as_classes), rel=1e-6)


def chunks(classes):
    padded = np.concatenate([classes, np.full(-len(classes) % SIZE, -1, np.int32)])
    return padded.reshape(-1, SIZE)


def test_multilabel_of_probabilities(soft):
    logits, targets = soft
    targets = targets / targets.max(1, keepdims=True)  # the largest is 1
    targets[3, :] = 1  # every guess is right
    targets[4, :] = 0  # no class: the row counts in the loss, but no guess can be right
    evaluator = MultiLabel(lambda params, images: images, 5)
    got = measure(evaluator, batches(logits, targets))
    counts = np.arange(COUNT) != 4
    best = targets[np.arange(COUNT), logits.argmax(1)] == 1
    assert best[3] and got["top1"] == pytest.approx(best[counts].mean())
    p = 1 / (1 + np.exp(-logits.astype(np.float64)))
    loss = -(targets * np.log(p) + (1 - targets) * np.log1p(-p)).sum(1)
    assert got["loss"] == pytest.approx(loss.mean(), rel=1e-5)
