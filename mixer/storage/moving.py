"""Moves and removes folders, on a disk or in an object store.

In a store each folder has a `seal`: a file whose presence means that the folder is complete.
Objects cannot be renamed: they are copied, then removed, and the seal is copied last and removed
first. So a folder with a seal is complete, whenever the process is killed.
"""

import os
import shutil

from etils import epath
from etils.epath import backend

from mixer.storage.whole import is_remote, naming, sync_folder, temporary_name


def move(source: epath.Path, target: epath.Path, seal: str) -> None:
    """Moves a folder; the parent of `target` is created if it is missing.

    Args:
      target: must not exist.
      seal: the name of the seal file; used in a store only.

    Raises:
      Unwritable: the disk refuses it.
    """
    if is_remote(target):
        _move_objects(os.fspath(source), os.fspath(target), seal)
        return
    with naming(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
        sync_folder(target.parent)
        sync_folder(source.parent)


def remove(folder: epath.Path, seal: str) -> None:
    """Removes a folder; if we are killed or fail, what is left does not look complete.

    Args:
      seal: the name of the seal file; used in a store only.

    Raises:
      OSError: the disk refuses it.
    """
    if is_remote(folder):
        (folder / seal).unlink(missing_ok=True)
        folder.rmtree()
        return
    gone = temporary_name(folder)
    folder.rename(gone)
    shutil.rmtree(gone)


def _move_objects(source: str, target: str, seal: str) -> None:
    store = backend.fsspec_backend.fs(source)
    store.invalidate_cache()
    source, target = store._strip_protocol(source), store._strip_protocol(target)
    found = store.find(source)
    sealing = [name for name in found if name == f"{source}/{seal}"]
    others = [name for name in found if name not in sealing]
    for names in filter(None, (others, sealing)):
        store.copy(names, [target + name.removeprefix(source) for name in names], on_error="raise")
    for names in filter(None, (sealing, others)):
        store.rm(names)
