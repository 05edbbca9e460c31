"""Finds image files among the other files of a folder."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mixer import errors
from mixer.data.formats import SUFFIXES

# What macOS and Synology put beside the images: thumbnails, which are not meant.
_FOREIGN = ("__MACOSX", "@eaDir")


def is_image(name: str) -> bool:
    """By its ending; hidden files are none."""
    last = name.rpartition("/")[2]
    return last.lower().endswith(SUFFIXES) and not is_hidden(last)


def is_hidden(name: str) -> bool:
    """Whether a file or folder is left out without a word."""
    return name.startswith(".") or name in _FOREIGN


def ending(name: str) -> str:
    """The ending by which a file that is no image is counted."""
    return os.path.splitext(name)[1].lower() or "no ending"


def folders(path: Path) -> list[str]:
    """The names of the folders in a folder, sorted; hidden ones are left out.

    Raises:
      BadInput: it cannot be read.
    """
    try:
        return sorted(e.name for e in os.scandir(path) if e.is_dir() and not is_hidden(e.name))
    except OSError as error:
        raise errors.BadInput(f"{path} cannot be read: {error.strerror}") from None


def below(folder: Path, left_out: Counter) -> Iterator[str]:
    """The paths of all images below a folder, sorted within each folder; links are followed.

    Args:
      left_out: counts the other files by their endings; hidden ones do not count.

    Raises:
      BadInput: a folder that cannot be read.
    """

    def unreadable(error: OSError) -> None:
        raise errors.BadInput(f"{error.filename} cannot be read: {error.strerror}")

    for parent, inner, names in os.walk(folder, followlinks=True, onerror=unreadable):
        inner[:] = sorted(i for i in inner if not is_hidden(i) and not _leads_up(parent, i))
        for name in sorted(names):
            if is_image(name):
                yield os.path.join(parent, name)
            elif not is_hidden(name):
                left_out[ending(name)] += 1


def _leads_up(parent: str, name: str) -> bool:
    """Whether a folder is a link to one that it lies in, which would never end."""
    path = os.path.join(parent, name)
    if not os.path.islink(path):
        return False
    return Path(os.path.realpath(parent)).is_relative_to(os.path.realpath(path))


def counted(left_out: Counter | dict[str, int]) -> str:
    """For messages: "12 .txt, 3 .heic"; the most frequent first."""
    return ", ".join(f"{count:,} {kind}" for kind, count in Counter(left_out).most_common())
