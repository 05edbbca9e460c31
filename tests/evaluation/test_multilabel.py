import jax
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score

from mixer import errors
from mixer.evaluation.multilabel import MultiLabel, ranking
from mixer.evaluation.registry import evaluate

CLASSES, MOST, BATCH = 12, 4, 16


def batches(logits, label):
    """The logits stand in for the images. The last batch is padded with rows that would be hits."""
    pad = -len(logits) % BATCH
    logits = np.concatenate([logits, np.ones((pad, CLASSES), np.float32)])
    label = np.concatenate([label, np.zeros((pad, *label.shape[1:]), label.dtype)])
    mask = np.arange(len(logits)) < len(logits) - pad
    for first in range(0, len(logits), BATCH):
        rows = slice(first, first + BATCH)
        yield {"image": logits[rows], "label": label[rows], "mask": mask[rows]}


def measure(logits, label, devices=1):
    mesh = jax.make_mesh((devices,), ("data",), (jax.sharding.AxisType.Auto,))
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    evaluator = MultiLabel(lambda params, images: images, CLASSES)
    made = (jax.device_put(batch, place) for batch in batches(logits, label))
    with jax.numpy_dtype_promotion("strict"):
        return evaluate(evaluator, jax.jit(evaluator.update), {}, made)


def by_hand(logits, sets):
    """Metrics row by row: whether its best class is in the set, and the loss of the set."""
    right = loss = rows = 0
    for row, classes in zip(logits.astype(np.float64), sets, strict=True):
        if classes:
            rows += 1
            right += int(row.argmax()) in classes
            for k, logit in enumerate(row):
                loss += np.log1p(np.exp(-logit if k in classes else logit))
    return {"top1": right / rows, "loss": loss / rows}


def random_labels(rng, count):
    """int32 [count, 4] with empty rows, duplicates, and -1 between the labels; and the sets."""
    label = rng.integers(-4, CLASSES, (count, MOST)).clip(-1).astype(np.int32)
    label[5], label[11] = -1, [3, 3, -1, 3]
    return label, [set(row.tolist()) - {-1} for row in label]


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("count", [16, 103])
def test_against_a_loop_over_rows(devices, count):
    rng = np.random.default_rng(count)
    label, sets = random_labels(rng, count)
    logits = (3 * rng.standard_normal((count, CLASSES))).astype(np.float32)
    assert min(map(len, sets)) == 0 and 0 < by_hand(logits, sets)["top1"] < 1
    assert measure(logits, label, devices) == pytest.approx(by_hand(logits, sets), rel=1e-5)


def test_one_label_per_image_is_a_set_of_one():
    rng = np.random.default_rng(0)
    label = rng.integers(0, CLASSES, 50).astype(np.int32)
    logits = rng.standard_normal((50, CLASSES)).astype(np.float32)
    got = measure(logits, label)
    assert got == pytest.approx(by_hand(logits, [{int(k)} for k in label]), rel=1e-5)
    assert got["top1"] == pytest.approx((logits.argmax(1) == label).mean())


def test_images_without_any_label_are_refused():
    with pytest.raises(errors.Failure, match="none of the evaluation images"):
        measure(np.zeros((20, CLASSES), np.float32), np.full((20, MOST), -1, np.int32))


def test_of_vectors_a_row_of_zeros_is_an_image_of_no_class():
    """The loss is scikit-learn's over all rows; precision@1 is of those with a class."""
    rng = np.random.default_rng(0)
    targets = (rng.random((50, CLASSES)) < 0.1).astype(np.float32)
    logits = rng.standard_normal((50, CLASSES)).astype(np.float32)
    some = targets.any(axis=1)
    assert 0 < some.sum() < 50
    flat = 1 / (1 + np.exp(-logits.astype(np.float64))).ravel()
    got = measure(logits, targets)
    assert got["loss"] == pytest.approx(CLASSES * log_loss(targets.ravel(), flat), rel=1e-5)
    right = targets[np.arange(50), logits.argmax(axis=1)][some]
    assert got["top1"] == pytest.approx(right.mean())


@pytest.mark.parametrize("levels", [3, 1000])
def test_a_class_is_ranked_as_in_scikit_learn(levels):
    """With 3 levels many probabilities are equal."""
    rng = np.random.default_rng(levels)
    positive = rng.random(60) < 0.3
    probability = (rng.integers(0, levels, 60) / levels).astype(np.float32)
    want = average_precision_score(positive, probability), roc_auc_score(positive, probability)
    assert ranking(positive, probability) == pytest.approx(want)


def test_a_class_that_no_image_or_every_image_has_is_not_ranked():
    probability = np.linspace(0, 1, 5, dtype=np.float32)
    assert np.isnan(ranking(np.zeros(5, bool), probability)).all()
    precision, area = ranking(np.ones(5, bool), probability)
    assert precision == 1 and np.isnan(area)


def test_many_classes_have_no_row_for_each_image():
    assert MultiLabel(None, 100).answer and not MultiLabel(None, 101).answer
