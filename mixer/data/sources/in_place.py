"""The kinds of data that are read where they lie, `KIND:PATH`."""

import os
from pathlib import Path

from mixer import errors
from mixer.data.sources import (
    arrays,
    cifar,
    folder_layout,
    hub,
    image_files,
    manifest,
    parquet,
    splits,
    webdataset,
)
from mixer.data.sources.collection import Collection

_KINDS = {
    "parquet": parquet,
    "webdataset": webdataset,
    "manifest": manifest,
    "arrays": arrays,
    "cifar": cifar,
    "hf": hub,
}
NAMES = ("folder", *_KINDS)


_ENDINGS = {
    "manifest": image_files.TABLES,
    "arrays": (".npz",),
    "parquet": (".parquet",),
    "webdataset": (".tar",),
}


def meant_by(word: str) -> str:
    """KIND:PATH for a file or folder that is there, by its ending; "" if none is likely.

    Args:
      word: PATH, or UNKNOWN:PATH.
    """
    for path in (word, word.partition(":")[2]):
        place = Path(path).expanduser()
        if path and place.is_dir():
            return f"folder:{path}"
        ending = place.suffix.lower() if path and place.is_file() else ""
        if found := [kind for kind, own in _ENDINGS.items() if ending in own]:
            return f"{found[0]}:{path}"
    return ""


def is_listed(dataset: str) -> bool:
    """Whether `collect` reads it."""
    return dataset.partition(":")[0] in _KINDS


def is_in_place(dataset: str) -> bool:
    """Whether it is a folder of images, or one that `collect` reads."""
    return dataset.partition(":")[0] in NAMES


def collect(dataset: str, image_key: str = "", label_key: str = "") -> Collection:
    """What `KIND:PATH` holds.

    Args:
      image_key, label_key: the columns, endings or arrays; "": the usual ones.

    Raises:
      Missing: nothing is there.
      BadInput: it cannot be read as this kind, has no images, or names a class twice.
    """
    kind, _, path = dataset.partition(":")
    found = _KINDS[kind].collect(path, image_key, label_key)
    if not found.parts:
        raise errors.BadInput(f"{dataset} contains no images")
    named = found.classes or found.outputs
    if twice := sorted({name for name in named if named.count(name) > 1}):
        raise errors.BadInput(
            f"{dataset} has several classes or numbers called {errors.shown(twice)}: give each a "
            f"name of its own"
        )
    return found


def usual_splits(dataset: str) -> tuple[str, str]:
    """The splits to train on and to evaluate on: test, else validation, else a tenth of train."""
    kind, _, path = dataset.partition(":")
    if kind == "folder":
        root = Path(path).expanduser()
        found = folder_layout.split_folders(path) if root.is_dir() else ()
    else:
        found = _KINDS[kind].split_names(path)
    meant = set(map(splits.meaning, found))
    measured = next((part for part in (splits.TEST, splits.VALIDATION) if part in meant), None)
    return (splits.TRAIN, measured) if measured else ("train[:90%]", "train[90%:]")


def same_place(dataset: str, other: str) -> bool:
    """Whether two datasets of these kinds are one."""
    (kind, _, path), (other_kind, _, other_path) = dataset.partition(":"), other.partition(":")
    real, other_real = (os.path.realpath(os.path.expanduser(p)) for p in (path, other_path))
    return kind == other_kind and real == other_real


def may_be_moved(dataset: str, other: str) -> bool:
    """Whether they are of one kind, so that one may be the other in a new place."""
    kind = dataset.partition(":")[0]
    return kind in NAMES and kind != "hf" and kind == other.partition(":")[0]
