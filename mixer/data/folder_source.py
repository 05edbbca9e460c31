"""A folder of images as a source."""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mixer import errors
from mixer.data import records
from mixer.data.formats import SUFFIXES
from mixer.data.splits import absolute_ranges


@dataclasses.dataclass(frozen=True)
class FolderSource:
    """Images as PATH/<split>/<class>/**/*.jpg; without split folders, all of PATH is `train`.

    The classes are the names of the training split's folders, sorted. Files are listed in the
    order of a hash of their path below PATH, so that a range of a split holds every class in
    proportion.
    """

    name: str
    split: str
    classes: Sequence[str]
    root: str
    files: tuple[tuple[str, int], ...]

    @classmethod
    def open(cls, path: str, split: str) -> "FolderSource":
        name, root = f"folder:{path}", Path(path).expanduser()
        places, classes = folder_layout(name, root)
        wanted = [part for part in places if part in split] or places
        listed = {part: _list_images(name, root, places[part], classes) for part in wanted}
        sizes = {part: len(files) for part, files in listed.items()}
        files = []
        for part, chosen in absolute_ranges(name, split, sizes):
            files += listed[part][chosen]
        if not files:
            raise errors.BadInput(f"{name}: split {split!r} holds no images; {_LAYOUT}")
        return cls(name, split, tuple(classes), str(root), tuple(files))

    @property
    def identity(self) -> tuple[tuple[str, int], ...]:
        """The files, for `sources.fingerprint`."""
        return self.files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        file, label = self.files[index]
        return {"image": (Path(self.root) / file).read_bytes(), "label": label}

    def where(self, index: int) -> str:
        return (
            f"dataset {self.name}, split {self.split}, example {index}, file {self.files[index][0]}"
        )


_LAYOUT = "expected PATH/train/<class>/*.jpg (or PATH/<class>/*.jpg) with two or more classes"


def folder_layout(name: str, root: Path) -> tuple[dict[str, Path], list[str]]:
    """The folder of each split and the class names; `name` is for the messages.

    Raises:
      BadInput: it is no folder, or has fewer than two classes.
    """
    if not root.is_dir():
        raise errors.Missing(f"dataset {name!r}: {root.absolute()} is not a folder")
    folders = _folders(root)
    places = {part: root / part for part in folders} if "train" in folders else {"train": root}
    classes = _folders(places["train"])
    if len(classes) < 2:
        raise errors.BadInput(f"{name}: {places['train']} holds {len(classes)} folders: {_LAYOUT}")
    return places, classes


def image_files(
    name: str, root: Path, folder: Path, classes: list[str]
) -> Iterator[tuple[str, int]]:
    """(path below root, label) of the images in a split's folder.

    Raises:
      BadInput: a class that is not among `classes`.
    """
    strange = sorted(set(_folders(folder)) - set(classes))
    if strange:
        raise errors.BadInput(
            f"{name}: {folder} holds classes that the training split lacks: {', '.join(strange)}"
        )
    for label, class_name in enumerate(classes):
        for parent, folders, names in os.walk(folder / class_name, followlinks=True):
            folders.sort()
            below = Path(parent).relative_to(root)
            for file in sorted(names):
                if file.lower().endswith(SUFFIXES) and file[0] != ".":
                    yield (below / file).as_posix(), label


def _folders(path: Path) -> list[str]:
    return sorted(e.name for e in os.scandir(path) if e.is_dir() and not e.name.startswith("."))


def _list_images(name: str, root: Path, folder: Path, classes: list[str]) -> list[tuple[str, int]]:
    """[(path below root, label)] of a split's folder, in hash order."""
    files = image_files(name, root, folder, classes)
    return sorted(files, key=lambda file: records.hash_key(file[0]))
