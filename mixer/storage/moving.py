"""Folders that get another place or are removed, on a disk or in an object store.

In a store a `seal` matters: the name of the file that says that a folder is whole. There is no
renaming there: objects are copied, then removed, the seal being the last copied and the first
removed. So a folder that has it is whole, whenever we are killed.
"""

import os
import shutil

from etils import epath
from etils.epath import backend

from mixer.storage.whole import beside, is_remote, naming, sync_folder


def move(source: epath.Path, target: epath.Path, seal: str) -> None:
    """Moves a folder; the one above `target` is made if it is missing.

    Args:
      target: nothing may be there.
      seal: see above.

    Raises:
      Unwritable: the disk does not take it.
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
    """Removes a folder; what is left if we are killed, or fail, does not look whole.

    Args:
      seal: see above.

    Raises:
      OSError: the disk does not let us.
    """
    if is_remote(folder):
        (folder / seal).unlink(missing_ok=True)
        folder.rmtree()
        return
    gone = beside(folder)
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
