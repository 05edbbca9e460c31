"""Selects the reader for a source by its prefix; contains those of what is also read in place."""

import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from mixer import errors, storage
from mixer.data.sources import in_place, label_kinds, splits
from mixer.data.sources.collection import Files
from mixer.data.sources.entry import Entry
from mixer.data.sources.folder_layout import Layout
from mixer.data.sources.manifest import Manifest
from mixer.prepare.entry import Reader
from mixer.prepare.imagenet import ImageNetReader
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


class ManifestReader(Reader):
    """The rows of a `Manifest`, without a list of them in memory.

    Args:
      label_key: columns of numbers, with commas between them; "": labels are classes.
    """

    integer_labels = True

    def __init__(self, path: str, label_key: str = ""):
        super().__init__()
        self._manifest = Manifest(path, label_kinds.column_names(label_key))

    def files(self) -> Iterator[Path]:
        """The manifest only; the listing records the archives."""
        yield self._manifest.path

    def entries(self, scratch: Path) -> Iterator[Entry]:
        """Every row."""
        for entry in self._manifest.entries():
            self.outputs = self.outputs or self._manifest.outputs(entry.labels)
            yield entry
        self.unread = self._manifest.unread


class CollectionReader(Reader):
    """What `in_place.collect` reads, under the names that give the order when it is read in place.

    Images that are not files by themselves are saved in a file next to the dataset until that is
    complete: those of tables as they are, arrays as PNG.
    """

    integer_labels = True

    def __init__(self, source: str, image_key: str = "", label_key: str = ""):
        super().__init__()
        self._found = in_place.collect(source, image_key, label_key)
        self.classes, self.outputs = self._found.classes or None, self._found.outputs
        self.unread = self._found.unread

    def files(self) -> Iterator[Path]:
        """The files of the collection."""
        return iter(self._found.files)

    def entries(self, scratch: Path) -> Iterator[Entry]:
        """Every row.

        Raises:
          BadInput: an image cannot be read, or has no label where others of its split have one.
        """
        with (scratch / "spool").open("wb") as spool:
            for split, part in self._found.parts.items():
                if all(labels is None for labels in part.labels):
                    self.unread = (*self.unread, f"split {split}, which has no labels")
                    continue
                for row, (name, labels) in enumerate(zip(part.names, part.labels, strict=True)):
                    where = f"{self._found.name}: {part.images.where(row)}"
                    if labels is None:
                        raise errors.BadInput(f"{where} has no label")
                    if isinstance(part.images, Files):
                        _, _, _, *place = part.images.entries[row]
                    else:
                        try:
                            data = _encoded(part.images.image(row))
                        except (OSError, ValueError) as error:
                            raise errors.BadInput(f"{where}: {error}") from None
                        place = spool.name, spool.tell(), len(data)
                        spool.write(data)
                        spool.flush()  # the caller reads it right away
                    yield Entry(name, split, labels, *place)


def _encoded(image: bytes | np.ndarray) -> bytes:
    """The bytes of an image file; pixels become a PNG, which keeps them."""
    if isinstance(image, bytes):
        return image
    file = io.BytesIO()
    Image.fromarray(image.squeeze(2) if image.shape[2:] == (1,) else image).save(file, "PNG")
    return file.getvalue()


_READERS = {
    "folder": FolderReader,
    "imagenet": ImageNetReader,
    "manifest": ManifestReader,
    "tar": TarReader,
}


_COLLECTED = tuple(kind for kind in in_place.NAMES if kind not in _READERS)


def keys_of(source: str) -> tuple[str, ...]:
    """The keys of `config.input` that `open_reader` takes for this source."""
    kind = source.partition(":")[0]
    if kind in _COLLECTED:
        return "image_key", "label_key"
    return ("label_key",) if kind == "manifest" else ()


def needed_keys(source: str, image_key: str = "", label_key: str = "") -> dict[str, str]:
    """The keys without which the source would be read in another way, or not at all.

    So the column that would be chosen anyway is not another source if it is named.
    """
    given = {"image_key": image_key, "label_key": label_key}
    return {key: value for key, value in given.items() if value and _changes(source, given, key)}


def _changes(source: str, given: dict[str, str], key: str) -> bool:
    if source.startswith("manifest:"):
        return True  # a column of classes needs no key
    try:
        without = in_place.collect(source, **given | {key: ""})
    except errors.BadInput:
        return True
    return without.parts != in_place.collect(source, **given).parts


def open_reader(source: str, image_key: str = "", label_key: str = "") -> Reader:
    """The reader of `kind:argument`.

    Args:
      image_key, label_key: the columns, endings or arrays, for a source with these `keys_of`.

    Raises:
      BadInput: the kind is unknown, or the source does not exist.
    """
    kind, _, argument = source.partition(":")
    if not argument or kind not in (*_READERS, *_COLLECTED):
        known = [f"{kind}:PATH" for kind in (*_READERS, *_COLLECTED)]
        raise errors.unknown("config.prepare.source", source, known)
    if storage.is_remote(argument):
        raise errors.BadInput(
            f"config.prepare.source={source}: expected a path on this machine: copy the files of "
            f"the bucket here first"
        )
    if kind in _COLLECTED:
        return CollectionReader(source, image_key, label_key)
    if kind == "manifest":
        return ManifestReader(argument, label_key)
    return _READERS[kind](argument)
