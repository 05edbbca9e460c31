"""An order that reads each row group of Parquet once in an epoch."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from forms import open_, table_of

from mixer import batch as batch_lib
from mixer import errors
from mixer.data import pipeline, sources, transforms
from mixer.data.row_group_order import RowGroups
from mixer.data.sources import blocks, grouped, parquet, row_groups, subset

BATCH = 8
ENDS = np.array([10, 13, 40, 41, 64, 90])


def order_of(window=2, lanes=1, seed=0, size=90):
    stored = np.random.default_rng(1).permutation(size)
    return RowGroups(stored, ENDS, seed, BATCH, window, lanes)


def walk(order, start, stop):
    return np.array([order[count] for count in range(start, stop)])


@pytest.mark.parametrize("window", [1, 2, 4, 99])
def test_an_epoch_has_every_example_once_and_a_window_few_groups(window):
    order = order_of(window)
    place = np.argsort(order.stored)  # of each index
    orders = set()
    for epoch in range(3):
        walked = walk(order, epoch * 90, (epoch + 1) * 90)
        np.testing.assert_array_equal(np.sort(walked), np.arange(90))
        groups = np.searchsorted(ENDS, place[walked], side="right")
        # Each group lies within one window, so groups of two windows never take turns.
        last = {group: np.flatnonzero(groups == group).max() for group in range(6)}
        first = {group: np.flatnonzero(groups == group).min() for group in range(6)}
        open_at = [sum(first[g] <= at <= last[g] for g in range(6)) for at in range(90)]
        assert max(open_at) <= window
        orders.add(tuple(walked))
    assert len(orders) == 3 and (walk(order_of(window, seed=1), 0, 90) != walked).any()
    np.testing.assert_array_equal(walk(order, 185, 200), walk(order_of(window), 185, 200))


def test_lanes_walk_their_own_shares():
    order = order_of(window=4, lanes=4)
    shares = [range(0, 22), range(22, 45), range(45, 67), range(67, 90)]
    place = np.argsort(order.stored)
    rows = place[walk(order, 0, BATCH * 12)].reshape(12, BATCH)
    for lane, share in enumerate(shares):
        walked = rows[:, 2 * lane : 2 * lane + 2].ravel()
        np.testing.assert_array_equal(np.sort(walked[: len(share)]), share)
        assert order.read_by([2 * lane]) == len(share) / 90
        neighbours = [order.after(int(order.stored[at])) for at in share]
        np.testing.assert_array_equal(place[neighbours], np.roll(share, -1))
    assert all(order.before(order.after(index)) == index for index in range(90))
    assert order.read_by(range(BATCH)) == 1


@pytest.fixture
def table(tmp_path):
    """40 and 30 images in files with row groups of 9 and 8."""
    rng = np.random.default_rng(0)
    for part, (count, each) in enumerate(((40, 9), (30, 8))):
        pixels = rng.integers(0, 256, (count, 8, 8, 3), np.uint8)
        made = table_of(pixels, rng.integers(0, 3, count))
        pq.write_table(made, tmp_path / f"train-{part}.parquet", row_group_size=each)
    return f"parquet:{tmp_path}"


def largest(source):
    return getattr(source, "whole", source).images[0].largest


@pytest.mark.parametrize("part", ["train", "train[:60%]", "fraction"])
def test_each_row_group_is_read_once_an_epoch(table, part, monkeypatch):
    source = open_(table, "train" if part == "fraction" else part)
    if part == "fraction":
        source = subset.fraction_of(source, 0.5, 3)
    monkeypatch.setattr(parquet, "GROUPS", row_groups.RowGroups())
    read = []
    real = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile,
        "read_row_group",
        lambda self, group, **k: read.append(group) or real(self, group, **k),
    )
    order = RowGroups(*grouped.row_groups(source), seed=0, batch_size=BATCH, window=2, lanes=1)
    assert order.ends[-1] == len(order.stored) == len(source)
    wrapped, ahead = blocks.in_blocks(source, order, range(BATCH))
    assert 8 <= ahead <= 18  # two of nine groups
    two_windows = 4 * largest(source)
    monkeypatch.setattr(row_groups, "HELD_BYTES", two_windows)
    rows = pipeline.Rows(
        wrapped,
        transforms.parse("resize", (8, 8)),
        order,
        seed=0,
        batch_size=BATCH,
        rows=range(BATCH),
        padding=batch_lib.padding((8, 8)),
        ahead=ahead,
    )
    steps = len(source) // BATCH
    found = [b["label"] for b in pipeline.batches(rows, start=0, stop=steps, threads=2, workers=0)]
    known = [source.every_label()[order[count]] for count in range(steps * BATCH)]
    np.testing.assert_array_equal(np.concatenate(found), known)
    # Nine groups, and what is announced of the next epoch.
    assert len(read) <= 9 + 4


def test_other_row_groups_are_other_data_only_for_their_order(table):
    """Else a run could be resumed in another order."""
    file = table.removeprefix("parquet:") + "/train-1.parquet"
    marks = []
    for _ in range(2):
        source = open_(table)
        order = RowGroups(*grouped.row_groups(source), seed=0, batch_size=BATCH, window=2, lanes=1)
        wrapped, _ = blocks.in_blocks(source, order, range(BATCH))
        marks.append((sources.fingerprint(source), sources.fingerprint(wrapped)))
        pq.write_table(pq.read_table(file), file, row_group_size=5)
    assert marks[0][0] == marks[1][0] and marks[0][1] != marks[1][1]


def test_windows_larger_than_what_is_held_are_refused(table, monkeypatch):
    source = open_(table)
    monkeypatch.setattr(grouped, "HELD_BYTES", 5 * largest(source))
    order = RowGroups(*grouped.row_groups(source), seed=0, batch_size=BATCH, window=4, lanes=2)
    with pytest.raises(errors.BadInput, match="two windows of 4 row groups.*set window=2"):
        blocks.in_blocks(source, order, range(BATCH))
    blocks.in_blocks(source, order, range(BATCH // 2))  # a host with one of the lanes
