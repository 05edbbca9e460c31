import numpy as np
import pytest

from mixer import errors
from mixer.data import order


def parse(text, examples=1000, seed=3, batch_size=64):
    return order.parse(text, examples=examples, seed=seed, batch_size=batch_size)


def walk(made, start, stop):
    return np.array([made[i] for i in range(start, stop)])


@pytest.mark.parametrize("size", [1, 5, 128, 1000, 1024])
@pytest.mark.parametrize("text", ["full", "blocks", "blocks(7, 3)", "blocks(1, 1)", "blocks(64)"])
def test_an_epoch_is_a_permutation_and_epochs_and_seeds_differ(text, size):
    made = parse(text, size)
    epochs = [walk(made, e * size, (e + 1) * size) for e in range(3)]
    other = walk(parse(text, size, seed=4), 0, size)
    for epoch in (*epochs, other):
        np.testing.assert_array_equal(np.sort(epoch), np.arange(size))
    if size > 100:
        assert len({tuple(epoch) for epoch in (*epochs, other)}) == 4


@pytest.mark.parametrize("size", [1000, 1024])
def test_a_window_consists_of_whole_blocks(size):
    made = parse("blocks(size=32, window=4)", size)
    epoch = walk(made, size, 2 * size)
    touched = [set(window // 32) for window in np.split(epoch, range(128, size, 128))]
    # Five if the window starts within a block, after the short one.
    assert all(len(blocks) <= made.blocks_at_once(range(64)) == 5 for blocks in touched)
    assert sum(map(len, touched)) <= size // 32 + len(touched)


def test_the_short_block_can_be_anywhere():
    made = parse("blocks(size=32, window=1)", 32 * 9 + 5)
    firsts = []
    for epoch in range(400):
        walked = walk(made, epoch * made.size, (epoch + 1) * made.size)
        firsts.append(np.flatnonzero(walked >= 32 * 9)[0] // 32)
    counts = np.bincount(firsts, minlength=10)
    assert len(counts) == 10 and np.abs(counts - 40).max() < 4 * np.sqrt(40)


def test_blocks_come_in_uniform_random_order():
    """Chi-squared of (block, place): 99 degrees of freedom, mean 99, deviation 14."""
    made = parse("blocks(size=10, window=1)", 100)
    seen = np.zeros((10, 10))
    for epoch in range(1000):
        for place in range(10):
            seen[made[epoch * 100 + place * 10] // 10, place] += 1
    assert ((seen - 100) ** 2 / 100).sum() < 99 + 5 * 14


def test_a_window_mixes_its_blocks_evenly():
    """Within a window, batches contain a block's examples as if drawn without replacement."""
    made = parse("blocks(size=128, window=16)", 128 * 160, batch_size=256)
    walked = walk(made, 0, made.size)
    batches = walked.reshape(-1, 256) // 128
    counts = []
    for window in batches.reshape(10, 8, 256):
        blocks = np.unique(window)
        assert len(blocks) == 16
        counts += [[np.sum(batch == block) for block in blocks] for batch in window]
    # Hypergeometric: 256 drawn from 2048, 128 of which are of a block: mean 16, variance 13.13.
    assert np.mean(counts) == 16
    assert 11 < np.var(counts) < 15.5
    # Neighbours in a batch are rarely neighbours in storage; by chance, 127 in 2047 * 128.
    together = np.mean(np.abs(np.diff(walked)) == 1)
    assert together < 0.003


@pytest.mark.parametrize("lanes", [1, 4, 32])
@pytest.mark.parametrize("size", [1000, 1003, 1024])
def test_blocks_cover_each_share(size, lanes):
    made = parse(f"blocks(size=16, window=32, lanes={lanes})", size)
    shares = made.share(range(64))
    assert len(shares) == lanes
    for share in shares:
        at = share.start
        assert made.after(share[-1]) == share[0]
        assert all(made.after(i) == i + 1 for i in share[:-1])
        assert all(made.before(made.after(i)) == i for i in share)
        while at < share.stop:
            block = made.block_of(at)
            assert block.start == at and all(made.block_of(i) == block for i in block)
            assert len(block) == 16 or block.stop == share.stop
            at = block.stop
        assert at == share.stop


# The host of each device in the order of the mesh, as the TPU compiler's topologies have them.
HOSTS = {
    "v3-32": [h for h in range(4) for _ in range(8)],
    "v4-32": [0, 1, 2, 3] * 4,
    "v5litepod-16": [0, 0, 1, 1, 1, 1, 0, 2, 3, 3, 3, 3, 2, 2, 2, 0],
}


@pytest.mark.parametrize(("name", "shares"), [("v3-32", 1), ("v4-32", 4), ("v5litepod-16", 3)])
def test_a_lane_for_each_device_gives_each_host_its_share(name, shares):
    hosts, size = HOSTS[name], 1600

    def read(lanes, host):
        made = parse(f"blocks(size=4, window={lanes}, lanes={lanes})", size, batch_size=64)
        each = 64 // len(hosts)
        rows = [row for row in range(64) if hosts[row // each] == host]
        return sum(map(len, made.share(rows)))

    for host in range(4):
        assert read(len(hosts), host) == size // 4
    assert max(read(4, host) for host in range(4)) == shares * size // 4


def test_lanes_walk_their_own_shares_on_any_number_of_hosts():
    size, batch = 1003, 64
    made = parse("blocks(size=16, window=8, lanes=4)", size, batch_size=batch)
    steps = -(-3 * size // batch)
    rows = walk(made, 0, steps * batch).reshape(steps, batch)
    shares = made.share(range(batch))
    assert [i for share in shares for i in share] == list(range(size))
    for hosts in (1, 2, 4):
        for own in np.split(np.arange(batch), hosts):
            touched = set(rows[:, own].ravel())
            assert touched == {i for share in made.share(own) for i in share}
            assert len(touched) <= size / hosts + 1
    for lane, share in enumerate(shares):
        walked = rows[:, lane * 16 : (lane + 1) * 16].ravel()
        for epoch in range(2):
            part = walked[epoch * len(share) : (epoch + 1) * len(share)]
            np.testing.assert_array_equal(np.sort(part), share)
    seen = np.bincount(walk(made, 0, 2 * size), minlength=size)
    assert set(seen) <= {1, 2, 3}


def test_bad_orders_are_refused():
    for text, message in {
        "block": "unknown config.input.shuffle 'block'. Did you mean 'blocks'",
        "blocks(0)": r"size=0: expected an integer.*Its signature is blocks\(size=128, window=16",
        "blocks(window=1.5)": "window=1.5: expected an integer",
        "blocks(lanes=3)": "window=16 is not divisible by lanes=3",
        "blocks(window=3, lanes=3)": "batch_size=64 is not divisible by lanes=3",
    }.items():
        with pytest.raises(errors.BadInput, match=message):
            parse(text)
    with pytest.raises(errors.BadInput, match="lanes=4 for 2 examples"):
        parse("blocks(lanes=4)", 2)
