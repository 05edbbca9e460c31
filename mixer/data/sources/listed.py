"""The source of data that are read where they lie: Parquet, WebDataset, manifests, arrays, CIFAR.

A kind of data is a module with `collect(path, image_key, label_key) -> Collection` and
`split_names(path)`. What all kinds share is in collection.py and here: the order, the classes,
parts of splits.
"""

import dataclasses
import hashlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from mixer import errors
from mixer.data.sources import label_kinds, splits
from mixer.data.sources.collection import Collection, Images, Part
from mixer.data.sources.hash_order import hash_key

# With more unused integer labels than this, the labels must be a mistake.
_MOST_UNUSED, _MOST_UNUSED_FOR_EACH = 1000, 10


@dataclasses.dataclass(frozen=True)
class ListedSource:
    """A part of a `Collection`, in the order of the hashes of the names.

    Attributes:
      images: of the splits that it draws on.
      rows: (index into `images`, row) of each example.
      files: (name, label) of each example.
      note: how the labels were understood, for `summary`.
      label_kind: of vectors, else ""; see label_kinds.py.
      unread: the columns or arrays that are not read.
    """

    name: str
    split: str
    classes: Sequence[str]
    images: tuple[Images, ...]
    rows: np.ndarray
    files: Sequence[tuple[str, int | tuple[int, ...] | tuple[float, ...]]]
    max_labels: int = 0
    note: str = ""
    label_kind: str = ""
    unread: tuple[str, ...] = ()

    @classmethod
    def open(
        cls,
        found: Collection,
        split: str,
        classes: Sequence[str] = (),
        num_classes: int | None = None,
    ) -> "ListedSource":
        """Chooses a split of a collection.

        Args:
          split: in TFDS's notation, with any usual spelling of a name.
          classes: the names in label order; (): the data's own, else those of the training split,
            sorted as text. Labels that are numbers index them.
          num_classes: the number of classes, if labels are numbers without names.

        Raises:
          BadInput: an unknown split, one without examples or labels, or an unknown class.
        """
        split = splits.as_spelled(split, found.parts)
        sizes = {part: len(rows.names) for part, rows in found.parts.items()}
        ranges = splits.absolute_ranges(found.name, split, sizes)
        used = list(dict.fromkeys(part for part, _ in ranges))
        if found.outputs:
            names, label_of = label_kinds.order_of(found.outputs, classes)
            kind, note = _kind(found), ""
        else:
            names, note = _classes(found, classes, num_classes)
            label_of, kind = {name: label for label, name in enumerate(names)}, ""
        orders = {part: _order(found.parts[part].names) for part in used}
        rows, files = [], []
        for part, chosen in ranges:
            of = found.parts[part]
            for row in orders[part][chosen]:
                label = _label(found, part, of, row, label_of, numbered=bool(note))
                rows.append((used.index(part), row))
                files.append((of.names[row], label))
        if not rows:
            raise errors.BadInput(
                f"{found.name}: split {split!r} contains no images. The dataset has "
                f"{splits.listed(sizes)}: use a larger part"
            )
        several = [
            len(label)
            for part in found.parts.values()
            for label in part.labels
            if isinstance(label, tuple) and not kind
        ]
        if several and any(isinstance(label, int) for _, label in files):
            raise errors.BadInput(f"{found.name}: some rows have one label and others a list")
        return cls(
            name=found.name,
            split=split,
            classes=names,
            images=tuple(found.parts[part].images for part in used),
            rows=np.array(rows),
            files=tuple(files),
            max_labels=max([*several, 1]) if several else 0,
            note=note,
            label_kind=kind,
            unread=found.unread,
        )

    @property
    def identity(self) -> str:
        """A digest of the names and labels, for `sources.fingerprint`."""
        content = repr(self.files).encode(errors="surrogateescape")
        return hashlib.blake2b(content, digest_size=16).hexdigest()

    @property
    def remote(self) -> bool:
        """Whether each image is a request to a bucket."""
        return any(getattr(images, "remote", False) for images in self.images)

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        part, row = self.rows[index].tolist()
        return {"image": self.images[part].image(row), "label": self.files[index][1]}

    def every_label(self) -> list[int | tuple[int, ...]]:
        """See `labels.labels_of`."""
        return [label for _, label in self.files]

    def absent(self) -> list[str]:
        """The files of this part that do not exist, where images are files."""
        return [
            file
            for part, images in enumerate(self.images)
            if hasattr(images, "absent")
            for file in images.absent(self.rows[self.rows[:, 0] == part, 1].tolist())
        ]

    def where(self, index: int) -> str:
        part, row = self.rows[index].tolist()
        place = self.images[part].where(row)
        return f"dataset {self.name}, split {self.split}, example {index}, {place}"

    def summary(self) -> str:
        """One line: how many images, the classes in order, and how the data were understood."""
        classes = f"{label_kinds.summary(self)}{self.note}"
        unread = f"; not read: {errors.shown(self.unread)}" if self.unread else ""
        slow = next((s for i in self.images if (s := getattr(i, "advice", ""))), "")
        return f"{self.name} {self.split}: {len(self):,} images, {classes}{unread}{slow}"


def _order(names: Sequence[str]) -> list[int]:
    keys = list(map(hash_key, names))
    return sorted(range(len(names)), key=keys.__getitem__)


def _labels(part: Part) -> set[str]:
    found = set()
    for label in part.labels:
        found.update(label if isinstance(label, tuple) else (label,))
    return found - {None}


def _classes(
    found: Collection, given: Sequence[str], num_classes: int | None
) -> tuple[tuple[str, ...], str]:
    """The classes in label order, and a note if labels are their numbers."""
    by_split = {split: _labels(part) for split, part in found.parts.items()}
    every = set().union(*by_split.values())
    if not every:
        raise errors.BadInput(f"{found.name} has no labels")
    own = found.classes
    if own or not all(re.fullmatch(r"-?\d+", label) for label in every):
        if not own:
            teacher = by_split.get(splits.TRAIN) or every
            own = tuple(sorted(teacher))
        # Numbers are not names: class 3 of ten is not class 3 of a thousand.
        numbers = all(map(str.isdecimal, own))
        fits = set(given) == set(own) if numbers else set(given) >= set(own)
        return (tuple(given) if fits else own), ""
    if given and _are_names(found.name, every, given):
        return tuple(given), ""
    least, most = min(map(int, every)), max(map(int, every))
    if least < 0 or most >= _MOST_UNUSED + _MOST_UNUSED_FOR_EACH * len(every):
        raise errors.BadInput(
            f"{found.name}: {len(every):,} different integer labels from {least} to {most}: they "
            f"number the classes from 0. Number them without gaps, or use names"
        )
    if given or num_classes:
        names = tuple(given) or tuple(map(str, range(num_classes)))
        if most >= len(names):
            raise errors.BadInput(
                f"{found.name}: the largest label is {most}, but there are {len(names):,} classes: "
                f"expected labels from 0 to {len(names) - 1}"
            )
    else:
        names = tuple(map(str, range(most + 1)))
    return names, " (the labels are their numbers)"


def _are_names(dataset: str, labels: set[str], names: Sequence[str]) -> bool:
    """Whether integer labels are the names of classes, and not their numbers.

    They are where the names are these integers in another order, such as 0, 1, 10, 2 of a folder.

    Raises:
      BadInput: each label may be a name and the number of another class: labels 1, 2 of the
        classes 1.0, 2.0, 3.0.
    """
    try:
        place_of = {float(name): place for place, name in enumerate(names)}
    except ValueError:
        return False
    other = sorted((i for i in map(int, labels) if place_of.get(i) != i), key=abs)
    if not other or not {float(label) for label in labels} <= set(place_of):
        return False
    if labels == set(names):
        return True
    raise errors.BadInput(
        f"{dataset}: the label {other[0]} may mean the class called {names[place_of[other[0]]]} or "
        f"class number {other[0]}, counted from 0, of {errors.shown(names)}: write the labels as "
        f"the classes are called, all of them in the same way"
    )


def _kind(found: Collection) -> str:
    """The kind of the vectors, judged by all splits.

    Raises:
      BadInput: one of them has another length, or a number that is not finite.
    """
    every = []
    for split, part in found.parts.items():
        for row, label in enumerate(part.labels):
            try:
                if label is not None:
                    every.append(label_kinds.vector(label, "values", len(found.outputs)))
            except ValueError as error:
                where = part.images.where(row)
                raise errors.BadInput(f"{found.name}, split {split}: {where}: {error}") from None
    if not every:
        raise errors.BadInput(f"{found.name} has no labels")
    return label_kinds.kind_of(np.stack(every))


def _label(
    found: Collection,
    split: str,
    part: Part,
    row: int,
    label_of: dict[str, int] | Sequence[int],
    *,
    numbered: bool,
) -> int | tuple[int, ...] | tuple[float, ...]:
    label = part.labels[row]
    where = f"{found.name}: {part.images.where(row)}"
    if label is None:
        raise errors.BadInput(f"{where} has no label: use another split than {split}")
    if isinstance(label, tuple) and None in label:
        raise errors.BadInput(f"{where}: one of its {len(label)} labels is missing")
    if found.outputs:
        return tuple(float(label[output]) for output in label_of)

    def number(name: str) -> int:
        if numbered:
            return int(name)
        if name not in label_of:
            known = str(errors.unknown("class", name, label_of)).split(" Known:")[0]
            raise errors.BadInput(
                f"{where}: {known} The {len(label_of):,} classes "
                f"are those of the training split: {errors.shown(tuple(label_of))}"
            )
        return label_of[name]

    return tuple(map(number, label)) if isinstance(label, tuple) else number(label)
