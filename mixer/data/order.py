"""The order in which training reads examples: a pure function of (seed, counter), O(1) at any step.

`full` shuffles single examples over the whole split, for a local disk, where random reads are
cheap. `blocks` shuffles blocks of consecutive records, then single examples within a window of
blocks, for a store, where each request has a cost.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import grain
import numpy as np

from mixer import calls


class Order(Protocol):
    """An endless sequence of examples: the example counter -> the index of an example.

    Attributes:
      first_pass: so many counters from 0 surely contain every example.
    """

    @property
    def first_pass(self) -> int: ...

    def __getitem__(self, count: int) -> int: ...

    def after(self, index: int) -> int:
        """The example that replaces one that cannot be read."""

    def before(self, index: int) -> int:
        """The inverse of `after`."""

    def share(self, rows: Sequence[int]) -> list[range]:
        """The indices that these rows of the batches can contain."""


@functools.lru_cache(maxsize=4096)
def draw(*key: int) -> int:
    """32 random bits, independent for each key."""
    return int(np.random.SeedSequence(key).generate_state(1)[0])


def _shuffle(place: int, size: int, seed: int) -> int:
    if size == 1:
        return 0
    return grain.experimental.index_shuffle(place, max_index=size - 1, seed=seed, rounds=4)


@functools.lru_cache(maxsize=2048)  # one for each of many classes; of up to 128 KiB
def _table(size: int, seed: int) -> np.ndarray:
    # The raw bits of a generator, unlike numpy's own shuffles, are the same in every version.
    return np.random.Philox(seed).random_raw(size).argsort(kind="stable").astype(np.uint16)


def shuffle_few(place: int, size: int, seed: int) -> int:
    """A permutation of 0 ... size-1, of its own for each seed; quick for few."""
    # Grain's shuffle walks over at least 2**16 places: 0.3 ms for one of 128.
    if size > 2**16:
        return _shuffle(place, size, seed)
    return int(_table(size, seed)[place])


@dataclasses.dataclass(frozen=True)
class Full:
    """The endless sequence of examples: each epoch is a permutation of its own of 0 ... size-1."""

    size: int
    seed: int

    def __getitem__(self, count: int) -> int:
        epoch, place = divmod(count, self.size)
        return _shuffle(place, self.size, draw(self.seed, epoch))

    @property
    def first_pass(self) -> int:
        """See `Order`."""
        return self.size

    def after(self, index: int) -> int:
        """The next index in storage order, after the last one the first."""
        return (index + 1) % self.size

    def before(self, index: int) -> int:
        """The inverse of `after`."""
        return (index - 1) % self.size

    def share(self, rows: Sequence[int]) -> list[range]:
        """The indices that these rows of the batches can contain."""
        return [range(self.size)] if rows else []


class InLanes:
    """What orders in lanes share: a lane of the rows of a batch walks its own share of the places.

    A class derived from it is a dataclass with `size`, the number of places, `batch_size`, `window`
    and `lanes`.
    """

    def _check(self, **counts: int) -> None:
        """Raises ValueError if a count is not positive, or the numbers do not fit together."""
        for name, value in counts.items():
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}={value!r}: expected an integer of 1 or more")
        for name, value in (("window", self.window), ("config.batch_size", self.batch_size)):
            if value % self.lanes:
                raise ValueError(f"{name}={value} is not divisible by lanes={self.lanes}")
        if self.size < self.lanes:
            raise ValueError(f"lanes={self.lanes} for {self.size} examples")

    @property
    def first_pass(self) -> int:
        """See `Order`; a lane may reach its last examples a batch late."""
        return self.size + self.batch_size

    def read_by(self, rows: Sequence[int]) -> float:
        """The part of the examples that these rows of the batches can contain."""
        return sum(len(self._share(lane)) for lane in self._lanes_of(rows)) / self.size

    def _turn(self, count: int) -> tuple[int, int, int]:
        """(lane, epoch, place in the epoch) of an example counter."""
        step, row = divmod(count, self.batch_size)
        rows = self.batch_size // self.lanes
        lane, place = divmod(row, rows)
        return lane, *divmod(step * rows + place, len(self._share(lane)))

    def _lanes_of(self, rows: Sequence[int]) -> list[int]:
        return sorted({row * self.lanes // self.batch_size for row in rows})

    def _share(self, lane: int) -> range:
        return range(self.size * lane // self.lanes, self.size * (lane + 1) // self.lanes)

    def _share_of(self, place: int) -> range:
        return self._share(((place + 1) * self.lanes - 1) // self.size)


@dataclasses.dataclass(frozen=True)
class Blocks(InLanes):
    """Shuffles blocks of consecutive examples, then single examples within windows of blocks.

    The rows of a batch are divided into `lanes` contiguous ranges of equal length, the examples
    into as many contiguous shares, equal to within one example. Lane l walks share l: its n
    examples are cut into blocks of `block` (the last one may be shorter), the blocks are put in
    random order, and every `window / lanes` of them in a row are shuffled as one. Its next n
    examples are another order of the same share.

    So with one lane an epoch (`size` counters from a multiple of `size`) contains every example
    exactly once. With more lanes this is true of each lane and its share. A lane's pass over its
    share may end within a batch, and shares may differ by one example, so counters
    0 ... e * size - 1 contain every example e times, give or take one. Lanes are part of the order,
    which is the same for any number of hosts. A host that makes only the rows of some lanes reads
    only their shares.

    Attributes:
      size: examples.
      batch_size: rows of a global batch; a multiple of `lanes`.
      block: number of consecutive examples that are read at once.
      window: number of blocks that are shuffled together, over all lanes; a multiple of `lanes`.
      lanes: number of parts of the batch and of the data.

    Raises:
      ValueError: numbers that do not fit together.
    """

    size: int
    seed: int
    batch_size: int
    block: int
    window: int
    lanes: int

    def __post_init__(self):
        self._check(size=self.block, window=self.window, lanes=self.lanes)

    def __getitem__(self, count: int) -> int:
        lane, epoch, place = self._turn(count)
        share = self._share(lane)
        return share[self._shuffled(place, len(share), (self.seed, epoch, lane))]

    def share(self, rows: Sequence[int]) -> list[range]:
        """The indices that these rows of the batches can contain."""
        return [self._share(lane) for lane in self._lanes_of(rows)]

    def after(self, index: int) -> int:
        """The next index in storage order within the share, after the last one the first."""
        share = self._share_of(index)
        return share[(index + 1 - share.start) % len(share)]

    def before(self, index: int) -> int:
        """The inverse of `after`."""
        share = self._share_of(index)
        return share[(index - 1 - share.start) % len(share)]

    def block_of(self, index: int) -> range:
        """The block that contains an example."""
        share = self._share_of(index)
        start = index - (index - share.start) % self.block
        return range(start, min(start + self.block, share.stop))

    def blocks_at_once(self, rows: Sequence[int]) -> int:
        """The most blocks that the current windows of these rows can touch."""
        # One more than the window: a short block shifts the later ones across its edge.
        return (self.window // self.lanes + 1) * len(self._lanes_of(rows))

    def _shuffled(self, place: int, size: int, key: tuple[int, ...]) -> int:
        reach = self.window // self.lanes * self.block
        window, inside = divmod(place, reach)
        start = window * reach
        here = start + shuffle_few(inside, min(reach, size - start), draw(*key, 0, window))
        # Now `here` is a place in the sequence of shuffled blocks. The short block is inserted at a
        # random position of its own, so that the places of all others follow by arithmetic.
        whole, rest = divmod(size, self.block)
        short = draw(*key, 1) % (whole + 1) * self.block
        if rest and here >= short:
            if here < short + rest:
                return whole * self.block + here - short
            here -= rest
        which, inside = divmod(here, self.block)
        return shuffle_few(which, whole, draw(*key, 2)) * self.block + inside


def parse(
    text: str,
    *,
    examples: int,
    seed: int,
    batch_size: int,
    more: Mapping[str, Callable[..., Order]] = {},
) -> Order:
    """Parses `full` or `blocks(size=128, window=16, lanes=1)`.

    Args:
      more: other orders by name, which make them of the arguments in `text`.

    Raises:
      BadInput: anything else, or numbers that do not fit together.
    """

    def full():
        return Full(examples, seed)

    def blocks(size=128, window=16, lanes=1):
        return Blocks(examples, seed, batch_size, size, window, lanes)

    return calls.build("config.input.shuffle", text, {"full": full, "blocks": blocks, **more})
