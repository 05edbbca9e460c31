"""A store that does not answer is refused, not waited for."""

import os
import threading
from collections.abc import Callable
from typing import Any

from mixer import errors

SECONDS = 30.0


def within(path: object, action: Callable[[], Any]) -> Any:
    """Returns what `action` does with `path`, if it ends in 30 s.

    Args:
      path: for the message.
      action: may hang in the system, as a look at a lost mount does; it is then left to itself.

    Raises:
      BadInput: it does not; names the choices.
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
    """Returns when a folder has answered, also that it does not exist.

    Raises:
      BadInput: it does not answer in time.
    """
    within(folder, lambda: os.path.isdir(folder) and os.listdir(folder))
