"""Selects the reader for a source by its prefix; contains the reader for `folder:PATH`."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mixer import errors
from mixer.data.sources import splits
from mixer.data.sources.folder_layout import Layout
from mixer.prepare.entry import Entry, Reader
from mixer.prepare.imagenet import ImageNetReader
from mixer.prepare.manifest import ManifestReader
from mixer.prepare.tars import TarReader


class FolderReader(Reader):
    """PATH/<split>/<class>/**/*.jpg, or PATH/<class>/**/*.jpg for a single `train` split.

    Splits are named train, validation and test, whatever their folders are called.
    """

    def __init__(self, path: str):
        super().__init__()
        self._layout = Layout.of(path)
        self.classes = self._layout.classes
        self.unread = self._layout.others

    def files(self) -> Iterator[Path]:
        """Every image."""
        for part in self._layout.splits:
            for file, _ in self._layout.images(part, Counter()):
                yield self._layout.root / file

    def entries(self, scratch: Path) -> Iterator[Entry]:
        """Every image; its key is the path relative to PATH."""
        for part in self._layout.splits:
            split = splits.meaning(part) if self._layout.has_splits else ""
            for file, label in self._layout.images(part, self.left_out):
                yield Entry(file, split, self.classes[label], str(self._layout.root / file))


_READERS = {
    "folder": FolderReader,
    "imagenet": ImageNetReader,
    "manifest": ManifestReader,
    "tar": TarReader,
}


def open_reader(source: str) -> Reader:
    """The reader of `kind:argument`.

    Raises:
      BadInput: the kind is unknown, or the source does not exist.
    """
    kind, _, argument = source.partition(":")
    if kind not in _READERS or not argument:
        known = [f"{kind}:PATH" for kind in _READERS]
        raise errors.unknown("config.prepare.source", source, known)
    return _READERS[kind](argument)
