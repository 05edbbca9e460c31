"""Reader for `tar:PATHS`: members <split>/<class>/x.jpg, <class>/x.jpg or <class>.tar; streams."""

import glob
import re
import shutil
import stat
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from mixer import errors
from mixer.data.sources import splits, tar_members
from mixer.data.sources.entry import Entry
from mixer.data.sources.image_files import is_image
from mixer.prepare.entry import Reader

_LAYOUT = "<split>/<class>/x.jpg (split: train, validation, test), <class>/x.jpg or <class>.tar"
_WNID = re.compile(r"n\d{8}")  # the name of ImageNet's tars of one class


class TarReader(Reader):
    """PATHS: plain or compressed tars, `-` or a FIFO; commas and globs for several.

    A tar inside a tar contains the images of one class, and so does a tar named after a wnid.

    A stream or compressed tar, which has no random access, is read once; its images are saved in a
    file next to the dataset until that is complete.
    """

    def __init__(self, paths: str):
        super().__init__()
        self._paths = expand(paths)

    def files(self) -> Iterator[Path]:
        """The tars, without streams."""
        return (path for path in self._paths if str(path) != "-" and not path.is_fifo())

    def entries(self, scratch: Path) -> Iterator[Entry]:
        """Every image; its key is the member's name."""
        layouts, classes, spelled = {}, set(), {}
        with (scratch / "spool").open("wb") as spool:
            for path in self._paths:
                listed = (
                    _streamed(path, spool, self.left_out)
                    if _is_stream(path)
                    else tar_members.images(path, self.left_out)
                )
                for name, file, offset, size in listed:
                    if "/" not in name and _WNID.fullmatch(path.stem):
                        name = f"{path.stem}/{name}"
                    split, class_name = _place(path, name)
                    meaning = splits.meaning(split) or ""
                    if (other := spelled.setdefault(meaning, split)) != split:
                        raise errors.BadInput(
                            f"{path}: {other}/ and {split}/ both mean the split {meaning}"
                        )
                    layouts[bool(split)] = name
                    classes.add(class_name)
                    yield Entry(name, meaning, class_name, file, offset, size)
        if len(layouts) == 2:
            raise errors.BadInput(
                f"members with and without a split, {layouts[True]!r} and {layouts[False]!r}: "
                f"expected {_LAYOUT}"
            )
        self._check_names(classes, bool(layouts.get(True)))
        if len(classes) == 1:
            raise errors.BadInput(
                f"all images are of one class, {class_name!r}, such as {name!r}: expected {_LAYOUT}"
            )

    def _check_names(self, classes: set[str], with_splits: bool) -> None:
        """Refuses splits taken for classes, and tars of several splits whose members name none."""
        if with_splits:
            return
        if alike := splits.mistaken(sorted(classes)):
            raise errors.BadInput(
                f"{', '.join(alike)} look like splits but are not: expected {_LAYOUT}"
            )
        of = {splits.resembles(path.name): path for path in self._paths}
        if len(of) > 1 and None not in of:
            raise errors.BadInput(
                f"{' and '.join(map(str, of.values()))} look like splits, but their members do not "
                f"name any: expected {_LAYOUT} in them"
            )


def expand(paths: str) -> list[Path]:
    """The paths that commas and globs stand for, in order.

    Raises:
      BadInput: one does not exist.
    """
    found = []
    whole = Path(paths).expanduser().is_file()  # its name may contain commas
    for part in [paths] if whole else filter(None, map(str.strip, paths.split(","))):
        path = Path(part).expanduser()
        matches = [part] if part == "-" or path.exists() else sorted(glob.glob(str(path)))
        if not matches:
            raise errors.BadInput(f"tar {part!r}: no such file")
        found += [Path(m) if m == "-" else Path(m).expanduser().absolute() for m in matches]
    return found


def _streamed(path: Path, spool: BinaryIO, left_out: Counter) -> Iterator[tuple]:
    if str(path) == "-":
        yield from _copied(path, sys.stdin.buffer, spool, left_out)
    else:
        with path.open("rb") as stream:
            yield from _copied(path, stream, spool, left_out)


def _copied(path: Path, stream: BinaryIO, spool: BinaryIO, left_out: Counter) -> Iterator[tuple]:
    """Like `tar_members.images`, for a stream: copies the images to `spool`."""
    plain = _decompressed(stream)
    with (
        tar_members.readable(path),
        tarfile.open(fileobj=plain, mode="r|", tarinfo=tar_members.Strict) as tar,
    ):
        for member in tar_members.each(path, tar):
            if is_image(member.name):
                offset = spool.tell()
                shutil.copyfileobj(tar.extractfile(member), spool)
                spool.flush()  # the caller reads it right away
                yield tar_members.member_name(path, member), spool.name, offset, member.size
            elif tar_members.is_tar(member):
                for name, *place in _copied(path, tar.extractfile(member), spool, left_out):
                    yield f"{PurePosixPath(member.name).stem}/{name}", *place
            else:
                tar_members.leave_out(member, left_out)
        tar_members.drain(plain)


def _decompressed(stream: BinaryIO) -> BinaryIO:
    """The stream itself if it is plain; tarfile's own way would not notice a damaged gzip."""
    start = stream.peek(5)
    opens = [opens for magic, opens in tar_members.COMPRESSED.items() if start.startswith(magic)]
    return opens[0](stream) if opens else stream


def _is_stream(path: Path) -> bool:
    if str(path) == "-" or not stat.S_ISREG(path.stat().st_mode):
        return True
    with path.open("rb") as file:
        return file.read(5).startswith(tuple(tar_members.COMPRESSED))


def _place(path: Path, name: str) -> tuple[str, str]:
    """(split or "", class) of a member; folders before the split are ignored."""
    folders = name.split("/")[:-1]
    at = next((i for i, folder in enumerate(folders) if splits.meaning(folder)), None)
    if not folders or (at and at == len(folders) - 1):
        raise errors.BadInput(f"{path}: member {name!r} has no class: expected {_LAYOUT}")
    # A single folder is a class, whatever its name; see `_check_names`.
    return ("", folders[0]) if at is None or len(folders) == 1 else (folders[at], folders[at + 1])
