"""A time limit for the first access to data: a disk or store that does not answer is an error."""

import os
import threading
from collections.abc import Callable
from typing import Any

from mixer import errors

SECONDS = 30.0


def within(path: object, action: Callable[[], Any]) -> Any:
    """Returns `action()` if it ends within 30 s.

    Args:
      path: what `action` accesses, for the message.
      action: may hang in a system call, as on a lost mount; its thread is then abandoned.

    Raises:
      BadInput: it did not end in time; the message lists what to do.
    """
    outcome = {}

    def act():
        try:
            outcome["value"] = action()
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    thread.join(SECONDS)
    if thread.is_alive():
        raise errors.BadInput(
            f"{path} cannot be opened within {SECONDS:g} s. Is the disk attached, the folder "
            f"mounted, the bucket within reach? Set config.runtime.data_dir to one that is: an "
            f"attached disk, a gcsfuse mount or gs://BUCKET/FOLDER; config.input.stage=FOLDER "
            f"then copies it once (docs/data.md)"
        )
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]


def look(folder: str | os.PathLike) -> None:
    """Lists a folder, or finds that it does not exist, only to see whether it answers.

    Raises:
      BadInput: it does not answer in time.
    """
    within(folder, lambda: os.path.isdir(folder) and os.listdir(folder))
