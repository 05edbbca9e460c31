"""What a path holds that is read where it lies: rows of images with labels, by split."""

import dataclasses
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from mixer import storage
from mixer.data.sources.entry import Entry


class Images(Protocol):
    """The images of a split by their row; picklable."""

    def image(self, row: int) -> bytes | np.ndarray:
        """The bytes of a file, or uint8 [H, W, C] or [H, W]."""

    def where(self, row: int) -> str:
        """Names the place of an image."""


@dataclasses.dataclass(frozen=True)
class Part:
    """The rows of one split, in the order in which they are stored.

    Attributes:
      names: of the rows; the hash of a name is the place in the order.
      labels: class names, or numbers as text; several of them as a tuple; None: it has no label. If
        the collection has outputs, each is a tuple with a number for each of them.
    """

    names: Sequence[str]
    labels: Sequence[str | tuple[str, ...] | tuple[float, ...] | None]
    images: Images


@dataclasses.dataclass(frozen=True)
class Collection:
    """What a path holds.

    Attributes:
      parts: by split, called train, validation and test if they mean these.
      classes: in label order, if the data name them; (): they are the labels found.
      files: whose sizes and times tell whether the data have changed.
      unread: the columns or arrays that are not read.
      outputs: the names of the numbers in a label, if labels are vectors; else ().
    """

    name: str
    parts: dict[str, Part]
    classes: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()
    unread: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Files:
    """Images that are files, or parts of archives."""

    entries: Sequence[Entry]

    @property
    def remote(self) -> bool:
        """Whether they are in a bucket."""
        return storage.is_remote(self.entries[0].file)

    def image(self, row: int) -> bytes:
        data = self.entries[row].read()
        if self.entries[row].offset >= 0 and len(data) != self.entries[row].size:
            raise ValueError(f"{self.entries[row].file} ends before this image does")
        return data

    def absent(self, rows: Iterable[int]) -> list[str]:
        """The files of these rows that do not exist, sorted; each folder is listed once."""
        named: dict[str, set[str]] = {}
        for row in rows:
            if not storage.is_remote(file := self.entries[row].file):
                folder, name = os.path.split(file)
                named.setdefault(folder, set()).add(name)
        found = []
        for folder, names_in_it in named.items():
            there = set(os.listdir(folder)) if os.path.isdir(folder) else set()
            files = (os.path.join(folder, name) for name in names_in_it - there)
            found += [file for file in files if not os.path.exists(file)]  # case may not matter
        return sorted(found)

    def where(self, row: int) -> str:
        entry = self.entries[row]
        return f"file {entry.file}" + (f", image {entry.key}" if entry.offset >= 0 else "")


def version_of(path: str) -> tuple[str, int]:
    """What tells a file or folder from an earlier one at its path, to cache what was read."""
    return path, os.stat(path).st_mtime_ns


def names(split: str, labels: Sequence, own: Sequence[str]) -> list[str]:
    """The name of each row: SPLIT/CLASS/FILE, as in a folder of the same images.

    So the same images come in the same order from every kind of data. Rows whose files' names are
    not unique are numbered.

    Args:
      own: the name of each row's file, or only its ending, such as ".png".
    """

    def named(row: int, file: str) -> str:
        label = labels[row] if isinstance(labels[row], str) else ""
        above, below = [part for part in (split, label) if part], file.split("/")
        for part in above:  # the file's own folders may already be these
            if part == below[0] and len(below) > 1:
                below = below[1:]
        return "/".join([*above, *below])

    def numbered(row: int) -> str:
        return named(row, f"{row:05d}{os.path.splitext('x' + own[row])[1]}")

    if any(file.startswith(".") for file in own):
        return [numbered(row) for row in range(len(own))]
    found = [named(row, file) for row, file in enumerate(own)]
    return found if len(set(found)) == len(found) else [numbered(row) for row in range(len(own))]
