"""Which files of a data set belong to which split, by their folders and names."""

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from mixer import errors, storage
from mixer.data.sources import splits
from mixer.data.sources.image_files import is_hidden
from mixer.storage import bucket, timeout

# As the Hugging Face Hub names files: SPLIT-00000-of-00002.parquet.
_NUMBERED = re.compile(r"(.+?)-\d+-of-\d+(-.*)?")


def find(kind: str, path: str, ending: str) -> dict[str, list[Path]]:
    """{split: files, sorted by path} of a file, a folder with its subfolders, or a glob.

    The split of a file is the first folder below PATH that is named like one, else the beginning of
    a name such as `test-00000-of-00002`, else a word in its name; files without any are `train`.

    Args:
      kind: of the dataset, for messages.
      ending: of the files, such as ".parquet".

    Raises:
      Missing: nothing is there.
      BadInput: a bucket, files with and without a split, or several data sets in one folder.
    """
    name = f"{kind}:{path}"
    if storage.is_remote(path):
        raise errors.BadInput(
            f"{name}: expected a path on this machine. Mount the bucket or copy the files; for a "
            f"large data set prepare it (config.run=prepare) and copy the result to the bucket"
        )
    root = Path(path).expanduser().absolute()
    files = timeout.within(root, lambda: _files(root, ending))
    if not files:
        raise errors.Missing(f"dataset {name!r}: {root} is not a file or folder of *{ending}")
    above = root if root.is_dir() else Path(os.path.commonpath([file.parent for file in files]))
    return _by_split(name, files, above)


def find_in_bucket(kind: str, url: str, ending: str) -> dict[str, list[storage.FileInfo]]:
    """As `find`, for gs://BUCKET/FOLDER, a file in it, or a glob whose `*` matches no slash."""
    name, url = f"{kind}:{url}", url.rstrip("/")
    fixed = re.split(r"[*?[]", url)[0]
    single = url.endswith(ending) or fixed != url
    try:
        listed = timeout.within(url, lambda: bucket.listing(fixed if single else f"{fixed}/"))
    except storage.StoreError as error:
        raise errors.BadInput(f"dataset {name!r}: {error}") from None
    infos = {
        PurePosixPath("/", info.path.removeprefix("gs://")): info
        for info in sorted(listed)
        if info.path.endswith(ending)
    }
    wanted = "/" + url.removeprefix("gs://")
    found = [file for file in infos if not single or file.match(wanted)]
    found = [file for file in found if not any(map(is_hidden, file.parts))]
    if not found:
        raise errors.Missing(f"dataset {name!r}: {url} is not a file or folder of *{ending}")
    several = os.path.commonpath([file.parent for file in found])
    above = PurePosixPath(several if single else wanted)
    parts = _by_split(name, found, above)
    return {split: [infos[file] for file in files] for split, files in parts.items()}


def _by_split(name: str, files: Sequence[PurePath], above: PurePath) -> dict[str, list[Any]]:
    """The files of each split, by their paths below `above`."""
    found: dict[str, list[PurePath]] = {}
    for file in files:
        found.setdefault(_split(file.relative_to(above)), []).append(file)
    if "" in found and len(found) > 1:
        other = next(split for split in found if split)
        raise errors.BadInput(
            f"{name}: {found[''][0]} names no split, but {found[other][0]} is of {other}: put all "
            f"files into folders train, validation and test, or name one of them"
        )
    for split, several in found.items():
        if len(folders := sorted({str(file.parent) for file in several})) > 1:
            raise errors.BadInput(
                f"{name}: files of the split {split or splits.TRAIN} are in "
                f"{errors.shown(folders)}: are these several data sets? Name one of the folders"
            )
    return {split or splits.TRAIN: several for split, several in found.items()}


def _files(root: Path, ending: str) -> list[Path]:
    if root.is_file():
        return [root]
    if root.is_dir():
        found = root.rglob(f"*{ending}")
    else:
        found = map(Path, glob.glob(str(root), recursive=True))
    return sorted(
        file
        for file in found
        if file.is_file()
        and file.name.endswith(ending)
        and not any(map(is_hidden, file.parts[len(root.parent.parts) :]))
    )


def _split(file: PurePath) -> str:
    """The split of a file by its path below the data set's folder; "" if it names none."""
    if folder := next(filter(None, map(splits.meaning, file.parts[:-1])), None):
        return folder
    if numbered := _NUMBERED.fullmatch(file.stem):
        return splits.meaning(numbered[1]) or splits.resembles(numbered[1]) or numbered[1]
    return splits.resembles(file.stem) or ""
