"""The kinds of sources: `folder:PATH`, `tar:PATHS`, `manifest:FILE`, `imagenet:PATH`."""

from mixer import errors
from mixer.data.prepare.entry import Reader
from mixer.data.prepare.folder import FolderReader
from mixer.data.prepare.imagenet import ImageNetReader
from mixer.data.prepare.manifest import ManifestReader
from mixer.data.prepare.tars import TarReader

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
