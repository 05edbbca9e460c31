"""Finds image files among the other files of a folder."""

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from mixer import errors
from mixer.data.pillow import SUFFIXES

# Endings of tables of images, which `manifest:` reads.
TABLES = (".csv", ".tsv", ".jsonl")

# Folders of thumbnails that macOS and Synology add next to the images.
_SYSTEM_FOLDERS = ("__MACOSX", "@eaDir")


def is_image(name: str) -> bool:
    """Decides by the extension; hidden files are not images."""
    last = name.rpartition("/")[2]
    return last.lower().endswith(SUFFIXES) and not is_hidden(last)


def is_hidden(name: str) -> bool:
    """Whether a file or folder is silently ignored."""
    return name.startswith(".") or name in _SYSTEM_FOLDERS


def ending(name: str) -> str:
    """The extension under which a file that is not an image is counted."""
    return os.path.splitext(name)[1].lower() or "no ending"


def folders(path: Path) -> list[str]:
    """The names of the folders in a folder, sorted, without hidden ones.

    Raises:
      BadInput: the folder cannot be read.
    """
    try:
        return sorted(e.name for e in os.scandir(path) if e.is_dir() and not is_hidden(e.name))
    except OSError as error:
        raise errors.BadInput(f"{path} cannot be read: {error.strerror}") from None


def below(folder: Path, left_out: Counter) -> Iterator[str]:
    """Yields the paths of all images below a folder, sorted within each folder; follows links.

    Args:
      left_out: counts the other files by extension, except hidden ones.

    Raises:
      BadInput: a folder that cannot be read.
    """

    def unreadable(error: OSError) -> None:
        raise errors.BadInput(f"{error.filename} cannot be read: {error.strerror}")

    for parent, inner, names in os.walk(folder, followlinks=True, onerror=unreadable):
        inner[:] = sorted(
            i for i in inner if not is_hidden(i) and not _links_to_ancestor(parent, i)
        )
        for name in sorted(names):
            if is_image(name):
                yield os.path.join(parent, name)
            elif not is_hidden(name):
                left_out[ending(name)] += 1


def expand(names: str, left_out: Counter, asked_by: str = "config.images") -> list[str]:
    """Expands a list of files, folders and globs to files, each once.

    Folders are searched recursively, also those that a glob without `**` matches. Folders and globs
    yield only images. A file whose name looks like a glob is that file. @FILE, or a FILE that ends
    in .txt, is a list with a file, folder or glob per line, relative to the working folder.

    Args:
      names: separated by commas; a name may also contain commas.
      left_out: see `below`.
      asked_by: the key or argument that gave the names, for messages.

    Raises:
      BadInput: a name does not exist or contains no images, or a list cannot be read.
    """
    whole = _matches(names.strip(), left_out, asked_by)
    found, parts = whole or [], [] if whole else names.split(",")
    while parts:
        for stop in range(1, len(parts) + 1):  # the shortest name that exists
            files = _matches(",".join(parts[:stop]).strip(), left_out, asked_by)
            if files is not None:
                found += files
                del parts[:stop]
                break
        else:
            raise errors.BadInput(f"{asked_by}: no file {parts[0].strip()!r}")
    if not found:
        raise errors.BadInput(f"{asked_by}={names!r} names no file")
    return list(dict.fromkeys(found))


def _matches(name: str, left_out: Counter, asked_by: str) -> list[str] | None:
    """Expands one name to files; None if nothing has this name."""
    if not name:  # after a trailing comma
        return []
    path = os.path.expanduser(name)
    if os.path.isfile(path):
        if path.lower().endswith(TABLES):
            raise errors.BadInput(
                f"{asked_by}: {name} is a table: expected images, folders, globs, or a list of "
                f"these, @FILE or FILE.txt, with one on a line"
            )
        return _listed(path, left_out, asked_by) if path.endswith(".txt") else [path]
    if name.startswith("@") and os.path.isfile(listed := os.path.expanduser(name[1:])):
        return _listed(listed, left_out, asked_by)
    several = [path] if os.path.isdir(path) else sorted(glob.glob(path, recursive=True))
    if not several:
        return None
    files = []
    for match in several:
        if os.path.isfile(match):
            if is_image(match):
                files.append(match)
            else:
                left_out[ending(match)] += 1
        elif "**" not in path or match == path:
            files += below(Path(match), left_out)
    if not files:
        only = f", only {counted(left_out)}" if left_out else ""
        raise errors.BadInput(f"{asked_by}: {name!r} contains no images{only}")
    return files


def _listed(file: str, left_out: Counter, asked_by: str) -> list[str]:
    """The files that a list names."""
    try:
        # File names need not be UTF-8.
        text = Path(file).read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise errors.BadInput(f"{asked_by}: {file} cannot be read: {error.strerror}") from None
    found: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        name = line.strip()
        is_list = name.startswith("@") or (name.endswith(".txt") and os.path.isfile(name))
        files = None if is_list else _matches(name, left_out, asked_by)
        if files is None:
            raise errors.BadInput(
                f"{asked_by}: line {number} of {file}: no image, folder or glob {name!r} in "
                f"{os.getcwd()}: expected one per line, relative to that folder or absolute"
            )
        found += files
    if not found:
        raise errors.BadInput(f"{asked_by}: the list {file} is empty: expected a file per line")
    return found


def _links_to_ancestor(parent: str, name: str) -> bool:
    """Whether a folder is a link to one of its ancestors; following it would never end."""
    path = os.path.join(parent, name)
    if not os.path.islink(path):
        return False
    return Path(os.path.realpath(parent)).is_relative_to(os.path.realpath(path))


def number(files: Sequence[str]) -> str:
    """Such as "1 file" or "2,000 files"."""
    return f"{len(files):,} file{'s' * (len(files) != 1)}"


def counted(left_out: Counter | dict[str, int]) -> str:
    """Formats counts for messages, most frequent first: "12 .txt, 3 .heic"."""
    return ", ".join(f"{count:,} {kind}" for kind, count in Counter(left_out).most_common())
