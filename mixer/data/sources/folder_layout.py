"""Decides whether the folders in a folder of images are splits, classes, or neither."""

import dataclasses
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from mixer import errors
from mixer.data.sources import image_files, splits
from mixer.data.sources.hash_order import hash_key

EXPECTED = "expected PATH/train/<class>/*.jpg (or PATH/<class>/*.jpg) with two or more classes"


@dataclasses.dataclass(frozen=True)
class Layout:
    """The splits and classes of a folder of images.

    A folder that is named like a split and contains folders is a split, and these are its classes.
    If there is none, the folders in PATH are the classes, and all images are `train`.

    Attributes:
      name: the dataset's, for messages.
      splits: {split: its folder}; the split is named like the folder, or `train` for PATH itself.
      classes: the names; the label is the index.
      classes_from: the split whose folders define the classes; "" if all do or they were given.
      others: the folders next to the splits, which are not read.
    """

    name: str
    root: Path
    splits: dict[str, Path]
    classes: tuple[str, ...]
    classes_from: str
    others: tuple[str, ...]

    @classmethod
    def of(cls, path: str, classes: Sequence[str] = ()) -> "Layout":
        """Inspects the folders; `classes` are the names in label order, if known.

        Raises:
          Missing: PATH is not a folder.
          BadInput: it has fewer than two classes, or is ambiguous.
        """
        name, root = f"folder:{path}", Path(path).expanduser().absolute()
        if not root.is_dir():
            raise errors.Missing(f"dataset {name!r}: {root} is not a folder")
        found = image_files.folders(root)
        places = split_folders(path)
        others = tuple(folder for folder in found if folder not in places) if places else ()
        if not places:
            _check_classes(name, root, found, classes)
            places = {splits.TRAIN: root}
        train = next((part for part in places if splits.meaning(part) == splits.TRAIN), "")
        if classes:
            return cls(name, root, places, tuple(classes), "", others)
        teachers = [places[train]] if train else places.values()
        names = sorted({folder for place in teachers for folder in image_files.folders(place)})
        if len(names) < 2:
            where = places[train] if train else root
            raise errors.BadInput(
                f"{name}: {where} contains {len(names)} folders: {EXPECTED}{_hint(where)}"
            )
        return cls(name, root, places, tuple(names), train, others)

    @property
    def has_splits(self) -> bool:
        """Whether the splits are folders in PATH."""
        return self.root not in self.splits.values()

    def images(self, split: str, left_out: Counter) -> Iterator[tuple[str, int]]:
        """Yields (path below `root`, label) of the images in a split's folder, class by class.

        Args:
          left_out: counts the files that are not images, by extension.

        Raises:
          BadInput: a class that is not among `classes`, or a class of the training split without
            images.
        """
        place, above = self.splits[split], f"{str(self.root).rstrip('/')}/"
        # A Mac may encode a name in other Unicode characters than other systems do.
        label_of = {unicodedata.normalize("NFC", c): i for i, c in enumerate(self.classes)}
        seen = set()
        for folder in image_files.folders(place):
            label = label_of.get(unicodedata.normalize("NFC", folder))
            if label is None:
                raise self._unknown_classes(place, label_of)
            if label in seen:
                raise errors.BadInput(f"{self.name}: {place} contains two folders {folder!r}")
            count, before = 0, left_out.copy()
            for file in image_files.below(place / folder, left_out):
                count += 1
                yield file.removeprefix(above), label
            if not count and split == self.classes_from:
                only = image_files.counted(left_out - before)
                raise errors.BadInput(
                    f"{self.name}: class {folder!r} contains no images{only and f', only {only}'}: "
                    f"fill or remove {place / folder}. The classes: {errors.shown(self.classes)}"
                )
            seen.add(label)
        strays = [e.name for e in os.scandir(place) if e.is_file()]
        if strays := [e for e in strays if image_files.is_image(e)]:
            left_out["images outside of class folders"] += len(strays)

    def listed(self, split: str, left_out: Counter) -> list[tuple[str, int]]:
        """`images` in hash order."""
        return sorted(self.images(split, left_out), key=lambda file: hash_key(file[0]))

    def _unknown_classes(self, place: Path, known: dict[str, int]) -> errors.BadInput:
        strange = [
            folder
            for folder in image_files.folders(place)
            if unicodedata.normalize("NFC", folder) not in known
        ]
        if self.classes_from:
            return errors.BadInput(
                f"{self.name}: {place} contains classes that the training split lacks: "
                f"{', '.join(strange)}"
            )
        first = str(errors.unknown("class", strange[0], self.classes)).split(" Known:")[0]
        return errors.BadInput(
            f"{self.name}: {place} contains {len(strange)} folders that are none of the "
            f"{len(self.classes):,} expected classes ({errors.shown(self.classes)}): {first}"
        )


def split_folders(path: str) -> dict[str, Path]:
    """{name: folder} of the splits in PATH; {} if PATH directly contains the classes.

    Raises:
      BadInput: two folders mean the same split.
    """
    root = Path(path).expanduser().absolute()
    found = [name for name in image_files.folders(root) if splits.meaning(name)]
    places = {name: root / name for name in found if image_files.folders(root / name)}
    meant = {}
    for name in places:
        other = meant.setdefault(splits.meaning(name), name)
        if other != name:
            raise errors.BadInput(
                f"folder:{path}: {other} and {name} both mean the split "
                f"{splits.meaning(name)}: merge them, or move one away"
            )
    return places


def _check_classes(name: str, root: Path, found: list[str], classes: Sequence[str]) -> None:
    """Refuses class folders in PATH that appear to be splits or to contain splits."""
    if alike := splits.mistaken([folder for folder in found if folder not in classes]):
        raise errors.BadInput(
            f"{name}: {', '.join(alike)} in {root} look like splits but are not: a split is named "
            f"train, validation or test (or another usual spelling) and contains a folder for each "
            f"class. If they are classes, put all classes into {root}/train"
        )
    for folder in found:
        inner = [i for i in image_files.folders(root / folder) if splits.meaning(i)]
        whole = [i for i in inner if image_files.folders(root / folder / i)]
        if whole:
            raise errors.BadInput(
                f"{name}: {root / folder} contains {', '.join(inner)}, which look like splits; did "
                f"you mean folder:{Path(name.removeprefix('folder:')) / folder}?"
            )
        if len({splits.meaning(i) for i in inner}) > 1:
            raise errors.BadInput(
                f"{name}: {root / folder} contains {', '.join(inner)}, which look like splits of "
                f"one class: expected PATH/<split>/<class>, not PATH/<class>/<split>"
            )


def _hint(where: Path) -> str:
    """Suggests a fix from what is found where classes were expected."""
    below = image_files.folders(where)
    for place in (where / folder for folder in below):
        while len(inner := image_files.folders(place)) == 1 and not splits.meaning(inner[0]):
            place /= inner[0]
        if inner:
            return f". Did you mean folder:{place}?"
    names = sorted(e.name for e in os.scandir(where) if e.is_file())
    if images := sum(map(image_files.is_image, names)):
        return (
            f". It directly contains {images:,} images: if a table has their labels, give that: "
            f"manifest:FILE"
        )
    archives = [n for n in names if n.endswith((".zip", ".tar", ".tgz", ".gz", ".rar", ".7z"))]
    return f". Unpack {archives[0]} first" if archives else ""
