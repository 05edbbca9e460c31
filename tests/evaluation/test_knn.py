"""The vote of the nearest neighbours is scikit-learn's, on any devices and in any chunks."""

import jax
import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from mixer.evaluation import knn
from mixer.evaluation.features import Features
from mixer.training import meshes

CLASSES, TEMPERATURE = 5, 0.07


@pytest.fixture(scope="module")
def data():
    """Features of 103 training and 61 test examples, and the training labels."""
    rng = np.random.default_rng(0)
    train, test = (rng.standard_normal((n, 12)).astype(np.float32) for n in (103, 61))
    train[5] = 0  # has no direction
    return train, rng.integers(0, CLASSES, 103, np.int32), test


def sklearns(data, k):
    """The classes that scikit-learn predicts, by the same weights."""
    train, labels, test = data
    weights = lambda distance: np.exp((1 - distance) / TEMPERATURE)
    classifier = KNeighborsClassifier(k, weights=weights, algorithm="brute", metric="cosine")
    return classifier.fit(train, labels).predict(test)


def measured(data, test_labels, neighbors, devices=8, temperature=TEMPERATURE, **how):
    train, labels, test = data
    mesh = meshes.make_mesh(devices=jax.devices()[:devices])
    splits = Features(train, labels), Features(test, test_labels)
    return knn.accuracies(mesh, neighbors, temperature, *splits, CLASSES, **how)


@pytest.mark.parametrize(("devices", "chunk"), [(1, 1024), (8, 1024), (8, 7)])
def test_it_is_scikit_learns_classifier(data, devices, chunk, monkeypatch):
    monkeypatch.setattr(knn, "_MOST_AT_A_TIME", chunk)
    neighbors = (1, 7, 40)
    for k in neighbors:
        predicted = sklearns(data, k)
        found = measured(data, predicted, neighbors, devices)
        assert found.keys() == set(neighbors) and found[k] == 1
        wrong = (predicted + (np.arange(61) < 20)) % CLASSES
        assert measured(data, wrong, neighbors, devices)[k] == pytest.approx(41 / 61)


def test_weights_decide_and_no_temperature_overflows(data):
    nearest = sklearns(data, 1)
    assert (sklearns(data, 40) != nearest).any()
    assert measured(data, nearest, (40,), temperature=1e-4) == {40: 1}


def test_fewer_training_examples_than_neighbours_all_vote(data):
    train, labels, test = data
    few = train[:9], labels[:9], test
    assert measured(few, sklearns(few, 9), (9, 20)) == {9: 1, 20: 1}


def test_of_equal_classes_the_first_wins_and_a_stop_is_heard(data):
    equal = np.ones((2, 4)), np.array([[3, 1, 1, 3], [2, 2, 4, 4]])
    assert knn.vote(*equal, TEMPERATURE, CLASSES).tolist() == [1, 2]
    assert measured(data, sklearns(data, 1), (1,), interrupted=lambda: True) is None
