"""The kinds of sources: `folder:PATH`, `tar:PATHS`, `manifest:FILE`, `imagenet:PATH`."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from mixer import errors
from mixer.data.prepare import folder, imagenet, manifest, tars
from mixer.data.prepare.entry import Entry


class Reader(Protocol):
    """Lists the images of a source.

    Attributes:
      dataset: the TFDS name that the result must have; "" for a free choice.
      classes: class names, the label is the index; None: those found, sorted.
      integer_labels: found classes that are all integers are the labels themselves.
      expected: examples that each split must have; empty: any.
      encoding: of TFDS's image feature, "jpeg" or "png"; "": as found.
    """

    dataset: str
    classes: Sequence[str] | None
    integer_labels: bool
    expected: Mapping[str, int]
    encoding: str

    def files(self) -> Iterable[Path]:
        """The files by whose sizes and times a change of the source is noticed."""
        ...

    def entries(self, scratch: Path) -> Iterator[Entry]:
        """The images in any order; a stream's bytes are kept in the folder `scratch`."""
        ...


_READERS: dict[str, Callable[[str], Reader]] = {
    "folder": folder.FolderReader,
    "imagenet": imagenet.ImageNetReader,
    "manifest": manifest.ManifestReader,
    "tar": tars.TarReader,
}


def register_reader(kind: str, factory: Callable[[str], Reader]) -> None:
    """Makes sources called `kind:ARGUMENT` come from your own code: `factory(ARGUMENT)`."""
    _READERS[kind] = factory


def open_reader(source: str) -> Reader:
    """The reader of `kind:argument`.

    Raises:
      BadInput: unknown kind, or a source that is not there.
    """
    kind, _, argument = source.partition(":")
    if kind not in _READERS or not argument:
        raise errors.unknown("config.prepare.source", source, [f"{kind}:PATH" for kind in _READERS])
    return _READERS[kind](argument)
