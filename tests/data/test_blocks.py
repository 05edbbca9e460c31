import pickle
import time

import numpy as np
import pytest

from mixer import batch as batch_lib
from mixer.data import order, pipeline, sources, transforms
from mixer.data.sources import blocks

REMOTE = "gs://bucket/data"


def rows(data_dir, shuffle="blocks(size=16, window=4)", batch_size=32, split="train", own=None):
    source = sources.open_source("noise", split, data_dir)
    made = shuffle and order.parse(shuffle, examples=len(source), seed=5, batch_size=batch_size)
    own = range(batch_size) if own is None else own
    source, ahead = blocks.in_blocks(source, made or None, own)
    padding = batch_lib.padding((9, 8))
    transform = transforms.parse("resize|flip_lr", (9, 8))
    return pipeline.Rows(source, transform, made or None, 5, batch_size, own, padding, ahead=ahead)


def batches(made, stop=12, threads=4, workers=0):
    got = list(pipeline.batches(made, start=0, stop=stop, threads=threads, workers=workers))
    got = [{key: np.array(value) for key, value in batch.items()} for batch in got]
    if isinstance(made.source, blocks.BlockSource):
        made.source.close()
    return got


def assert_same(first, second):
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])


@pytest.mark.parametrize("shuffle", ["full", "blocks(size=16, window=4)", ""])
@pytest.mark.parametrize("split", ["train", "train[30:200]+test"])
def test_a_faulty_store_returns_the_same_as_the_disk(noise_dir, server, shuffle, split):
    faults = {3: "status", 5: "cut", 8: "damage", 11: 429, 12: 500, 14: "cut"}
    server.fail = faults.get
    remote = batches(rows(REMOTE, shuffle, split=split), stop=6)
    assert server.asked() > max(faults) - 2 or not shuffle
    assert_same(remote, batches(rows(noise_dir, shuffle, split=split), stop=6))


def test_an_epoch_takes_one_request_per_block(server):
    made = rows(REMOTE)
    opened = server.asked()
    batches(made)  # 384 of 383 images
    # 24 blocks, two of which span two shards, and three indices; in addition a prefetched window
    # and an index that two threads may fetch at once.
    assert 24 + 2 + 3 <= server.asked() - opened <= 24 + 2 + 3 + 5 + 2 + 8
    made = rows(REMOTE, "full")
    opened = server.asked()
    batches(made)
    assert 384 + 3 <= server.asked() - opened <= 384 + 3 * 4


def test_evaluation_also_reads_in_blocks(server):
    made = rows(REMOTE, "", split="test")
    opened = server.asked()
    assert sum(batch["mask"].sum() for batch in batches(made, stop=2)) == 40
    assert server.asked() - opened == 1 + 1


def test_worker_processes_read_the_same(noise_dir, server):
    """As threads from a disk. (pytest does not parse absl's flags, which Grain's workers read.)"""
    assert_same(batches(rows(REMOTE), stop=4, workers=2), batches(rows(noise_dir), stop=4))


def test_blocks_are_prefetched_and_freed(server):
    made = rows(REMOTE)
    source = made.source
    walk = [made.order[i] for i in range(383 * 3)]
    for number in range(64):  # the first window
        made(number)
    deadline = time.monotonic() + 30
    while not all(f.done() for f in source._blocks.values()) and time.monotonic() < deadline:
        time.sleep(0.01)
    asked = server.asked()
    second = {made.order.block_of(index) for index in walk[64:128]}
    assert second <= set(source._blocks)
    for index in walk[64:128]:
        source[index]
    assert server.asked() == asked, "the second window was there before it was read"
    for number in range(64, 383 * 2):
        made(number)
        assert len(source._blocks) <= source.keep == 3 * (4 + 1)
    source.close()
    assert source[walk[0]]["image"] and len(source._blocks) == 1
    source.close()


def test_it_pickles_without_its_blocks(server):
    source = rows(REMOTE).source
    first = source[0]
    source.close()
    again = pickle.loads(pickle.dumps(source))
    assert (again.name, again.split, len(again)) == ("noise", "train", 383)
    assert again[0] == first and not source._blocks
    again.close()


def test_a_block_of_a_lane_is_one_request(server):
    """Each lane's share, of 95 or 96 examples, is cut into its own 6 blocks."""
    made = rows(REMOTE, "blocks(size=16, window=8, lanes=4)")
    opened = server.asked()
    for lane in range(4):  # a pass of each lane over its share, without prefetching
        for index in made.order.share([lane * 8])[0]:
            made.source[index]
    # The index of each of three shards and each block once; two blocks span two shards.
    assert server.asked() - opened == 3 + 4 * 6 + 2
    made.source.close()


def test_a_host_reads_only_its_lanes(server):
    shuffle = "blocks(size=8, window=8, lanes=4)"
    made = rows(REMOTE, shuffle, own=range(8, 16))
    (share,) = made.order.share(made.rows)
    seen = {made.find(number)[1] for number in range(400)}
    assert seen == set(share) and len(seen) in (95, 96)
    assert_same(
        batches(made, stop=4),
        [{k: v[8:16] for k, v in b.items()} for b in batches(rows(REMOTE, shuffle), stop=4)],
    )


def test_a_failed_block_can_be_read_later(server):
    source = rows(REMOTE).source
    source[0]
    server.fail = lambda number: 403
    with pytest.raises(Exception, match="status 403"):
        source[100]
    server.fail = lambda number: None
    assert source[100]["label"] in range(3)
    source.close()


@pytest.mark.parametrize("kind", [RuntimeError, ValueError])
def test_a_bad_example_does_not_affect_the_rest_of_its_block(kind):
    """Whether the record is damaged or empty."""

    class Spoilt:
        def __getitem__(self, index):
            if index == 5:
                raise kind("bad")
            return {"label": index}

        def read(self, start, stop):
            return [self[i] for i in range(start, stop)]

    source = blocks.BlockSource(Spoilt(), lambda index: range(8), 1)
    assert [source[i]["label"] for i in (0, 4, 6, 7)] == [0, 4, 6, 7]
    with pytest.raises(kind, match="bad"):
        source[5]
    source.close()
