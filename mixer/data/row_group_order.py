"""An order for tables that are read by row group: each group is read once in an epoch."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mixer.data.order import InLanes, draw, shuffle_few


@dataclasses.dataclass(frozen=True)
class RowGroups(InLanes):
    """Shuffles row groups, then single examples within windows of row groups.

    As `order.Blocks`, with row groups, whose sizes may differ, instead of blocks of equal size, and
    with the examples in the order in which they are stored, instead of that of their indices. Lanes
    divide the stored examples into equal shares; a group at the edge of two shares is in both.

    Attributes:
      stored: the indices of the examples, in the order in which they are stored.
      ends: ascending, the place in `stored` after the last example of each group.
      batch_size: rows of a global batch; a multiple of `lanes`.
      window: number of groups that are shuffled together, over all lanes; a multiple of `lanes`.
      lanes: number of parts of the batch and of the data.

    Raises:
      ValueError: numbers that do not fit together.
    """

    stored: np.ndarray
    ends: np.ndarray
    seed: int
    batch_size: int
    window: int
    lanes: int
    _cache: dict = dataclasses.field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self):
        self._check(window=self.window, lanes=self.lanes)

    @property
    def size(self) -> int:
        """The number of examples."""
        return len(self.stored)

    def __getitem__(self, count: int) -> int:
        lane, epoch, place = self._turn(count)
        return int(self.stored[self._shuffled(place, lane, epoch)])

    def after(self, index: int) -> int:
        """The next index in storage order within the share, after the last one the first."""
        return self._neighbour(index, 1)

    def before(self, index: int) -> int:
        """The inverse of `after`."""
        return self._neighbour(index, -1)

    def share(self, rows: Sequence[int]) -> list[range]:
        """See `order.Order`: any index, as groups are not ranges of indices."""
        return [range(self.size)] if rows else []

    def groups_at_once(self, rows: Sequence[int]) -> int:
        """The most groups in the current windows of these rows."""
        return self.window // self.lanes * len(self._lanes_of(rows))

    def _edges(self, lane: int) -> np.ndarray:
        """The first places of the groups of a share, and its end."""
        share = self._share(lane)
        inside = self.ends[(self.ends > share.start) & (self.ends < share.stop)]
        return np.concatenate([[share.start], inside, [share.stop]])

    def _neighbour(self, index: int, step: int) -> int:
        (place,) = np.flatnonzero(self.stored == index)
        share = self._share_of(int(place))
        return int(self.stored[share[(place + step - share.start) % len(share)]])

    def _shuffled(self, place: int, lane: int, epoch: int) -> int:
        """The place in `stored` of an example of this lane's epoch."""
        shuffled = self._shuffled_groups(lane, epoch)
        window, start, stop = _part(shuffled.windows, place)
        here = start + shuffle_few(
            place - start, stop - start, draw(self.seed, epoch, lane, 0, window)
        )
        group, start, _ = _part(shuffled.starts, here)
        return int(shuffled.firsts[group]) + here - start

    def _shuffled_groups(self, lane: int, epoch: int) -> "_Shuffled":
        found = self._cache.get((lane, epoch))
        if found is None:
            edges = self._edges(lane)
            # The raw bits of a generator, unlike numpy's own shuffles, are the same in every
            # version.
            bits = np.random.Philox(draw(self.seed, epoch, lane, 1)).random_raw(len(edges) - 1)
            which = bits.argsort(kind="stable")
            starts = np.concatenate([[0], np.diff(edges)[which].cumsum()])
            windows = np.concatenate([starts[: -1 : self.window // self.lanes], starts[-1:]])
            found = _Shuffled(edges[which], starts, windows)
            if len(self._cache) > 2 * self.lanes:
                self._cache.clear()  # of earlier epochs
            self._cache[lane, epoch] = found
        return found


class _Shuffled(NamedTuple):
    """The groups of a lane in the order of an epoch.

    Attributes:
      firsts: of each group, the place in `stored` of its first example.
      starts: ascending, where each group begins in the epoch, and the end.
      windows: the same of windows.
    """

    firsts: np.ndarray
    starts: np.ndarray
    windows: np.ndarray


def _part(starts: np.ndarray, place: int) -> tuple[int, int, int]:
    """(number, start, stop) of the part that contains a place."""
    number = int(np.searchsorted(starts, place, side="right")) - 1
    return number, int(starts[number]), int(starts[number + 1])
