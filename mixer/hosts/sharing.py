"""Checks that all processes see the same workdir, not each a folder on its own machine."""

import socket
import time
import uuid
from collections.abc import Sequence

from etils import epath

from mixer import errors, storage
from mixer.hosts import exchange, peers

FIX = "use a --workdir that all hosts share, or gs://BUCKET/FOLDER"
# Seconds within which all hosts must see a file that one has written: NFS caches that long.
_TIMEOUT = 30


def check(workdir: epath.Path) -> None:
    """Process 0 writes a file to the workdir, or its nearest existing parent; all look for it.

    Raises:
      BadInput: the file cannot be written, or a process does not see it.
    """
    if peers.count() == 1:
        return
    levels_up, name = exchange.from_first(lambda: _write_probe(workdir))
    # Each process uses its own path: relative ones depend on where it was started.
    probe = (workdir, *workdir.parents)[levels_up] / name
    try:
        (seen,) = visible([probe])
        blind = exchange.gather("" if seen else socket.gethostname())
    finally:
        if peers.index() == 0:
            probe.unlink(missing_ok=True)
    where = [f"process {number} ({host})" for number, host in enumerate(blind) if host]
    if where:
        raise errors.BadInput(
            f"--workdir={workdir}: what process 0 writes there is not seen by {', '.join(where)}: "
            f"{FIX}"
        )


def nearest(workdir: epath.Path) -> epath.Path:
    """The workdir or its nearest parent that exists; a URL as it is."""
    while not storage.is_remote(workdir) and not workdir.exists():
        workdir = workdir.parent
    return workdir


def visible(files: Sequence[epath.Path]) -> list[bool]:
    """Whether this host sees each of the files that other hosts have written, within a timeout."""
    end = time.monotonic() + _TIMEOUT
    while not all(seen := [_is_there(file) for file in files]) and time.monotonic() < end:
        time.sleep(0.5)
    return seen


def _is_there(file: epath.Path) -> bool:
    try:
        file.read_bytes()  # unlike exists(), not answered from a cached listing of a bucket
    except Exception:  # object stores have error classes of their own
        return False
    return True


def _write_probe(workdir: epath.Path) -> tuple[int, str]:
    """(how many levels above the workdir, name) of a new file."""
    folder, name = nearest(workdir), f".shared.{uuid.uuid4().hex}"
    try:
        with storage.naming(folder):
            (folder / name).write_bytes(b"seen")
    except storage.Unwritable as error:
        raise errors.BadInput(f"--workdir={workdir}: {error}") from None
    return len(workdir.parts) - len(folder.parts), name
