import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, log_loss, top_k_accuracy_score

from mixer.evaluation.answers import confusion, extract, reliability
from mixer.evaluation.classification import Classification
from mixer.evaluation.registry import evaluate

CLASSES = 12
IMAGES = 103


def batches(logits, labels, size):
    """The logits stand in for the images: the fake model returns its input."""
    count = -(-len(labels) // size)
    pad = count * size - len(labels)
    logits = np.concatenate([logits, np.full((pad, logits.shape[1]), 9.0, np.float32)])
    labels = np.concatenate([labels, np.full(pad, -1, np.int32)])
    mask = np.arange(count * size) < count * size - pad
    for i in range(count):
        rows = slice(i * size, (i + 1) * size)
        yield {"image": logits[rows], "label": labels[rows], "mask": mask[rows]}


def measure(logits, labels, size=16, **kwargs):
    evaluator = Classification(lambda params, images: images, logits.shape[1])
    made = batches(logits.astype(np.float32), labels.astype(np.int32), size)
    with jax.numpy_dtype_promotion("strict"):
        return evaluate(evaluator, jax.jit(evaluator.update), {}, made, **kwargs)


def numpy_ece(probabilities, labels, bins=15):
    confidence, hit = probabilities.max(1), probabilities.argmax(1) == labels
    total = 0.0
    for i in range(bins):
        inside = (confidence > i / bins) & (confidence <= (i + 1) / bins)
        if inside.any():
            total += inside.sum() * abs(hit[inside].mean() - confidence[inside].mean())
    return total / len(labels)


@pytest.mark.parametrize("size", [1, 16, 103, 200])
def test_against_scikit_learn_whatever_the_batch_size(size):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, 103)
    logits = rng.standard_normal((103, CLASSES)) * 2 + 3 * np.eye(CLASSES)[labels]
    got = measure(logits, labels, size)
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    every = np.arange(CLASSES)
    assert got["top1"] == pytest.approx((logits.argmax(1) == labels).mean())
    assert got["top5"] == pytest.approx(top_k_accuracy_score(labels, logits, k=5, labels=every))
    assert got["nll"] == pytest.approx(log_loss(labels, probabilities, labels=every), rel=1e-5)
    assert got["ece"] == pytest.approx(numpy_ece(probabilities, labels), rel=1e-4)


def test_fewer_than_five_classes():
    got = measure(np.eye(3), np.array([0, 1, 0]))
    assert got["top1"] == pytest.approx(2 / 3) and got["top5"] == 1.0


def test_a_confident_and_correct_model_is_calibrated():
    got = measure(40 * np.eye(CLASSES), np.arange(CLASSES))
    assert got["top1"] == 1 and got["nll"] == pytest.approx(0) and got["ece"] == pytest.approx(0)


def test_an_interrupted_evaluation_returns_none():
    assert measure(np.eye(CLASSES), np.arange(CLASSES), 4, interrupted=lambda: True) is None


def test_sharded_batches_give_the_same_metrics():
    rng = np.random.default_rng(1)
    logits, labels = rng.standard_normal((50, CLASSES)), rng.integers(0, CLASSES, 50)
    plain = measure(logits, labels)
    mesh = jax.make_mesh((8,), ("data",), (jax.sharding.AxisType.Auto,))
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    evaluator = Classification(lambda params, images: images, CLASSES)
    made = (jax.device_put(b, place) for b in batches(jnp.float32(logits), jnp.int32(labels), 16))
    spread = evaluate(evaluator, jax.jit(evaluator.update), {}, made)
    assert spread == pytest.approx(plain, rel=1e-5)


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, CLASSES, IMAGES).astype(np.int32)
    logits = rng.standard_normal((IMAGES, CLASSES)) * 2 + 3 * np.eye(CLASSES)[labels]
    return logits.astype(np.float32), labels


@pytest.fixture(scope="module")
def measured(case):
    evaluator = Classification(lambda params, images: images, CLASSES)
    total, answers = extract(jax.jit(evaluator.answer), {}, batches(*case, 16))
    return evaluator.summarize(total), answers


def test_every_image_is_answered_once_and_in_order(case, measured):
    logits, labels = case
    _, answers = measured
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    best = np.argsort(-logits, axis=1)[:, :5]
    assert answers.index.tolist() == list(range(IMAGES))
    np.testing.assert_array_equal(answers.label, labels)
    np.testing.assert_array_equal(answers.predicted, best)
    expected = np.take_along_axis(probabilities, best, axis=1)
    np.testing.assert_allclose(answers.probability, expected, rtol=1e-5)
    np.testing.assert_allclose(answers.of_label, probabilities[range(IMAGES), labels], rtol=1e-5)


def test_an_image_that_was_left_out_keeps_its_number_for_itself(case):
    def with_a_gap():
        for step, batch in enumerate(batches(*case, 16)):
            mask = batch["mask"].copy()
            mask[5] &= step != 2
            yield batch | {"mask": mask}

    evaluator = Classification(lambda params, images: images, CLASSES)
    _, answers = extract(jax.jit(evaluator.answer), {}, with_a_gap())
    assert answers.index.tolist() == [i for i in range(IMAGES) if i != 37]
    np.testing.assert_array_equal(answers.label, case[1][answers.index])


def test_the_metrics_are_those_of_the_answers(measured):
    metrics, answers = measured
    assert metrics["top1"] == pytest.approx(answers.right.mean())
    assert metrics["nll"] == pytest.approx(-np.log(answers.of_label).mean(), rel=1e-5)
    count, confidence, accuracy = reliability(answers)
    gaps = np.nansum(count * np.abs(accuracy - confidence))
    assert metrics["ece"] == pytest.approx(gaps / count.sum(), rel=1e-4) and count.sum() == IMAGES


def test_confusion_is_scikit_learns(case, measured):
    _, answers = measured
    pairs, times = confusion(answers)
    matrix = np.zeros((CLASSES, CLASSES), int)
    matrix[tuple(pairs.T)] = times
    predicted = case[0].argmax(1)
    np.testing.assert_array_equal(
        matrix, confusion_matrix(case[1], predicted, labels=range(CLASSES))
    )
    wrong = pairs[:, 0] != pairs[:, 1]
    number = wrong.sum()
    assert wrong[:number].all() and (np.diff(times[:number]) <= 0).all() and number > 3
