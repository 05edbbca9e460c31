"""Which files of a data set belong to which split, by their folders and names."""

import glob
import os
import re
from pathlib import Path

from mixer import errors, storage
from mixer.data.sources import splits
from mixer.data.sources.image_files import is_hidden
from mixer.storage import timeout

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
    found: dict[str, list[Path]] = {}
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


def _split(file: Path) -> str:
    """The split of a file by its path below the data set's folder; "" if it names none."""
    if folder := next(filter(None, map(splits.meaning, file.parts[:-1])), None):
        return folder
    if numbered := _NUMBERED.fullmatch(file.stem):
        return splits.meaning(numbered[1]) or splits.resembles(numbered[1]) or numbered[1]
    return splits.resembles(file.stem) or ""
