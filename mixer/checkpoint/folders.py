"""The checkpoint folders of a workdir: which are complete, and how a step is replaced safely.

When a step is saved again, its old checkpoint is kept in `<workdir>/replaced` until the new one is
complete.
"""

import re
from collections.abc import Callable

from etils import epath

from mixer import storage

# The file that Orbax writes last into a checkpoint in an object store.
SEAL = "commit_success.txt"
_REPLACED = re.compile(r"\d+(\.\d+)?")


def replaced(directory: epath.Path) -> epath.Path:
    """The folder that keeps the old checkpoints of steps in `directory` that are saved again."""
    return directory.parent / "replaced"


def is_complete(folder: epath.Path) -> bool:
    """Whether a checkpoint is complete."""
    # In an object store the folder exists before all of its files do.
    return (folder / SEAL if storage.is_remote(folder) else folder).exists()


def newest(directory: epath.Path) -> epath.Path | None:
    """The newest complete checkpoint, even one in `replaced` for the next start to restore."""
    kept = max(_complete(directory, str.isdecimal), key=_sort_key, default=None)
    aside = max(_complete(replaced(directory), _REPLACED.fullmatch), key=_sort_key, default=None)
    if aside and (kept is None or _sort_key(aside)[0] > _sort_key(kept)[0]):
        return aside
    return kept


def step_of(checkpoint: epath.Path | None) -> int:
    """The step of one that `newest` found; 0 for none."""
    return _sort_key(checkpoint)[0] if checkpoint else 0


def put_back(directory: epath.Path) -> None:
    """Restores the old checkpoint of a step that was being saved again but did not finish.

    Raises:
      Unwritable: the disk or the object store refuses the change.
    """
    found = newest(directory)
    if found and found.parent == replaced(directory):
        place = directory / found.name.partition(".")[0]
        with storage.naming(place):
            place.rmtree(missing_ok=True)  # the incomplete replacement
        storage.move(found, place, SEAL)


def set_aside(checkpoint: epath.Path, folder: epath.Path) -> epath.Path:
    """Moves a checkpoint into a folder that may already contain one of the same name.

    Returns:
      Its new path.

    Raises:
      Unwritable: the disk or the object store refuses the change.
    """
    step = checkpoint.name
    names = [step, *(f"{step}.{i}" for i in range(1, 1000))]
    target = next(folder / name for name in names if not (folder / name).exists())
    storage.move(checkpoint, target, SEAL)
    return target


def _complete(folder: epath.Path, is_checkpoint_name: Callable) -> list[epath.Path]:
    entries = folder.iterdir() if folder.exists() else ()
    return [entry for entry in entries if is_checkpoint_name(entry.name) and is_complete(entry)]


def _sort_key(checkpoint: epath.Path) -> tuple[int, ...]:
    """Sorts by step, and several of one step in `replaced` by when they were replaced."""
    return tuple(map(int, checkpoint.name.split(".")))
