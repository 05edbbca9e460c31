"""Whether all processes of a run see one workdir, and not each a folder of its own machine."""

import socket
import time
import uuid
from collections.abc import Sequence

from etils import epath

from mixer import errors, storage
from mixer.hosts import exchange, peers

MEND = "take a --workdir that all hosts share, or gs://BUCKET/FOLDER"
# Seconds until a file that one host has written is seen on all: NFS looks again after so many.
_PATIENCE = 30


def check(workdir: epath.Path) -> None:
    """Has process 0 leave a file there, or in what there is above it, and all look for it.

    Raises:
      BadInput: it cannot be written, or not all see it.
    """
    if peers.count() == 1:
        return
    above, name = exchange.from_first(lambda: _leave(workdir))
    # Each by its own path, which need not be the same: a relative one begins where it was started.
    token = (workdir, *workdir.parents)[above] / name
    try:
        (seen,) = sees([token])
        blind = exchange.gather("" if seen else socket.gethostname())
    finally:
        if peers.index() == 0:
            token.unlink(missing_ok=True)
    where = [f"process {number} ({host})" for number, host in enumerate(blind) if host]
    if where:
        raise errors.BadInput(
            f"--workdir={workdir}: what process 0 writes there is not seen by {', '.join(where)}: "
            f"{MEND}"
        )


def nearest(workdir: epath.Path) -> epath.Path:
    """The workdir, or what there is above it; a URL as it is."""
    while not storage.is_remote(workdir) and not workdir.exists():
        workdir = workdir.parent
    return workdir


def sees(files: Sequence[epath.Path]) -> list[bool]:
    """Which of the files that other hosts have written are there, after some patience."""
    end = time.monotonic() + _PATIENCE
    while not all(seen := [_is_there(file) for file in files]) and time.monotonic() < end:
        time.sleep(0.5)
    return seen


def _is_there(file: epath.Path) -> bool:
    try:
        file.read_bytes()  # a client of a store may have kept a list of what was there
    except Exception:  # a store has errors of its own
        return False
    return True


def _leave(workdir: epath.Path) -> tuple[int, str]:
    """So many folders above the workdir, a file of this name."""
    folder, name = nearest(workdir), f".shared.{uuid.uuid4().hex}"
    try:
        with storage.naming(folder):
            (folder / name).write_bytes(b"seen")
    except storage.Unwritable as error:
        raise errors.BadInput(f"--workdir={workdir}: {error}") from None
    return len(workdir.parts) - len(folder.parts), name
