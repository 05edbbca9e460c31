"""An image by the place of its bytes: a file, or a part of an archive."""

from typing import NamedTuple

from mixer import errors, storage


class Entry(NamedTuple):
    """An image before it is read.

    Attributes:
      key: its unique name in the dataset; the name's hash determines its position.
      split: such as "train"; "" if the source does not name one.
      labels: class names; a plain string if the source gives exactly one; or numbers.
      file: path of the file or archive with its bytes; it may be gs://BUCKET/PATH.
      offset, size: position of its bytes in an archive; offset -1 means the whole file, of any
        size.
    """

    key: str
    split: str
    labels: str | tuple[str, ...] | tuple[float, ...]
    file: str
    offset: int = -1
    size: int = 0

    def read(self) -> bytes:
        """The bytes, as far as they are there.

        Raises:
          OSError, StoreError: the file cannot be read.
        """
        if self.offset < 0:
            return storage.read(self.file)
        return storage.read(self.file, self.offset, self.offset + self.size) if self.size else b""


def checked_name(name: str, where: str) -> str:
    """An archive member's name or a manifest's path without a leading "./".

    Raises:
      BadInput: it leads out of its folder ("..").
    """
    while name.startswith("./"):
        name = name[2:]
    if ".." in name.replace("\\", "/").split("/"):
        raise errors.BadInput(f"{where}: {name!r} leads out of its folder; rename it")
    return name
