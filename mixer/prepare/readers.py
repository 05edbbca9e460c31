"""The kinds of sources: `folder:PATH`, `tar:PATHS`, `manifest:FILE`, `imagenet:PATH`."""

from mixer import errors
from mixer.prepare.entry import Reader
from mixer.prepare.folder import FolderReader
from mixer.prepare.imagenet import ImageNetReader
from mixer.prepare.manifest import ManifestReader
from mixer.prepare.tars import TarReader

_READERS = {
    "folder": FolderReader,
    "imagenet": ImageNetReader,
    "manifest": ManifestReader,
    "tar": TarReader,
}


def open_reader(source: str) -> Reader:
    """The reader of `kind:argument`.

    Raises:
      BadInput: unknown kind, or a source that is not there.
    """
    kind, _, argument = source.partition(":")
    if kind not in _READERS or not argument:
        known = [f"{kind}:PATH" for kind in _READERS]
        raise errors.unknown("config.prepare.source", source, known)
    return _READERS[kind](argument)
