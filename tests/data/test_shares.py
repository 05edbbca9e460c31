"""Orders in which classes or data sets come in fixed shares."""

import numpy as np
import pytest

from mixer.data.order import Full
from mixer.data.shares import ByClass, Mixed

LABELS = np.array([2, 0, 2, 2, 5, 0, 2, 5, 2])  # five of class 2, two of 0, two of 5


def walk(order, start, stop):
    return np.array([order[count] for count in range(start, stop)])


def test_each_class_comes_once_in_every_round_and_each_example_once_in_every_pass():
    order = ByClass(LABELS, seed=1)
    walked = walk(order, 0, 3 * 20)
    rounds = LABELS[walked].reshape(20, 3)
    np.testing.assert_array_equal(np.sort(rounds), [[0, 2, 5]] * 20)
    assert len({tuple(some) for some in rounds}) > 3  # in an order of its own
    for label, size in ((0, 2), (2, 5), (5, 2)):
        own = walked[LABELS[walked] == label]
        passes = np.sort(own.reshape(-1, size))
        np.testing.assert_array_equal(passes, [np.flatnonzero(label == LABELS)] * len(passes))
    assert order.first_pass == 15 and set(walk(order, 0, 15)) == set(range(9))
    assert (walk(ByClass(LABELS, seed=2), 0, 60) != walked).any()


def test_an_unreadable_example_is_replaced_by_one_of_its_class():
    order = ByClass(LABELS, seed=1)
    for index in range(9):
        assert LABELS[order.after(index)] == LABELS[index]
        assert order.before(order.after(index)) == index
    assert [order.after(index) for index in (0, 2, 3, 6, 8)] == [2, 3, 6, 8, 0]


@pytest.mark.parametrize("counts", [(7, 3), (1, 1), (1, 98, 1)])
def test_shares_are_exact_and_each_data_set_is_walked_as_if_alone(counts):
    sizes, window = (900, 500, 700)[: len(counts)], sum(counts)
    orders = [Full(size, seed) for seed, size in enumerate(sizes)]
    order = Mixed(orders, sizes, counts, seed=3)
    ends = np.cumsum(sizes)
    walked = walk(order, 0, 300 // window * window)
    part = np.searchsorted(ends, walked, side="right")
    for own, count in enumerate(counts):
        assert ((part == own).reshape(-1, window).sum(1) == count).all()
        found = walked[part == own] - (ends[own] - sizes[own])
        # A window has a permutation of what the data set's own order has next.
        alone = walk(orders[own], 0, len(found)).reshape(-1, count)
        np.testing.assert_array_equal(np.sort(found.reshape(-1, count)), np.sort(alone))
    assert len({tuple(some) for some in part.reshape(-1, window)}) > 1
    np.testing.assert_array_equal(walk(order, 17, 40), walked[17:40])
    assert all(order.before(order.after(i)) == i for i in range(sum(sizes)))
    assert order.after(ends[0] - 1) == 0


def test_the_first_pass_has_every_example_of_every_data_set():
    order = Mixed([Full(600, 0), Full(400, 1)], (600, 400), (2, 1), seed=3)
    assert order.first_pass == 1200 and set(walk(order, 0, 1200)) == set(range(1000))
