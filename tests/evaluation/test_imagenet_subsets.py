"""ImageNet-A and -R."""

import hashlib

import numpy as np
import pytest
import tfds_stand_ins as stand_ins

from mixer import errors
from mixer.evaluation.imagenet_subsets import CLASSES
from mixer.evaluation.registry import EVALUATORS, evaluate

IMAGENET = stand_ins.builder_of("imagenet2012").info.features["label"]
# Of the WordNet numbers in the authors' own evaluation code, sorted, separated by a space.
DIGESTS = {"imagenet_a": "ff8c384504d3ec59", "imagenet_r": "354baa0a46566aa6"}


@pytest.mark.parametrize("name", CLASSES)
def test_the_classes_are_the_authors(name):
    wnids = [IMAGENET.names[i] for i in CLASSES[name]]
    assert len(set(wnids)) == 200 and wnids == sorted(wnids)
    assert hashlib.sha256(" ".join(wnids).encode()).hexdigest().startswith(DIGESTS[name])


@pytest.mark.parametrize("name", ["imagenet_v2", "imagenet_a", "imagenet_r", "imagenet_sketch"])
def test_tfds_labels_them_as_it_labels_imagenet(name):
    assert stand_ins.builder_of(name).info.features["label"].names == IMAGENET.names


@pytest.mark.parametrize("name", CLASSES)
def test_only_classes_of_the_subset_are_predicted(name):
    rng = np.random.default_rng(0)
    subset = CLASSES[name]
    labels = rng.choice(subset, 64).astype(np.int32)
    logits = rng.standard_normal((64, 1000)).astype(np.float32)
    logits[np.arange(32), labels[:32]] += 3
    outside = np.setdiff1d(np.arange(1000), subset)
    logits[:, outside] += 10  # what it may not say, it would
    batch = {"image": logits, "label": labels, "mask": np.ones(64, bool)}
    evaluator = EVALUATORS[name](lambda params, images: images, 1000)
    got = evaluate(evaluator, evaluator.update, {}, [batch])
    inside = logits[:, subset].astype(np.float64)
    target = np.searchsorted(subset, labels)
    log_p = inside - np.log(np.exp(inside).sum(axis=1, keepdims=True))
    assert got["top1"] == (inside.argmax(axis=1) == target).mean() > 0
    assert got["top5"] == (np.argsort(-inside)[:, :5] == target[:, None]).any(axis=1).mean()
    assert got["nll"] == pytest.approx(-log_p[np.arange(64), target].mean(), rel=1e-5)
    with pytest.raises(errors.BadInput, match=f"{name}.* 1,000 classes, but the model has 10"):
        EVALUATORS[name](lambda params, images: images, 10)
