"""Resolves what a user names (published name, address, Hub folder) to a local file or a workdir."""

import dataclasses
from pathlib import Path
from urllib.parse import urlsplit

from mixer import errors
from mixer.weights import download, formats, hf, zoo
from mixer.weights.formats import hub_folder


@dataclasses.dataclass(frozen=True)
class Located:
    """Where parameters are.

    Attributes:
      path: the local file, or the path as given if it is a workdir, which may be remote.
      sha256: the digest of a downloaded file; else None.
      entry: the entry of a published name; else None.
      folder: the description of a Hub folder or repository; else None.
    """

    path: str
    sha256: str | None = None
    entry: zoo.Published | None = None
    folder: hub_folder.Folder | None = None

    @property
    def is_file(self) -> bool:
        """Whether it is a weights file; else it is a workdir."""
        return self.path.lower().endswith(formats.ENDINGS) and not Path(self.path).is_dir()


def locate(path: str) -> Located:
    """Resolves a published name, an address or a Hub folder to a local file.

    Args:
      path: a name in `list_pretrained`; gs://BUCKET/PATH, https://... or
        hf://ORG/REPO[/FILE][@REVISION] of an .npz or .safetensors file; a local file; a local Hub
        folder; anything else (also gs:// without such an ending) is a workdir.

    Raises:
      BadInput, Failure: the name or file does not exist, the file is of another kind, or it cannot
        be fetched; see `download.fetch` and `hub_folder.find`.
    """
    entry, address = _parsed(path)
    if not address.startswith(download.SCHEMES):
        return Located(entry.url, entry=entry) if entry else _local(path)
    if not _has_file_ending(address):
        if address.startswith("gs://"):
            return Located(path)
        shown = download.without_login(address)
        raise errors.BadInput(f"{shown!r}: expected a file that ends in .npz or .safetensors")
    fetched = download.fetch(address)
    folder = None if entry else _of_repository(path, address, fetched.file)
    return Located(str(fetched.file), fetched.sha256, entry, folder)


def _of_repository(path: str, address: str, weights: Path) -> hub_folder.Folder | None:
    """The description in hf://ORG/REPO's config.json; None for a single file or without that."""
    config = hf.sibling(address, hub_folder.CONFIG)
    if config is None:
        return None
    try:
        return hub_folder.described(path, weights, download.fetch(config).file)
    except hf.NoSuchFile:
        return None


def is_workdir(path: str) -> bool:
    """Whether `locate` would take `path` for a workdir, not a file.

    Fetches nothing, and the workdir need not exist.

    Raises:
      BadInput: see `locate`.
    """
    entry, address = _parsed(path)
    if entry:
        return False
    if address.startswith(download.SCHEMES):
        return address.startswith("gs://") and not _has_file_ending(address)
    return not _local(path).is_file


def _parsed(path: str) -> tuple[zoo.Published | None, str]:
    """The entry if `path` is a published name, and the address or path that it stands for."""
    try:
        if "\0" in path:
            raise ValueError("null byte")
        entry = zoo.find(path)
    except (OSError, ValueError, RuntimeError) as error:  # too long, not allowed, no such user
        raise errors.BadInput(f"{path[:99]!r} cannot be a path: {error}") from None
    scheme, colon, place = (entry.url if entry else path).partition("://")
    return entry, scheme.lower() + colon + place


def _has_file_ending(address: str) -> bool:
    return Path(urlsplit(download.url_of(address)).path).suffix.lower() in formats.ENDINGS


def _local(path: str) -> Located:
    if folder := hub_folder.find(path):
        return Located(str(folder.weights), folder=folder)
    file = Path(path).expanduser()
    ending = file.suffix.lower()
    if "://" in path and ending in (*formats.ENDINGS, *formats.PICKLES):
        raise errors.BadInput(
            f"{download.without_login(path)!r}: expected an address that begins with one of "
            f"{', '.join(download.SCHEMES)}"
        )
    if ending in formats.PICKLES and not file.exists():
        raise errors.BadInput(f"{path!r}: there is no such file")
    if ending in formats.PICKLES and file.is_file():
        raise errors.BadInput(
            f"{path!r} is a pickle, which could run code and is never read: "
            f"{formats.from_torch(path)}"
        )
    if file.is_file() and ending not in formats.ENDINGS:
        raise errors.BadInput(
            f"{path!r}: expected a workdir, a Hub folder, or a file that ends in .npz or "
            f".safetensors"
        )
    return Located(path)
