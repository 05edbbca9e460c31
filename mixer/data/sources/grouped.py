"""The row groups in which the examples of a source are stored, and reading them ahead."""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from mixer import errors
from mixer.data.row_group_order import RowGroups
from mixer.data.sources import ListedSource, Source, fingerprint
from mixer.data.sources.around import Around
from mixer.data.sources.row_groups import HELD_BYTES
from mixer.data.sources.subset import Subset


def row_groups(source: Source) -> tuple[np.ndarray, np.ndarray] | None:
    """The examples in the order in which they are stored, and where each row group of them ends.

    The second array has places in the first. None if not all are stored in row groups.
    """
    images, rows = _places(source)
    if not images or not all(hasattr(each, "groups") for each in images):
        return None
    part, row = rows.T
    group = np.empty(len(rows), np.int64)
    for number, each in enumerate(images):
        own = part == number
        group[own] = np.searchsorted(each.groups[1], row[own], side="right")
    stored = np.lexsort((row, part))
    part, group = part[stored], group[stored]
    changes = (np.diff(part) != 0) | (np.diff(group) != 0)
    return stored, np.append(np.flatnonzero(changes) + 1, len(rows))


def _places(source: Source) -> tuple[Sequence[Any], np.ndarray]:
    """The images of a listed source, or of a part of one, and the (part, row) of each example."""
    if isinstance(source, Subset):
        images, rows = _places(source.whole)
        return images, np.roll(rows, -source.start, axis=0)[: source.count]
    if isinstance(source, ListedSource):
        return source.images, source.rows
    return (), np.empty((0, 2), np.int64)


@dataclasses.dataclass(frozen=True)
class AheadByGroup(Around):
    """A source whose row groups are read before the examples in them are asked for."""

    source: Source
    images: Sequence[Any]
    rows: np.ndarray
    stored: str  # tells how the examples are stored from any other way

    @property
    def identity(self) -> tuple[str, str]:
        """For `sources.fingerprint`; the same examples stored otherwise come in another order."""
        return fingerprint(self.source), self.stored

    def will_read(self, index: int) -> None:
        """Starts reading the row group of an example."""
        part, row = self.rows[index].tolist()
        self.images[part].will_read(row)


def ahead_by_group(
    source: Source, order: RowGroups, rows: Sequence[int]
) -> tuple[AheadByGroup, int]:
    """The source, and how many rows ahead it must be told: one window, as two are held.

    Args:
      rows: the rows of a global batch that this process makes.

    Raises:
      BadInput: two windows are more than is held.
    """
    images, places = _places(source)
    each, groups = max(part.largest for part in images), order.groups_at_once(rows)
    if 2 * groups * each > HELD_BYTES:
        most = HELD_BYTES // (2 * each) * order.window // groups // order.lanes * order.lanes
        way = f"set window={most}" if most else "prepare the data (config.run=prepare)"
        raise errors.BadInput(
            f"config.input.shuffle: two windows of {groups} row groups of up to {each / 1e6:,.0f} "
            f"MB are more than the {HELD_BYTES / 1e9:.1f} GB that a process holds: {way}"
        )
    mean = len(order.stored) / len(order.ends)
    ahead = round(mean * order.window * len(rows) / order.batch_size)
    how = hashlib.blake2b(order.stored.tobytes() + order.ends.tobytes(), digest_size=16).hexdigest()
    return AheadByGroup(source, images, places, how), max(ahead, 1)
