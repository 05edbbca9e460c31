"""The source `folder:PATH`: a folder of images."""

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mixer import errors
from mixer.data.sources import image_files, splits
from mixer.data.sources.folder_layout import EXPECTED, Layout


@dataclasses.dataclass(frozen=True)
class FolderSource:
    """Images in PATH/<split>/<class>/**/*.jpg; without split folders, all of PATH is `train`.

    `Layout` determines the splits and classes. Files are listed in the order of a hash of their
    path below PATH, so that a range of a split contains every class in proportion.

    Attributes:
      files: (path below `root`, label) of each image.
      beside: the folders in PATH that are not read for this split.
      left_out: (extension, number) of the files that are not images.
      sorted_names: whether the classes are sorted by name, as text.
    """

    name: str
    split: str
    classes: Sequence[str]
    root: str
    files: tuple[tuple[str, int], ...]
    beside: tuple[str, ...] = ()
    left_out: Sequence[tuple[str, int]] = ()
    sorted_names: bool = True

    @classmethod
    def open(cls, path: str, split: str, classes: Sequence[str] = ()) -> "FolderSource":
        """Lists the images of a split.

        Args:
          split: in TFDS's notation, with the name of the split's folder or another usual spelling:
            "validation[:50%]" for PATH/valid.
          classes: the names in label order; empty: those of the training split, sorted.

        Raises:
          BadInput: a layout that is ambiguous or has too few classes, an unknown split, one without
            images, an unknown class, or a class of the training split without images.
        """
        layout = Layout.of(path, classes)
        split = splits.as_spelled(split, layout.splits)
        asked = splits.parts(split)
        wanted = asked if layout.splits.keys() >= set(asked) else layout.splits
        left_out = Counter()
        listed = {part: layout.listed(part, left_out) for part in dict.fromkeys(wanted)}
        sizes = {part: len(found) for part, found in listed.items()}
        files = []
        try:
            ranges = splits.absolute_ranges(layout.name, split, sizes)
        except errors.BadInput as error:
            raise errors.BadInput(f"{error}{_unread(layout)}") from None
        for part, chosen in ranges:
            files += listed[part][chosen]
        if not files:
            only = f"; left out: {image_files.counted(left_out)}" if left_out else ""
            fix = EXPECTED
            if any(sizes.values()):
                fix = "use a larger part, or put images into PATH/test"
            raise errors.BadInput(
                f"{layout.name}: split {split!r} contains no images. The dataset has "
                f"{splits.listed(sizes)}{only}: {fix}"
            )
        everything = {*layout.splits, *layout.others} if layout.has_splits else set(asked)
        return cls(
            name=layout.name,
            split=split,
            classes=layout.classes,
            root=str(layout.root),
            files=tuple(files),
            beside=tuple(sorted(everything - set(asked))),
            left_out=tuple(left_out.items()),
            sorted_names=not classes,
        )

    @property
    def identity(self) -> tuple[tuple[str, int], ...]:
        """The files, for `sources.fingerprint`."""
        return self.files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        file, label = self.files[index]
        return {"image": (Path(self.root) / file).read_bytes(), "label": label}

    def every_label(self) -> list[int]:
        """See `labels.labels_of`."""
        return [label for _, label in self.files]

    def where(self, index: int) -> str:
        return (
            f"dataset {self.name}, split {self.split}, example {index}, file {self.files[index][0]}"
        )

    def summary(self) -> str:
        """One line: the number of images, the classes in order, and the files left out."""
        counts = Counter(label for _, label in self.files)
        least, most = min(counts.values()), max(counts.values())
        each = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        classes = f"{len(self.classes):,} classes: {errors.shown(self.classes)}"
        if without := [name for i, name in enumerate(self.classes) if i not in counts]:
            classes = f"{len(counts):,} of the {classes} (none of {errors.shown(without)})"
        if self.sorted_names and sorted(self.classes, key=_natural) != list(self.classes):
            classes += " (sorted as text; config.input.class_names=FILE gives another order)"
        if self.left_out:
            classes += f"; left out: {image_files.counted(dict(self.left_out))}"
        return f"{self.name} {self.split}: {len(self):,} images, {each} in each of {classes}"


def _unread(layout: Layout) -> str:
    """Names the folders next to the splits, one of which may be the missing split."""
    if not layout.others:
        return ""
    folders = [f"{name}/" for name in layout.others]
    return (
        f". {errors.shown(folders)} in {layout.root} are not read, because they are next to "
        f"splits: put classes into {layout.root}/train"
    )


def _natural(name: str) -> list:
    """Sort key: numbers by value, letters ignoring case, as in timm and file managers."""
    parts = re.split(r"([0-9]+)", name)  # text, digits, text ...
    return [int(part) if i % 2 else part.lower() for i, part in enumerate(parts)]
