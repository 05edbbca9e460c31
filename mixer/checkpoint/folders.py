"""The folders of a workdir's checkpoints: which are whole, and where one lies that is replaced.

A step that is saved again lies in `<workdir>/replaced` until the new one is whole.
"""

import re
from collections.abc import Callable

from etils import epath

from mixer import storage

# What Orbax writes last into a checkpoint in an object store.
SEAL = "commit_success.txt"
_REPLACED = re.compile(r"\d+(\.\d+)?")


def replaced(directory: epath.Path) -> epath.Path:
    """Where steps of `<workdir>/checkpoints` lie that are saved again."""
    return directory.parent / "replaced"


def is_whole(folder: epath.Path) -> bool:
    """Whether all of a checkpoint is there."""
    # In an object store the folder is there before all of it is.
    return (folder / SEAL if storage.is_remote(folder) else folder).exists()


def newest(directory: epath.Path) -> epath.Path | None:
    """The newest whole checkpoint, be it one that the next start puts back; None without any."""
    kept = max(_whole(directory, str.isdecimal), key=_order, default=None)
    aside = max(_whole(replaced(directory), _REPLACED.fullmatch), key=_order, default=None)
    if aside and (kept is None or _order(aside)[0] > _order(kept)[0]):
        return aside
    return kept


def put_back(directory: epath.Path) -> None:
    """Puts back the step whose saving again was not finished.

    Raises:
      Unwritable: the disk or the store does not take it.
    """
    found = newest(directory)
    if found and found.parent == replaced(directory):
        place = directory / found.name.partition(".")[0]
        with storage.naming(place):
            place.rmtree(missing_ok=True)  # a part of what was to replace it
        storage.move(found, place, SEAL)


def set_aside(checkpoint: epath.Path, folder: epath.Path) -> epath.Path:
    """Moves a checkpoint into a folder where one of that name may be already.

    Returns:
      Where it lies now.

    Raises:
      Unwritable: the disk or the store does not take it.
    """
    step = checkpoint.name
    names = [step, *(f"{step}.{i}" for i in range(1, 1000))]
    target = next(folder / name for name in names if not (folder / name).exists())
    storage.move(checkpoint, target, SEAL)
    return target


def _whole(folder: epath.Path, of_a_checkpoint: Callable) -> list[epath.Path]:
    entries = folder.iterdir() if folder.exists() else ()
    return [entry for entry in entries if of_a_checkpoint(entry.name) and is_whole(entry)]


def _order(checkpoint: epath.Path) -> tuple[int, ...]:
    """The step; of several in `replaced` the one that was the newest."""
    return tuple(map(int, checkpoint.name.split(".")))
