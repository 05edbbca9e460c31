"""Several data sets as one source, one after the other, with their classes united by name."""

import bisect
import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mixer import errors
from mixer.data import sources
from mixer.data.sources import Source, label_kinds
from mixer.data.sources.labels import labels_of
from mixer.data.sources.tfds import numbers


@dataclasses.dataclass(frozen=True)
class Mixture:
    """The examples of `parts`; which are read how often is up to an order, `shares.Mixed`.

    Attributes:
      counts: of `sum(counts)` examples that are read, so many are of each part.
      labels: for each part, its label -> the label in `classes`.
    """

    parts: tuple[Source, ...]
    counts: tuple[int, ...]
    classes: tuple[str, ...]
    labels: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, parts: Sequence[Source], counts: Sequence[int]) -> "Mixture":
        """Unites the classes: those of the first part, then each that a later part adds.

        Raises:
          BadInput: classes that are numbers and not the same in all parts, or labels of several
            kinds, or vectors.
        """
        first = parts[0]
        for other in parts[1:]:
            kinds = [label_kinds.of(part) for part in (first, other)]
            if kinds[0].kind != kinds[1].kind or kinds[0].are_vectors:
                one, two = (label_kinds.KINDS[each.kind] for each in kinds)
                raise errors.BadInput(
                    f"config.input.mixture: {first.name} has {one} and {other.name} {two}: "
                    f"expected one label per image in both, or several in both"
                )
            unnamed = [part.name for part in (first, other) if numbers(part.classes)]
            if unnamed and set(first.classes) != set(other.classes):
                raise errors.BadInput(
                    f"config.input.mixture: the classes of {' and '.join(unnamed)} are numbers "
                    f"without names, so nothing says which classes {first.name} and {other.name} "
                    f"share: {_few(first)} and {_few(other)}. Give both the same names, in folders "
                    f"or tables"
                )
        classes = tuple(dict.fromkeys(name for part in parts for name in part.classes))
        place = {name: label for label, name in enumerate(classes)}
        labels = tuple(tuple(place[name] for name in part.classes) for part in parts)
        return cls(tuple(parts), tuple(counts), classes, labels)

    @property
    def name(self) -> str:
        """Those of the data sets."""
        return " + ".join(part.name for part in self.parts)

    @property
    def split(self) -> str:
        """Those of the data sets."""
        return " + ".join(part.split for part in self.parts)

    @property
    def epoch(self) -> int:
        """The size of the first data set: an epoch is as long as without the others."""
        return len(self.parts[0])

    @property
    def identity(self) -> tuple:
        """For `sources.fingerprint`."""
        return self.counts, tuple(map(sources.fingerprint, self.parts))

    @property
    def max_labels(self) -> int:
        """The most labels of an image of any part."""
        return max(map(sources.max_labels, self.parts))

    @property
    def published(self) -> bool:
        """The parts', which `sampling` has compared."""
        return getattr(self.parts[0], "published", False)

    @property
    def remote(self) -> bool:
        """Whether images of a part are read from a bucket."""
        return any(getattr(part, "remote", False) for part in self.parts)

    def summary(self) -> str:
        """The shares, each part's own summary, and what they are together."""
        window = sum(self.counts)
        parts = [
            f"{100 * count / window:.4g} % of {sources.summary(part)}, "
            f"{count / window * self.epoch / len(part):.3g} passes per epoch"
            for part, count in zip(self.parts, self.counts, strict=True)
        ]
        new = len(self.classes) - len(self.parts[0].classes)
        return (
            f"mixture: {'; '.join(parts)}. These shares are exact in every {window} images, an "
            f"epoch is {self.epoch:,} images; {len(self.classes):,} classes by name"
            f"{f', {new:,} of them not in the first data set' if new else ''}"
        )

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, index: int) -> dict[str, Any]:
        part, own = self._find(index)
        example = self.parts[part][own]
        label, new = example["label"], self.labels[part]

        def united(label):
            return new[label] if 0 <= label < len(new) else -1

        several = sources.max_labels(self.parts[part])
        return example | {"label": [united(one) for one in label] if several else united(label)}

    def where(self, index: int) -> str:
        """As its own data set names it."""
        part, own = self._find(index)
        return self.parts[part].where(own)

    def every_label(self) -> np.ndarray:
        """See `labels.labels_of`."""
        each = (labels_of(part, "config.class_weights") for part in self.parts)
        return np.concatenate(
            [np.array(new)[own] for own, new in zip(each, self.labels, strict=True)]
        )

    def frequencies(self) -> np.ndarray:
        """How often each example is read, float [N], sum 1."""
        shares = np.array(self.counts) / sum(self.counts)
        sizes = np.array([len(part) for part in self.parts])
        return np.repeat(shares / sizes, sizes)

    def __getattr__(self, name: str) -> Callable:
        # Those of the parts that are copied before they are read, with ranges of examples.
        if name not in ("stage", "check_space"):
            raise AttributeError(name)
        starts = itertools.accumulate((len(part) for part in self.parts), initial=0)
        calls = [
            (getattr(part, name), start, len(part))
            for part, start in zip(self.parts, starts, strict=False)
            if hasattr(part, name)
        ]
        if not calls:
            raise AttributeError(name)

        def each(share: Sequence[range]) -> None:
            for call, start, size in calls:
                call([_within(some, start, size) for some in share])

        return each

    def _find(self, index: int) -> tuple[int, int]:
        """The part that holds an example, and the example's index there."""
        ends = list(itertools.accumulate(map(len, self.parts)))
        part = bisect.bisect_right(ends, index)
        return part, index - (ends[part] - len(self.parts[part]))


def _within(some: range, start: int, size: int) -> range:
    """The indices of a part in a range of the whole."""
    return range(max(some.start - start, 0), max(min(some.stop - start, size), 0))


def _few(source: Source) -> str:
    return f"{len(source.classes):,} classes ({errors.shown(source.classes)})"
