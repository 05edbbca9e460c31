"""A part of a split, such that a smaller part lies within a larger one (figure 2, right)."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from mixer import errors
from mixer.data import sources
from mixer.data.sources import Source


@dataclasses.dataclass(frozen=True)
class Subset:
    """`count` consecutive examples of `whole` from `start` on, beyond its end from its beginning.

    The examples of a split are stored in the order of a hash, so a range of it is a random sample,
    and a cheap one where the records are far away. (Of a sum such as "train+validation" it is a
    sample of one part before it reaches the next.)
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
        """The whole split's."""
        return self.whole.split

    @property
    def classes(self) -> Sequence[str]:
        """The dataset's, whether or not the part has examples of each."""
        return self.whole.classes

    @property
    def max_labels(self) -> int:
        """The dataset's."""
        return sources.max_labels(self.whole)

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
        """Which part of what, for `sources.fingerprint`."""
        return self.start, sources.fingerprint(self.whole)

    @property
    def beside(self) -> tuple[str, ...]:
        """The folders of a folder of images that are not read."""
        return self.whole.beside

    @property
    def files(self) -> list[tuple[str, int]]:
        """Those of the part, where the whole is a folder of images."""
        files = self.whole.files
        return [
            file
            for part in self._parts(range(self.count))
            for file in files[part.start : part.stop]
        ]

    def summary(self) -> str:
        """One line, as `sources.summary`."""
        return f"{self.count:,} of: {sources.summary(self.whole)}"

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.whole[self._of_whole(index)]

    def where(self, index: int) -> str:
        """As the whole split names it."""
        return self.whole.where(self._of_whole(index))

    def _of_whole(self, index: int) -> int:
        return (self.start + index) % len(self.whole)

    def __getattr__(self, name: str) -> Any:
        # What a source may have, with ranges of examples as arguments.
        if name == "read":
            read = self.whole.read
            return lambda start, stop: [
                example
                for part in self._parts(range(start, stop))
                for example in read(part.start, part.stop)
            ]
        if name in ("stage", "check_space"):
            call = getattr(self.whole, name)
            return lambda share: call([part for some in share for part in self._parts(some)])
        raise AttributeError(name)

    def _parts(self, indices: range) -> list[range]:
        """The same examples in `whole`: two ranges where its end lies between."""
        size = len(self.whole)
        start, stop = self.start + indices.start, self.start + indices.stop
        parts = range(start, min(stop, size)), range(max(start, size) - size, max(stop - size, 0))
        return [part for part in parts if part]


def fraction_of(source: Source, fraction: float, seed: int) -> Source:
    """round(fraction * N) of the N examples; all of them are `source` itself.

    With the same seed a smaller fraction's examples are among a larger one's.

    Args:
      fraction: above 0, at most 1.
      seed: draws where the range starts.

    Raises:
      BadInput: no example is left.
    """
    if fraction == 1:
        return source
    count = round(fraction * len(source))
    if not count:
        raise errors.BadInput(
            f"config.input.fraction={fraction} of {len(source):,} examples is none: expected "
            f"{1 / len(source):.2g} or more"
        )
    (drawn,) = np.random.SeedSequence(seed).generate_state(1, np.uint64)
    return Subset(source, int(drawn) % len(source), count)
