import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import log_loss, top_k_accuracy_score

from mixer.evaluation.classification import Classification
from mixer.evaluation.registry import evaluate

CLASSES = 12


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
