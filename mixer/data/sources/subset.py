"""A random part of a split; smaller parts lie within larger ones (figure 2, right)."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from mixer import errors
from mixer.data import sources
from mixer.data.sources import Source


@dataclasses.dataclass(frozen=True)
class Subset:
    """`count` consecutive examples of `whole` from `start`, wrapping around at its end.

    The examples of a split are stored in the order of a hash, so a range is a random sample, and
    cheap to read from a remote store. (In a sum such as "train+validation" the range covers one
    split before it reaches the next.)
    """

    whole: Source
    start: int
    count: int

    @property
    def name(self) -> str:
        """The dataset's."""
        return self.whole.name

    @property
    def split(self) -> str:
        """The name of the whole split."""
        return self.whole.split

    @property
    def classes(self) -> Sequence[str]:
        """The dataset's, even those without examples in this part."""
        return self.whole.classes

    @property
    def max_labels(self) -> int:
        """The dataset's."""
        return sources.max_labels(self.whole)

    @property
    def label_kind(self) -> str:
        """The dataset's."""
        return getattr(self.whole, "label_kind", "")

    @property
    def remote(self) -> bool:
        """The dataset's."""
        return getattr(self.whole, "remote", False)

    @property
    def published(self) -> bool:
        """The dataset's."""
        return getattr(self.whole, "published", False)

    @property
    def identity(self) -> tuple:
        """Identifies the part and the whole, for `sources.fingerprint`."""
        return self.start, sources.fingerprint(self.whole)

    @property
    def beside(self) -> tuple[str, ...]:
        """The folders that are not read, if the whole is a folder of images."""
        return self.whole.beside

    @property
    def files(self) -> list[tuple[str, int]]:
        """The files of the part, if the whole is a folder of images."""
        files = self.whole.files
        return [
            file
            for part in self._parts(range(self.count))
            for file in files[part.start : part.stop]
        ]

    @property
    def ranges(self) -> list[tuple[str, range]]:
        """Of a TFDS dataset: (file, which of its records) of the part."""
        found, wanted = [], self._parts(range(self.count))
        before = 0
        for file, records in self.whole.ranges:
            for part in wanted:
                own = records[max(part.start - before, 0) : max(part.stop - before, 0)]
                found.append((file, own))
            before += len(records)
        return found

    def summary(self) -> str:
        """See `sources.summary`."""
        return f"{self.count:,} of: {sources.summary(self.whole)}"

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.whole[self._index_in_whole(index)]

    def where(self, index: int) -> str:
        """Names the example as the whole split does."""
        return self.whole.where(self._index_in_whole(index))

    def _index_in_whole(self, index: int) -> int:
        return (self.start + index) % len(self.whole)

    def __getattr__(self, name: str) -> Any:
        # Optional methods of a source, with ranges of examples as arguments.
        if name == "read":
            read = self.whole.read
            return lambda start, stop: [
                example
                for part in self._parts(range(start, stop))
                for example in read(part.start, part.stop)
            ]
        if name == "every_label":
            whole = self.whole.every_label
            return lambda: np.roll(whole(), -self.start)[: self.count]
        if name in ("stage", "check_space"):
            call = getattr(self.whole, name)
            return lambda share: call([part for some in share for part in self._parts(some)])
        raise AttributeError(name)

    def _parts(self, indices: range) -> list[range]:
        """The same examples as indices of `whole`: two ranges if they wrap around its end."""
        size = len(self.whole)
        start, stop = self.start + indices.start, self.start + indices.stop
        parts = range(start, min(stop, size)), range(max(start, size) - size, max(stop - size, 0))
        return [part for part in parts if part]


def fraction_of(source: Source, fraction: float, seed: int) -> Source:
    """A part with round(fraction * N) of the N examples; `source` itself if that is all of them.

    With the same seed a larger fraction includes the examples of a smaller one.

    Args:
      fraction: above 0, at most 1.
      seed: determines where the range starts.

    Raises:
      BadInput: no example is left.
    """
    if fraction == 1:
        return source
    count = round(fraction * len(source))
    if not count:
        raise errors.BadInput(
            f"config.input.fraction={fraction} of {len(source):,} examples leaves none: expected "
            f"{1 / len(source):.2g} or more"
        )
    (drawn,) = np.random.SeedSequence(seed).generate_state(1, np.uint64)
    return Subset(source, int(drawn) % len(source), count)
