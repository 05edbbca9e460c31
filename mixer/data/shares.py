"""Orders that set how often examples come: each class equally often, or data sets in fixed shares.

Like those of `order`, they are pure functions of (seed, counter), O(1) at any step.
"""

import bisect
import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from mixer.data.order import Order, draw, shuffle_few


class ByClass:
    """Each class equally often, and each class's examples equally often.

    Of K consecutive counters from a multiple of K, one is of each of the K classes that have
    examples, in random order. The n examples of a class are a permutation of their own for each n
    of its turns.

    Args:
      labels: int [N], the class of each example.
    """

    def __init__(self, labels: np.ndarray, seed: int):
        self.labels, self.seed = labels, seed
        by_class = np.argsort(labels, kind="stable")
        ends = np.flatnonzero(np.diff(labels[by_class])) + 1
        self.members = np.split(by_class, ends)  # of each class, ascending

    def __getitem__(self, count: int) -> int:
        turn, place = divmod(count, len(self.members))
        which = shuffle_few(place, len(self.members), draw(self.seed, 0, turn))
        members = self.members[which]
        again, place = divmod(turn, len(members))
        return int(members[shuffle_few(place, len(members), draw(self.seed, 1, which, again))])

    @property
    def first_pass(self) -> int:
        """See `order.Order`."""
        return len(self.members) * max(map(len, self.members))

    def summary(self) -> str:
        """One line: how often the images of the smallest and the largest class are seen."""
        sizes = sorted(map(len, self.members))
        seen = len(self.labels) / len(sizes)
        (less, often), (more, seldom) = ((n, seen / n) for n in (sizes[0], sizes[-1]))
        return (
            f"each of {len(sizes):,} classes equally often: in an epoch ({len(self.labels):,} "
            f"images) each of the {less:,} images of the smallest is seen {often:.3g} times, of "
            f"the {more:,} of the largest {seldom:.3g} times"
        )

    def after(self, index: int) -> int:
        """The next index of the same class in storage order, after the last one the first."""
        return self._neighbour(index, 1)

    def before(self, index: int) -> int:
        """The inverse of `after`."""
        return self._neighbour(index, -1)

    def share(self, rows: Sequence[int]) -> list[range]:
        """See `order.Order`."""
        return [range(len(self.labels))] if rows else []

    def _neighbour(self, index: int, step: int) -> int:
        members = next(m for m in self.members if self.labels[m[0]] == self.labels[index])
        return int(members[(np.searchsorted(members, index) + step) % len(members)])


@dataclasses.dataclass(frozen=True)
class Mixed:
    """Data sets that lie one after the other, each walked in its own order, in fixed shares.

    Of `sum(counts)` consecutive counters from a multiple of it, `counts[d]` are of data set d, in
    random order. (Grain's `mix` has exact shares too, but always in the same order: with equal
    shares every other row of each batch would be of the same data set, and mixup would only mix
    one with the other.)

    Attributes:
      orders: of each data set, from 0.
      sizes: the number of examples of each.
    """

    orders: Sequence[Order]
    sizes: Sequence[int]
    counts: Sequence[int]
    seed: int

    def __getitem__(self, count: int) -> int:
        window, place = divmod(count, sum(self.counts))
        place = shuffle_few(place, sum(self.counts), draw(self.seed, 2, window))
        ends = list(itertools.accumulate(self.counts))
        part = bisect.bisect_right(ends, place)
        own = window * self.counts[part] + place - (ends[part] - self.counts[part])
        return self._start(part) + self.orders[part][own]

    @property
    def first_pass(self) -> int:
        """See `order.Order`."""
        windows = (
            -(-order.first_pass // count)
            for order, count in zip(self.orders, self.counts, strict=True)
        )
        return max(windows) * sum(self.counts)

    def after(self, index: int) -> int:
        """The next index of the same data set, as its own order has it."""
        part, start = self._part_of(index)
        return start + self.orders[part].after(index - start)

    def before(self, index: int) -> int:
        """The inverse of `after`."""
        part, start = self._part_of(index)
        return start + self.orders[part].before(index - start)

    def share(self, rows: Sequence[int]) -> list[range]:
        """See `order.Order`."""
        return [range(sum(self.sizes))] if rows else []

    def _start(self, part: int) -> int:
        return sum(self.sizes[:part])

    def _part_of(self, index: int) -> tuple[int, int]:
        """The data set of an example, and the index of its first one."""
        part = bisect.bisect_right(list(itertools.accumulate(self.sizes)), index)
        return part, self._start(part)
